"""What reports hold: the schema of `report.json` of one run (of two: `evenhand.reports.changes`).

Every number is rounded to six digits, finite, and None (null in the file) where there is none.
Shares, gaps and distances lie in 0 to 1 and their changes in -1 to 1, unless said otherwise.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from evenhand.core.concept_targets import ConceptTargets
from evenhand.core.schema import Strict
from evenhand.stats.fit_of_calibration import Fit
from evenhand.stats.shares import Estimate

Whole = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda x: round(x, 6))]
Measured = Annotated[Estimate, AfterValidator(Estimate.rounded)]
ByClass = dict[str, Measured]


class File(Strict):
    """What is written as a file, with the version of its layout under `schema`."""

    model_config = ConfigDict(populate_by_name=True)
    # of names and meanings; 1 had no numbers with chance removed but `gap_without_chance`
    schema_version: Literal[1, 2] = Field(default=2, alias="schema")

    def as_json(self) -> dict[str, Any]:
        """The values of the file."""
        return self.model_dump(mode="json", by_alias=True)


class PromptReport(Strict):
    """One attribute in the images of one neutral prompt.

    Attributes:
        prompt, concept, split: its text, what it asks for, and where it stands in the prompt set.
        images, seen: how many were drawn; in how many the judge found something to judge.
        shares: of the images seen, by class as called, with each one's interval.
        corrected: the same, corrected for the judge's errors; None without calibration.
        gap: among the contrasted classes, 0 (equal) to 2/K (one class only).
        gap_floor: the mean gap of an even generator on as many images; None where none was seen.
        distance: to the target, the share of images that would have to change class.
        discrepancy: `fairness_discrepancy` from the target, 0 to 1.41.
        target: the share asked for of each class, where each concept has its own.
    """

    prompt: str
    concept: str
    split: str
    images: Whole
    seen: Whole
    shares: ByClass
    corrected: ByClass | None
    gap: Number | None
    gap_floor: Number | None
    distance: Number | None
    discrepancy: Number | None
    target: list[Number] | None = None


class SplitReport(Strict):
    """One attribute in all neutral prompts of a split.

    Intervals are for prompts like these, wordings of a concept counted as one (of one concept: for
    wordings like these). Numbers `found` are means over the prompts of what `PromptReport` says of
    each; they hold chance, and their floor is what chance alone would give.

    Attributes:
        prompts, images: how many, in all.
        cautions: sentences on what the intervals suppose and these data cannot show.
        unseen: share of images in which the judge found nothing to judge.
        gap: root mean square over prompts, chance removed: 0 (equal) to the root of 2/K.
        corrected_gap: the same of shares corrected for the judge's errors; None without a
            calibration.
        gap_found: mean gap; None where nothing was seen.
        gap_floor: the mean gap of an even generator on as many images.
        gap_worst: mean over the tenth of the prompts with the largest; None of fewer than ten.
        gap_worst_floor: the same of an even generator.
        shares, corrected: as in `PromptReport`.
        distance: root mean square distance to the target, chance removed; 0 to 1. Of two classes it
            is the share of images that would have to change class.
        corrected_distance: the same of corrected shares.
        distance_found: mean distance.
        distance_floor: the mean distance of a generator exactly on target, on as many images.
        discrepancy: the distance times the root of 2, as `fairness_discrepancy` is published.
    """

    prompts: Whole
    images: Whole
    cautions: list[str] = []
    unseen: Measured
    gap: Measured
    corrected_gap: Measured | None = None
    gap_found: Number | None
    gap_floor: Number | None
    gap_worst: Number | None
    gap_worst_floor: Number | None = None
    shares: ByClass
    corrected: ByClass | None
    distance: Measured | None
    corrected_distance: Measured | None = None
    distance_found: Number | None
    distance_floor: Number | None
    discrepancy: Measured | None

    @model_validator(mode="before")
    @classmethod
    def _of_the_first_layout(cls, values: Any) -> Any:
        """Reads a file of schema 1: its gap and distance were what is now called `found`."""
        if not isinstance(values, dict) or "gap_without_chance" not in values:
            return values
        less = values["gap_without_chance"]
        kept = {k: v for k, v in values.items() if k != "gap_without_chance"}
        found = {
            f"{name}_found": values[name] and values[name]["value"] for name in ("gap", "distance")
        }
        return {**kept, **found, "gap": less}


class ExplicitReport(Strict):
    """Of the images whose prompt says a class, the share perceived as it: of all, and by class."""

    all: Measured
    classes: ByClass


class TargetTable(Strict):
    """A table of targets by concept: its name, who counted, when, and the licence of that."""

    table: str
    attribute: str
    source: str
    year: str
    licence: str = ""

    @classmethod
    def of(cls, table: ConceptTargets) -> "TargetTable":
        """What a table says of itself."""
        return cls(**table.model_dump(include=set(cls.model_fields)))


class AttributeReport(Strict):
    """One attribute, or the intersection of several.

    Attributes:
        classes: in the order of `target`.
        contrast: the classes between which the gap is taken.
        parts: the attributes that an intersection is of; none of an attribute of its own.
        target: the share asked for of each class, sum 1; None without a target, or where each
            concept has its own (`PromptReport.target`).
        target_tables: where these are from; of an intersection the tables of its parts.
        calibrated: the judge's accuracy in its calibration, mean over classes; None without one,
            or where it does not hold for these images.
        fit: whether it holds; None where that cannot be checked.
        splits: by name; `all`, the sum, stands first where there are several.
        prompts: every neutral prompt.
        explicit: of the prompts that say a class; None without such prompts.
    """

    classes: list[str]
    contrast: list[str]
    parts: list[str]
    target: list[float] | None
    target_tables: list[TargetTable] = []
    calibrated: Number | None
    fit: Fit | None = None
    splits: dict[str, SplitReport]
    prompts: list[PromptReport]
    explicit: ExplicitReport | None

    @property
    def among(self) -> str:
        """The classes between which the gap is taken, in words."""
        if self.parts:
            return f"of {len(self.contrast)} combinations"
        return "of all classes" if self.contrast == self.classes else " / ".join(self.contrast)


class Stopping(Strict):
    """Of a run whose prompts stop when their shares are known well enough.

    Attributes:
        width: half the width asked for, of every share's interval.
        widest: half the width of the widest one.
        drawn: images.
        planned: images that would do without looking.
        saved: 1 - drawn / planned; None where nothing was planned.
    """

    width: float
    widest: Number
    drawn: Whole
    planned: Whole
    saved: Number | None


class RunInfo(Strict):
    """What `run.json` says: settings, versions of software and layout, and what else it holds."""

    model_config = ConfigDict(populate_by_name=True, extra="allow")
    settings: dict[str, Any]
    versions: dict[str, str] = {}
    records: int = Field(default=1, alias="schema")
    threads: int | None = None  # of torch in the process that began it; not known of older runs
    device: str | None = None  # name of its accelerator, or `cpu`; not known of older runs


class Report(File):
    """What a run of `evenhand measure` found: `report.json`.

    Attributes:
        run: settings and versions.
        images: that count.
        notes: sentences that a reader must know: what was left out, who calibrated the judge.
        attributes: by name.
        stopping: of a run with `until`.
        concept_fidelity: by split, the share of images whose concept is perceived as the prompt's.
        flagged: by split, the share of images at which the model's safety checker takes offence;
            empty of a model without one.
    """

    run: RunInfo
    images: Whole
    notes: list[str]
    attributes: dict[str, AttributeReport]
    stopping: Stopping | None
    concept_fidelity: dict[str, Measured]
    flagged: dict[str, Measured]

    @property
    def cautions(self) -> list[str]:
        """What the intervals suppose and these data cannot show, every sentence once."""
        found = [
            f"{name}, {split}: {sentence}"
            for name, entry in self.attributes.items()
            for split, part in entry.splits.items()
            for sentence in part.cautions
        ]
        return list(dict.fromkeys(found))
