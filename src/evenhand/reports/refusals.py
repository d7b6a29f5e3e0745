"""Images that a service refused to draw: how many, and why. No torch."""

import json
import pathlib
from collections import Counter

from evenhand.core.errors import UserError
from evenhand.reports.models import Report


def refusals(folder: pathlib.Path, report: Report) -> list[str]:
    """What a reader should know of images that are missing from a run of a generator.

    Args:
        folder: run directory, whose `skipped.jsonl` names them.
        report: of the run.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "skipped.jsonl"
    if report.run.settings.get("images_from") or not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        reasons = Counter(str(json.loads(line)["why"]) for line in lines if line.strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no list of images left out ({error}); delete it") from error
    if not reasons:
        return []
    (most, _), many = reasons.most_common(1)[0], reasons.total()
    return [
        f"{many} of {many + report.images} images are missing: the service refused them, most "
        f"often so: {most}. They are in no share: the numbers are of what it does draw."
    ]
