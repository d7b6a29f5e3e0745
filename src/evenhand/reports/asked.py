"""What a run asks of its records: attributes, targets, corrections; and what a reader must know."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evenhand.core.attributes import Attribute, Target, attributes_of, intersection
from evenhand.core.errors import UserError
from evenhand.core.records import Record
from evenhand.core.schema import check
from evenhand.reports.evidence import Answers, Evidence, Rule, calls, evidence, probabilities
from evenhand.reports.judges import short_name
from evenhand.reports.tally import answers
from evenhand.reports.wishes import Wish, wish_of
from evenhand.stats.calibration import Calibration
from evenhand.stats.confusion import FEW_LABELLED, Confusion
from evenhand.stats.correction import corrected, corrected_means
from evenhand.stats.fit_of_calibration import Fit, fit_of
from evenhand.stats.means import caution
from evenhand.stats.shares import Estimate, wilson
from evenhand.stats.stopping import at_the_stop, stopping_level

SIGNS = 1.96  # standard errors, from which on a calibration that is not refused is doubted
FEW = 100  # images; with fewer a calibration of another domain is seldom noticed


def notes(settings: dict[str, Any], known: dict[str, "Asked"]) -> list[str]:
    """What a reader should know of a run's prompts and calibration, one sentence each."""
    judge, found = short_name(settings["judge"]["name"]), []
    if settings.get("judge_is_trainer"):
        found.append(
            f"{judge} judges an adapter that was trained against it: its numbers flatter the "
            "adapter."
        )
    if left_out := settings.get("left_out"):
        found.append(
            f"{len(left_out)} explicit prompts were left out, such as {left_out[0]!r}: {judge} "
            "does not know the class that they say."
        )
    if shared := settings.get("shared"):
        found.append(
            f"{len(shared)} prompts stand in several of the prompt sets, such as {shared[0]!r}: "
            "their images count in the first of these alone."
        )
    if cut := settings.get("cut"):
        found.append(
            f"{len(cut)} prompts are longer than the model's text encoder reads, such as "
            f"{cut[0]!r}: the model never saw their ends. Shorten them."
        )
    if settings.get("calibration"):
        return [*found, *_of_calibration(settings, known)]
    why = (
        "--calibration none was asked for"
        if settings.get("calibration_left_out")
        else "it has no calibration (evenhand calibrate writes one, --calibration names it)"
    )
    return [*found, f"Shares are raw, not corrected for the errors of {judge}: {why}."]


def _of_calibration(settings: dict[str, Any], known: dict[str, "Asked"]) -> list[str]:
    """Which attributes are corrected, by what; and why others are not."""
    calibration = Calibration(**settings["calibration"])
    judge, found = short_name(settings["judge"]["name"]), []
    for name, attribute in attributes_of(settings["attributes"]).items():
        asked, origin = known[name], calibration.origin(name)
        of = f"calibration of {origin.date} on {origin.domain}"
        fit = asked.fit
        try:
            calibration.confusion(attribute)
        except UserError as error:
            found.append(f"{name} is not corrected: {error}.")
            continue
        if fit and not fit.holds:
            found.append(
                f"{name} is not corrected: on these images {judge} answers otherwise than in its "
                f"{of} (mean doubt {fit.doubt:.3f}, {fit.expected:.3f} would fit, z = "
                f"{fit.z:.1f}), so how often it errs here is not known; calibrate it on labelled "
                "images of this kind (evenhand calibrate)."
            )
            continue
        means = "mean probabilities" if calibration.probabilities.get(name) else "calls"
        checked = "whether it answers alike on these images cannot be checked"
        if fit:
            few = ", few to notice a difference" if fit.n < FEW else ""
            signs = "nothing shows" if fit.z < SIGNS else "there are signs, but no proof,"
            checked = (
                f"{signs} that it answers otherwise on these images (mean doubt {fit.doubt:.3f}, "
                f"{fit.expected:.3f} expected; {fit.n} images{few})"
            )
        found.append(f"{name} is corrected by {judge}'s {means} and its {of}; {checked}.")
        if (not fit or fit.n < FEW) and settings.get("domain") != origin.domain:
            found.append(
                f"The images judged are of another domain ({settings.get('domain')}): the "
                "correction holds as far as the classifier errs alike on both."
            )
    return found


def unheard(records: list[Record], known: dict[str, "Asked"]) -> list[str]:
    """What a reader should know of the records: which numbers there are not, and why."""
    if not records:
        return ["No image was judged: there is nothing to report."]
    neutral = [r.concept for r in records if not r.states]
    found = [
        note
        for a in known.values()
        if a.wish and not a.attribute.parts
        for note in a.wish.notes(neutral)
    ]
    if not neutral:
        found.append(
            "Every prompt says a class: shares, gaps and distances are of prompts that say none, "
            "so there are none here."
        )
    several = sum((r.faces or 0) > 1 for r in records)
    if several:
        found.append(
            f"{several} of {len(records)} images hold several faces; in each the largest was "
            "judged, the others are in no share."
        )
    said = Counter((a, c) for r in records for a, c in r.states.items())
    for (name, cls), images in said.items():
        asked = known.get(name)
        if asked is None or cls not in asked.attribute.classes:
            why = f"known are {', '.join(asked.attribute.classes)}" if asked else "not measured"
            found.append(
                f"{images} images of prompts that say {name} {cls!r} are in no share and no gap, "
                f"and whether they keep it is not counted: {why}."
            )
    return found


@dataclass(frozen=True)
class Asked:
    """One attribute of a report: the shares wished for, and what is needed for intervals.

    Attributes:
        attribute: which.
        wish: the shares asked for; None where there is no target of it.
        confusion: how the judge errs; None where that is not known, or not known of these images.
        until: how a run that looks while it draws decides when to stop.
        fit: whether the calibration holds for the images; None where that cannot be checked.
    """

    attribute: Attribute
    wish: Wish | None
    confusion: Confusion | None
    until: dict[str, Any] | None
    fit: Fit | None = None
    rule: Rule | None = None

    @property
    def accuracy(self) -> float | None:
        """Of the judge in its calibration, mean over classes."""
        return None if self.confusion is None else self.confusion.accuracy

    def share(self, k: int, n: int) -> Estimate:
        """The share of k of one prompt's n images."""
        return at_the_stop(k, n, **self.until) if self.until else wilson(k, n)

    @property
    def answers(self) -> Answers:
        """What is corrected of the images of a prompt: the judge's probabilities, or its calls."""
        soft = self.confusion is not None and self.confusion.means is not None
        return probabilities(self.attribute) if soft else calls(self.attribute)

    def corrected(self, rows: list[Record]) -> dict[str, Estimate] | None:
        """The corrected shares of the images of one prompt, or their means over several.

        None without a calibration, or where nothing was seen.
        """
        if self.confusion is None:
            return None
        if len({r.prompt for r in rows}) > 1:
            known = evidence(rows, self.answers, self.rule)
            found = corrected_means(known.table, known.images, self.confusion)
        else:
            known = evidence(rows, self.answers)  # the level inside makes up for the early stop
            level = stopping_level(**self.until) if self.until else 0.95
            found = corrected(known.table.sum(0) * known.images, self.confusion, level)
        return dict(zip(self.attribute.classes, found, strict=True))

    def cautions(self, seen: Evidence) -> list[str]:
        """What a reader of the intervals must know: few concepts, few labelled images."""
        found = [caution(seen.table, self.attribute.classes, seen.rows_are)]
        if self.confusion is not None and (least := self.confusion.seen.min()) < FEW_LABELLED:
            cls = self.attribute.classes[int(self.confusion.seen.argmin())]
            found.append(
                f"Few labelled images ({least:.0f} of {cls}): intervals of corrected numbers may "
                f"be too narrow; calibrate on {FEW_LABELLED} or more of each class."
            )
        return [sentence for sentence in found if sentence]


def asked_of(settings: dict[str, Any], *runs: list[Record]) -> dict[str, Asked]:
    """The attributes that a run reports, with their intersection where it was asked for.

    Args:
        settings: of the run.
        runs: the records of each run that is to be corrected: an attribute is, only where its
            calibration holds for the images of every one of them.
    """
    known = attributes_of(settings["attributes"])
    joint = intersection(list(known.values())) if settings.get("joint") else None
    known = known if joint is None else {**known, joint.name: joint}
    shares, counted = settings.get("target"), settings.get("calibration")
    target = check(Target, {"shares": shares}, where="the run's target") if shares else None
    calibration = check(Calibration, counted, where="the run's calibration") if counted else None
    found, until = {}, settings.get("until")
    rule = Rule([a for a in known.values() if not a.parts], until) if until else None
    for name, attribute in known.items():
        confusion = _confusion(attribute, calibration)
        fit = _worst_fit(attribute, confusion, runs)
        found[name] = Asked(
            attribute,
            wish_of(target, attribute, known),
            confusion if fit is None or fit.holds else None,
            until,
            fit,
            rule,
        )
    return found


def _confusion(attribute: Attribute, calibration: Calibration | None) -> Confusion | None:
    """What a calibration knows of an attribute; `notes` says why there is nothing."""
    try:
        return calibration.confusion(attribute) if calibration else None
    except UserError:
        return None


def _worst_fit(
    attribute: Attribute, confusion: Confusion | None, runs: Iterable[list[Record]]
) -> Fit | None:
    """How well a calibration fits the images of prompts that say no class, of the worst run."""
    if confusion is None:
        return None
    fits = [
        fit_of(answers([r for r in records if not r.states], attribute), confusion)
        for records in runs
    ]
    return max((fit for fit in fits if fit), key=lambda fit: (not fit.holds, fit.z), default=None)


def rule_of(known: dict[str, Asked]) -> Rule | None:
    """When the run's prompts stop; None where they do not."""
    return next((asked.rule for asked in known.values()), None)
