"""What a reader of a set must know: cells that are not full, and what to do; what labels tell."""

from evenhand.generate.plan import SetPlan
from evenhand.generate.report import PlaceReport, SetReport

SURE = 0.01  # p below which contexts are said to tell cells


def notes_of(plan: SetPlan, report: SetReport) -> list[str]:
    """Sentences for the card, the page and the command line."""
    notes = [_short(plan, report, place) for place in report.short]
    if report.settings.get("judge_is_trainer"):
        notes.append(
            f"{plan.judge.name} trained an adapter that drew images here, so it accepts more of "
            "them than another classifier would, and more labels may be wrong"
        )
    if report.wrong is None:
        notes.append(
            f"No calibration of {plan.judge.name} is known, so nothing is said of how many labels "
            "are wrong: `evenhand calibrate` makes one from labelled images"
        )
    if report.misfits:
        notes.append(
            f"{plan.judge.name} answers otherwise about {', '.join(report.misfits)} here than on "
            "the images of its calibration, so more labels may be wrong than it says: calibrate it "
            "on images of this kind (`evenhand calibrate`)"
        )
    if (found := report.after_filling) and found.p < SURE:
        notes.append(
            f"The {report.by} of an image tells something of its cell (chi-square "
            f"{found.statistic:g}, {found.freedom} degrees of freedom, p {found.p:.2g}, Cramer's V "
            f"{found.v:.2f}): some contexts filled cells more easily than others. Make them groups "
            "(contexts.group), "
            "which have quotas of their own"
        )
    told = [x for x in report.shortcuts if x.tells]
    for label in dict.fromkeys(x.label for x in told):
        best = max((x for x in told if x.label == label), key=lambda x: x.accuracy.value or 0.0)
        notes.append(
            f"{label} can be told from {_facts(best.told_by)} in {best.accuracy} of the images "
            f"(always naming the most frequent: {best.chance:.2f}); a classifier may learn that "
            "instead of what is shown"
        )
    return notes


def _facts(told_by: str) -> str:
    return (
        "brightness, sharpness and file size"
        if told_by == "all"
        else {"bytes": "file size"}.get(told_by, told_by)
    )


def _short(plan: SetPlan, report: SetReport, place: PlaceReport) -> str:
    """Which place is not full, how often images of it come, and what to do."""
    where = "/".join(place.cell.values()) + (f" of {place.group!r}" if place.group else "")
    left = place.quota - place.images
    text = f"{where}: {place.images} of {place.quota} images"
    if plan.model is None:
        return f"{text}; the folder holds no more of it"
    text += f"; of {place.drawn} drawn {place.acceptance} were of it. "
    rate = place.acceptance.value or 0.0
    if rate > 0.02:
        more = report.drawn + round(1.2 * left / rate)
        return f"{text}The budget is spent: budget={more} would probably do"
    if plan.config.cells_by == "neutral":
        return f"{text}Say the class in words (cells_by=words), or name an adapter that draws it"
    return (
        f"{text}The model does not draw it as asked: word it otherwise (wording), name an adapter "
        f"that draws it, or take less sure images (filter.confidence, now "
        f"{plan.config.filter.confidence:g})"
    )
