"""What a run asks of its records: attributes, targets, corrections; and what a reader must know."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from evenhand.core.attributes import Attribute, Target, attributes_of, intersection
from evenhand.core.errors import UserError
from evenhand.core.records import Record
from evenhand.core.schema import check
from evenhand.reports.evidence import Answers, Evidence, Rule, calls, evidence, probabilities
from evenhand.stats.calibration import Calibration
from evenhand.stats.confusion import FEW_LABELLED, Confusion
from evenhand.stats.correction import corrected, corrected_means
from evenhand.stats.means import caution
from evenhand.stats.shares import Estimate, wilson
from evenhand.stats.stopping import at_the_stop, stopping_level


def notes(settings: dict[str, Any]) -> list[str]:
    """What a reader should know of a run's prompts and calibration, one sentence each."""
    calibration, found = settings.get("calibration"), []
    if settings.get("judge_is_trainer"):
        found.append(
            f"{settings['judge']['name']} judges an adapter that was trained against it: its "
            "numbers flatter the adapter."
        )
    if left_out := settings.get("left_out"):
        found.append(
            f"{len(left_out)} explicit prompts were left out, such as {left_out[0]!r}: "
            f"{settings['judge']['name']} does "
            "not know the class that they say."
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
    if not calibration:
        return [
            *found,
            f"Shares are raw, not corrected for the errors of {settings['judge']['name']}: it "
            "has no calibration "
            "(evenhand calibrate writes one, --calibration names it).",
        ]
    means = "the judge's mean probabilities and " if calibration.get("probabilities") else ""
    found.append(
        f"Corrected shares use {means}the calibration of {calibration['date']} on "
        f"{calibration['domain']}."
    )
    if settings.get("domain") != calibration["domain"]:
        found.append(
            f"The images judged are of another domain ({settings.get('domain')}): the correction "
            "holds as far as the "
            "classifier errs alike on both."
        )
    for name, attribute in attributes_of(settings["attributes"]).items():
        try:
            Calibration(**calibration).confusion(attribute)
        except UserError as error:
            found.append(f"{name} is not corrected: {error}.")
    return found


def unheard(records: list[Record], known: dict[str, "Asked"]) -> list[str]:
    """What a reader should know of the records: which numbers there are not, and why."""
    if not records:
        return ["No image was judged: there is nothing to report."]
    found = []
    if all(r.states for r in records):
        found.append(
            "Every prompt says a class: shares, gaps and distances are of prompts that say none, "
            "so there are none here."
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
    """One attribute of a report: the shares wished for, and what is needed for intervals."""

    attribute: Attribute
    wished: list[float] | None
    confusion: Confusion | None
    until: dict[str, Any] | None
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
        answers = evidence(rows, self.answers, self.rule)
        if len({r.prompt for r in rows}) == 1:
            answers = evidence(rows, self.answers)  # the level inside makes up for the early stop
            level = stopping_level(**self.until) if self.until else 0.95
            sums = answers.table.sum(0) * answers.images
            found = corrected(sums, self.confusion, level)
        else:
            found = corrected_means(answers.table, answers.images, self.confusion)
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


def asked_of(settings: dict[str, Any]) -> dict[str, Asked]:
    """The attributes that a run reports, with their intersection where it was asked for."""
    known = attributes_of(settings["attributes"])
    joint = intersection(list(known.values())) if settings.get("joint") else None
    known = known if joint is None else {**known, joint.name: joint}
    shares, counted = settings.get("target"), settings.get("calibration")
    target = check(Target, {"shares": shares}, where="the run's target") if shares else None
    calibration = check(Calibration, counted, where="the run's calibration") if counted else None

    def confusion(attribute: Attribute) -> Confusion | None:
        try:
            return calibration.confusion(attribute) if calibration else None
        except UserError:  # `notes` says why
            return None

    until = settings.get("until")
    rule = Rule([a for a in known.values() if not a.parts], until) if until else None
    return {
        name: Asked(a, target.marginal(a, known) if target else None, confusion(a), until, rule)
        for name, a in known.items()
    }


def rule_of(known: dict[str, Asked]) -> Rule | None:
    """When the run's prompts stop; None where they do not."""
    return next((asked.rule for asked in known.values()), None)
