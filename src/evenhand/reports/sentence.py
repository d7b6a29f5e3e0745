"""What was found, in sentences for a reader without statistics. No torch."""

from evenhand.reports.changes import Agreement, Change, SplitChange
from evenhand.reports.judges import short_name
from evenhand.reports.models import AttributeReport, Report, SplitReport
from evenhand.stats.shares import Estimate

MANY = 4  # classes from which on only the most and the least frequent one are named


def in_words(runs: list[Report], change: Change | None = None) -> list[str]:
    """Sentences for each attribute, of one report or of two (before, after), and one on brackets.

    They speak of all prompts together, and of the corrected shares where every run has them. Of two
    judges of the same images they say how far these agree.
    """
    if change and change.agreement:
        return [_of_judges(name, found) for name, found in change.agreement.items()]
    found = []
    for name, entry in runs[-1].attributes.items():
        if entry.splits and not entry.parts:
            found += _of_attribute(runs, change, name, next(iter(entry.splits)))
    several = any(s.prompts > 1 for a in runs[-1].attributes.values() for s in a.splits.values())
    if any("[" in sentence for sentence in found):
        like = ", were it asked of many prompts like these" if several else ""
        found.append(f"In brackets: the range in which the true number lies{like} (95 %).")
    return found


def _of_judges(name: str, found: Agreement) -> str:
    first, second = found.judges
    if found.same.value is None:
        return f"There is no picture in which both {first} and {second} perceived {name}."
    return (
        f"Of every 100 pictures in which both perceived {name}, {first} and {second} say the same "
        f"of {_of_hundred(found.same)}."
    )


def _of_attribute(runs: list[Report], change: Change | None, name: str, split: str) -> list[str]:
    last = runs[-1].attributes[name]
    found = [r.attributes[name].splits[split] for r in runs]
    judge = short_name(runs[-1].run.settings["judge"]["name"])
    where = _where(runs[-1], found[-1])
    if any(e.value is None for f in found for e in f.shares.values()):
        return [f"{judge} found nothing to judge in the pictures {where}, so {name} is not known."]
    corrected = [f.corrected for f in found if f.corrected]
    shares = corrected if len(corrected) == len(found) else [f.shares for f in found]
    parts = []
    for c in _told(last, shares[-1]):
        numbers = [f"{_of_hundred(x[c])}" for x in shares]
        parts.append(
            f"{numbers[0]} as {c} before, {numbers[1]} after" if change else f"{numbers[0]} as {c}"
        )
    told = "; ".join(parts) if change else _joined(parts)
    sentences = [f"Of every 100 pictures {where}, {judge} perceived {told}."]
    if shares is corrected:
        sentences.append("These numbers are corrected for how often the judge errs.")
    if change:
        delta = change.attributes[name].splits[split]
        return [*sentences, _of_change(last, delta, found[-1], shares is corrected)]
    gap = found[0].corrected_gap if shares is corrected else None
    return [*sentences, _against_chance(last, found[0], gap or found[0].gap)]


def _where(report: Report, found: SplitReport) -> str:
    if report.run.settings.get("images_from") and found.prompts == 1:
        return "in this folder"
    return f"drawn for {'this prompt' if found.prompts == 1 else f'these {found.prompts} prompts'}"


def _told(entry: AttributeReport, shares: dict[str, Estimate]) -> list[str]:
    """The classes of the sentence: all of a few; of many the most and the least frequent one."""
    ordered = sorted(entry.classes, key=lambda c: -(shares[c].value or 0.0))
    return entry.classes if len(ordered) <= MANY else [ordered[0], ordered[-1]]


def _of_hundred(share: Estimate) -> str:
    """`36 [9 to 75]`, of 100 pictures."""
    value, low, high = (
        None if x is None else round(100 * x) for x in (share.value, share.low, share.high)
    )
    return f"{value}" if low is None or high is None else f"{value} [{low} to {high}]"


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _apart(entry: AttributeReport) -> str:
    """Whose shares the gap compares, in words."""
    if len(entry.contrast) == 2:
        return f"the shares of {entry.contrast[0]} and {entry.contrast[1]}"
    return "the shares of any two classes"


def _against_chance(entry: AttributeReport, found: SplitReport, gap: Estimate) -> str:
    """Whether chance alone can make a gap as large as the one found."""
    if gap.value is None:
        return "How far the classes lie apart cannot be told: no prompt has two pictures of them."
    mean = "Over the prompts, " if found.prompts > 1 else ""
    told = f"{mean}{_apart(entry)} lie {_of_hundred(gap)} points apart, what chance adds taken off"
    end = "so chance alone does not explain it" if gap.low else "so there may be no gap at all"
    return f"{told[0].upper()}{told[1:]}, {end}."


def _of_change(
    entry: AttributeReport, delta: SplitChange, after: SplitReport, corrected: bool
) -> str:
    """Whether the second run is nearer to the target, or to equality where there is none."""
    distance = delta.corrected_distance if corrected else delta.distance
    moved = distance or (delta.corrected_gap if corrected else None) or delta.gap
    of = "this prompt" if after.prompts == 1 else f"these {after.prompts} prompts"
    if moved.low is None or moved.high is None or moved.low <= 0 <= moved.high:
        more = "images" if after.prompts == 1 else "prompts"
        return f"That anything changed cannot be told from {of}: more {more} are needed."
    low, high = sorted((abs(moved.low), abs(moved.high)))
    size = Estimate(abs(moved.value or 0.0), low, high, moved.n)
    if distance:
        way = "nearer to" if moved.high < 0 else "further from"
        return (
            f"The shares came {_of_hundred(size)} points {way} the target; chance alone does not "
            "explain that."
        )
    way = "nearer to each other" if moved.high < 0 else "further from each other"
    told = f"{_apart(entry)} came {_of_hundred(size)} points {way}"
    return f"{told[0].upper()}{told[1:]}; chance alone does not explain that."
