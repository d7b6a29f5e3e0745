"""What both kinds of measurement share: who judges, and a record for each image judged."""

from typing import TYPE_CHECKING, Any

from evenhand.core.attributes import Target
from evenhand.core.errors import UserError, unknown
from evenhand.recipes.judge import find_judge
from evenhand.recipes.measure import Measure
from evenhand.stats.calibration import read_calibration

if TYPE_CHECKING:
    from evenhand.judges.base import Judge


def judging(config: Measure, judge_name: str, domain: str) -> dict[str, Any]:
    """The settings of a run that say what is perceived, by whom, and how that judge errs."""
    judge = find_judge(judge_name)
    names = config.attributes or list(judge.known)
    for name in names:
        if name not in judge.known:
            raise unknown("attribute", name, judge.known, where=f"judge {judge_name!r}")
    if config.target:
        Target(shares=config.target).check(judge.known)
    file = config.calibration or judge.beside("calibration.json")
    calibration = read_calibration(file) if file else None
    if calibration:
        calibration = calibration.of(names)
    if config.calibration and calibration:
        for name in names:
            calibration.confusion(judge.known[name])  # what cannot be corrected is refused now
    return {
        "judge": {"name": judge_name},
        "concept": judge.concept,
        "domain": domain,
        "attributes": {name: judge.attributes[name] for name in names},
        "calibration": calibration.model_dump(mode="json") if calibration else None,
        **({"joint": True} if config.joint and len(names) > 1 else {}),
        "target": {a: config.target[a] for a in names if a in config.target},
    }


def sure(settings: dict[str, Any], judge: "Judge") -> dict[str, Any]:
    """The settings with the judge's digest.

    Raises:
        UserError: the calibration is of another classifier.
    """
    settings["judge"]["digest"] = judge.digest
    calibration = settings["calibration"]
    if calibration and calibration["digest"] != judge.digest:
        raise UserError(
            "the calibration is of classifier "
            f"{calibration['classifier']}@{calibration['digest']}, the judge is "
            f"{judge.name}@{judge.digest}: calibrate it anew with `evenhand calibrate`"
        )
    return settings
