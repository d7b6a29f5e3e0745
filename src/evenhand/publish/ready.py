"""Whether an adapter may be pushed: verified, and as its commands wrote it."""

import pathlib

from evenhand.core.adapter_sets import find_set, is_set
from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError


def refuse_unready(folder: pathlib.Path) -> None:
    """Refuses an adapter, or a set, whose numbers nobody should rely on; anything else passes.

    Raises:
        UserError: it is not verified, its verification failed or was of other weights, or a number
            of its cards is another than its report's.
    """
    if is_set(folder):
        from evenhand.publish.sets import unready

        _refuse(folder, unready(find_set(folder.resolve())))
    if not (folder / "adapter.json").is_file():
        return
    from evenhand.reports.card import edited  # takes a second

    adapter = find_adapter(str(folder.resolve()))
    verified = adapter.described.get("verified")
    if not verified:
        reasons = ["it is not verified"]
    elif verified.get("digest") != adapter.digest:
        reasons = [f"it was verified with other weights (digest {verified.get('digest')})"]
    elif verified.get("passed") is not True:
        reasons = [f"its verification of {verified.get('date')} failed"]
    else:
        reasons = edited(adapter)
    _refuse(folder, reasons)


def _refuse(folder: pathlib.Path, reasons: list[str]) -> None:
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise UserError(
            f"{folder}: {reasons[0]}{more}; `evenhand verify {folder}` measures it and writes its "
            "cards anew, --force pushes it as it is"
        )
