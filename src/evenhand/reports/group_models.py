"""What is reported of the images that adapters of a subgroup draw: the schema of its file.

KID is unbounded and may lie below 0, density and `ratio` are at least 0; shares lie in 0 to 1.
"""

from evenhand.core.schema import Strict
from evenhand.reports.models import File, Measured, Number, Whole


class Cost(Strict):
    """What an adapter takes.

    Attributes:
        seconds: of its training steps; None where its log does not say.
        bytes: of its files.
    """

    seconds: Number | None
    bytes: Whole


class GroupReport(File):
    """One group: images drawn by its adapters, held against its own images.

    Attributes:
        group: what its images show, by attribute.
        judge: who perceived them; None without one.
        k: the neighbour that bounds what is inside of an image.
        drawn, held_out, trained_on: numbers of images, of each seed.
        coverage_if_alike: what coverage images of the held-out images' kind would have.
        seeds: of the trainings, one row of `per_seed` each.
        numbers: means over the seeds; intervals for other seeds and other images alike.
        per_seed: intervals for other images of that training.
        adapters: by seed and name.
    """

    group: dict[str, str]
    judge: str | None
    k: Whole
    drawn: Whole
    held_out: Whole
    trained_on: Whole
    coverage_if_alike: Number
    seeds: list[int]
    numbers: dict[str, Measured]
    per_seed: list[dict[str, Measured]]
    adapters: dict[int, dict[str, Cost]] = {}

    def lines(self) -> list[str]:
        """The numbers as rows of a table in Markdown."""
        return ["| | value |", "|---|---|"] + [f"| {k} | {v} |" for k, v in self.numbers.items()]
