"""What is known of a set, as `dataset.json` holds it."""

import pathlib
from typing import Any

from pydantic import BaseModel, ConfigDict

from evenhand.core.errors import UserError
from evenhand.core.schema import check, read_json, versioned
from evenhand.stats.dependence import Dependence
from evenhand.stats.shares import Estimate

SCHEMA = 1  # of dataset.json
FILE = "dataset.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PlaceReport(_Model):
    """A cell in a group of contexts.

    Attributes:
        cell: `{attribute: class}`.
        group: of contexts.
        quota: images wished for.
        images: taken.
        drawn: images of the streams that could give it.
        fits: those of them that the filter let through as this cell, needed or not.
        acceptance: fits over drawn.
    """

    cell: dict[str, str]
    group: str
    quota: int
    images: int
    drawn: int
    fits: int
    acceptance: Estimate


class NoiseReport(_Model):
    """How many labels of a cell are expected to be wrong, by the judge's calibration.

    Attributes:
        cell: `{attribute: class}`.
        images: taken.
        before: of the images as drawn, had each the label that it was asked for (or, where nothing
            was asked for, that the judge gives it).
        after: of the images taken.
    """

    cell: dict[str, str]
    images: int
    before: Estimate
    after: Estimate


class ShortcutReport(_Model):
    """How well a logistic regression tells labels from what an image should not be told by.

    Attributes:
        label: attribute, or `cell`.
        told_by: `brightness`, `sharpness`, `bytes`, or `all` of them.
        accuracy: cross-validated.
        chance: accuracy of always naming the most frequent label.
    """

    label: str
    told_by: str
    accuracy: Estimate
    chance: float

    @property
    def tells(self) -> bool:
        """Whether the label can be told better than by chance."""
        return self.accuracy.low is not None and self.accuracy.low > self.chance


class Twins(_Model):
    """Two images that nearly repeat each other: the second was not taken."""

    prompt: str
    first: str
    second: str
    distance: float


class Size(_Model):
    """A size that the set was asked to be.

    Attributes:
        images: taken when it was reached, or its budget spent.
        drawn: until then.
        wished: images asked for.
        budget: images that might be drawn.
        digest: of the content and labels of the images taken until then, in order.
    """

    images: int
    drawn: int
    wished: int
    budget: int
    digest: str


class Shard(_Model):
    """A file, or a folder, of images."""

    path: str
    split: str
    images: int


class SetReport(_Model):
    """The file.

    Attributes:
        sizes: that were asked for, one after the other; the last is the set's.
        images: taken.
        drawn: in all.
        rejected: images not taken, by reason.
        places: by cell and group.
        noise: by cell; None without a calibration of the judge.
        wrong: expected share of wrong labels in the whole set, likewise.
        misfits: attributes of which the judge answers otherwise here than on the images of its
            calibration, so that what the calibration says of wrong labels is not to be relied on.
        shares: as called, `{attribute: {class: share}}`; the interval holds what the labels' noise
            may change.
        before_filling: dependence of cell on context among the images of the first round that
            passed the filter; None where there is nothing to compare.
        after_filling: among the images taken.
        by: what contexts were compared by: `group` or `context`.
        shortcuts: what labels can be told by.
        twins: examples of near-duplicates.
        splits: images by split.
        shards: of all formats.
        notes: what a reader must know.
        settings: of the run.
    """

    sizes: list[Size]
    images: int
    drawn: int
    rejected: dict[str, int]
    places: list[PlaceReport]
    noise: list[NoiseReport] | None
    wrong: Estimate | None
    misfits: list[str]
    shares: dict[str, dict[str, Estimate]]
    before_filling: Dependence | None
    after_filling: Dependence | None
    by: str
    shortcuts: list[ShortcutReport]
    twins: list[Twins]
    splits: dict[str, int]
    shards: list[Shard]
    notes: list[str]
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        """Of the content and labels of all images, in order."""
        return self.sizes[-1].digest

    @property
    def short(self) -> list[PlaceReport]:
        """The places whose quota is not full."""
        return [place for place in self.places if place.images < place.quota]

    def as_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {"schema": SCHEMA, "digest": self.digest, **self.model_dump(mode="json")}


def read_set(folder: pathlib.Path) -> SetReport | None:
    """The report of a set; None where there is none.

    Raises:
        UserError: it is damaged, or a newer evenhand wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    values = read_json(path, what="a set's report", advice="delete it; generating writes it anew")
    versioned(values, kind="set's report", newest=SCHEMA, where=str(path))
    try:
        values = {k: v for k, v in values.items() if k not in ("schema", "digest")}
        return check(SetReport, values, where=str(path))
    except UserError as error:
        raise UserError(f"{error}. Delete the file: generating writes it anew") from error
