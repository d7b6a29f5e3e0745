"""Is a set of adapters as it was when it was made? Every member, by diffusers alone."""

import datetime
import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.core.adapter_sets import FILE, AdapterSet, Checked, Member, find_set, write_set
from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError
from evenhand.core.references import FOLDER, References, read_references
from evenhand.publish.file_checks import against, read_answer, refuse_damaged, request_of, stock
from evenhand.recipes.model import Model, Settings, load_model
from evenhand.reports.set_card import README, set_card, write_set_card


@dataclass(frozen=True)
class _Asked:
    """What a member is asked for, by which file its reference images lie, and where."""

    request: dict[str, Any]
    adapter: Adapter
    references: References


def verify_set(
    folder: pathlib.Path, *, model: str | None = None, runs: pathlib.Path = pathlib.Path("runs")
) -> Checked:
    """Loads every member in a fresh process by diffusers alone, and lets it draw what it drew.

    What was found stands in `set.json` and in the card then.

    Args:
        folder: of the set.
        model: base model; the one that it was trained on when None.
        runs: where images go.

    Raises:
        UserError: a file is damaged, has no reference images, or the model's loader does not take
            it.
    """
    found = find_set(folder)
    base = load_model(model or str(found.described.settings.get("model")))
    where = runs / f"set-{folder.resolve().name}"
    asked = {m.name: _asked(m, base, where / m.name) for m in found.members}
    answers = stock([x.request for x in asked.values()])
    said, passed = {}, True
    for (name, x), answer in zip(asked.items(), answers, strict=True):
        if answer["error"]:
            raise UserError(
                f"{x.adapter.folder}: plain diffusers {answer['versions']['diffusers']} cannot use "
                f"it with {base.name!r}: {answer['error']['kind']}: {answer['error']['message']}"
            )
        told, wrong = read_answer(answer)
        more, less = against(x.references, x.adapter, pathlib.Path(x.request["out"]))
        said[name] = [*told, *more, *wrong, *less]
        passed = passed and not wrong and not less
    checked = Checked(
        date=datetime.date.today().isoformat(), passed=passed, digests=found.digests, said=said
    )
    write_set(folder, found.described.model_copy(update={"verified": checked}))
    write_set_card(folder)
    return checked


def _asked(member: Member, model: Model, out: pathlib.Path) -> _Asked:
    """What is asked of a member: the images that lie beside what is its own."""
    parts = [adapter for adapter, _ in member.mix.parts]
    own = next((a for a in parts if not a.is_lora), parts[0])
    for adapter in parts:
        refuse_damaged(adapter)
    references = read_references(own.folder)
    if references is None:
        raise UserError(f"{own.folder}: has no reference images; train the set again")
    rows = [(x.prompt, x.seed) for x in references.images]
    lora = next((a for a in parts if a.is_lora), own)
    request = request_of(
        lora, model, Settings(**references.settings), rows, out, dtype=references.dtype
    )
    request["beside"] = [
        {"weights": str(a.weights.resolve()), "token": a.described["token"]}
        for a in parts
        if a is not lora
    ]
    return _Asked(request, own, references)


def files_of_set(folder: pathlib.Path) -> list[pathlib.Path]:
    """What of a set is pushed. Raises UserError where an adapter is damaged, or it has no card."""
    found = find_set(folder.resolve())
    if not (folder / README).is_file():
        raise UserError(f"{folder}: the set has no card ({README}); `evenhand verify {folder}`")
    places = [folder / name for name in found.digests]
    inside = [p for place in places for p in (*place.iterdir(), *place.glob(f"{FOLDER}/*"))]
    return [folder / FILE, folder / README, *(p for p in inside if p.name[0] != ".")]


def unready(found: AdapterSet) -> list[str]:
    """Why nobody should rely on a set, in one phrase each."""
    verified = found.described.verified
    if not verified:
        return ["it is not verified"]
    if verified.digests != found.digests:
        return ["it was verified with other weights"]
    if not verified.passed:
        return [f"its verification of {verified.date} failed"]
    card = found.folder / README
    if not card.is_file() or card.read_text(encoding="utf-8") != set_card(found):
        return [f"its card ({README}) was changed"]
    return []
