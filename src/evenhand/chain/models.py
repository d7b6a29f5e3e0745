"""What a chain found, stage by stage: the schema of `chain.json`."""

import pathlib
from typing import Any, Literal

from pydantic import ConfigDict, Field

from evenhand.core.errors import UserError
from evenhand.core.schema import Strict, check, read_json
from evenhand.reports.models import Measured, Number, Whole


class StageLine(Strict):
    """A stage, and what it cost.

    Attributes:
        name, verb, recipe: as the chain has them.
        changed: settings of the recipe that the chain changes.
        needs: the stages that it builds on.
        seconds: that it took, in all its runs.
        memory: peak of the process until its end, bytes.
        made: digest of what it made.
        page: its own, below the chain's folder; None where it has none.
    """

    name: str
    verb: str
    recipe: str
    changed: list[str]
    needs: list[str]
    seconds: Number
    memory: Whole
    made: str
    page: str | None


class Line(Strict):
    """A number of a measurement; `before` and `change` where it is held against another."""

    subject: str
    what: str
    before: Measured | Number | None = None
    found: Measured | Number | None
    change: Measured | None = None
    target: Number | None = None


class Measurement(Strict):
    """A measurement.

    Attributes:
        stage: its name.
        adapter: the stage that trained the adapter; None of the model as it is.
        against: the stage that it is held against: the first of the same settings without adapter.
        images: drawn, or compared.
        words: what was found, in sentences.
        gap: of the first attribute, corrected for the judge's errors where it can be; None where no
            prompt leaves the class open.
        lines: the headline numbers.
        page: that holds them.
    """

    stage: str
    adapter: str | None
    against: str | None
    images: Whole
    words: list[str]
    gap: Line | None
    lines: list[Line]
    page: str


class ImageSet(Strict):
    """A set.

    Attributes:
        stage: its name.
        adapters: the stages that trained its adapters; none where words alone ask for the cells.
        images, wished, drawn: taken, asked for, and drawn for that.
        accepted: of the images drawn, those that the filter let through as one of the cells.
        hardest: the cell that is accepted least often, and how often.
        wrong: expected share of wrong labels; None without a calibration of the judge.
        cells: images of each.
        rejected: images not taken, by reason.
        notes: what a reader must know.
        digest: of its images and labels.
    """

    stage: str
    adapters: list[str]
    images: Whole
    wished: Whole
    drawn: Whole
    accepted: Measured
    hardest: str
    hardest_accepted: Measured
    wrong: Measured | None
    cells: dict[str, Whole]
    rejected: dict[str, Whole]
    notes: list[str]
    digest: str


class Arm(Strict):
    """A classifier's arm.

    Attributes:
        name: of the variant.
        set: the stage that made its synthetic images; None of an arm of real ones alone.
        real, synthetic: images that it was trained on.
        worst, group: accuracy of the worst group, and that group's name (of the means).
        balanced: mean of the groups' accuracies.
        worst_change: of the worst group, less the first arm's, on the same images and seeds.
    """

    name: str
    set: str | None
    real: Whole
    synthetic: Whole
    worst: Measured
    group: str
    balanced: Measured
    worst_change: Measured | None


class Classifiers(Strict):
    """The arms of a stage; the first is the one that the others are held against."""

    stage: str
    data: str
    seeds: list[int]
    test: dict[str, Whole]
    train: dict[str, Whole]
    arms: list[Arm]
    notes: list[str]


class Route(Strict):
    """A way to balanced images, from training to classifiers.

    Attributes:
        name: the adapters' stages; `words` where prompts say the class.
        gap: of the first measurement with its adapter; None of words.
        set: the set that it gives; None where the chain makes none of it.
        arms: of classifiers, trained with that set.
        seconds: of all stages that it builds on, and of the measurements with its adapter.
    """

    name: str
    gap: Line | None
    set: ImageSet | None
    arms: list[Arm]
    seconds: Number


class ChainReport(Strict):
    """`chain.json`."""

    model_config = ConfigDict(populate_by_name=True)
    schema_version: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["chain"] = "chain"
    name: str
    stages: list[StageLine]
    measurements: list[Measurement]
    sets: list[ImageSet]
    classifiers: list[Classifiers]
    routes: list[Route]
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The values of the file."""
        return self.model_dump(mode="json", by_alias=True)

    def numbers(self) -> dict[str, Any]:
        """All that does not depend on the machine, or on how often the chain was cut."""
        values = self.model_dump(mode="json", exclude={"versions"})
        for line in [*values["stages"], *values["routes"]]:
            for cost in ("seconds", "memory"):
                line.pop(cost, None)
        return values


def read_chain(path: pathlib.Path) -> ChainReport:
    """The report of a finished chain.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: is not there: no chain was finished in this folder")
    return check(ChainReport, read_json(path, what="a chain's report"), where=str(path))
