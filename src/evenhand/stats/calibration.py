"""What a classifier made of labelled images: the file that `evenhand calibrate` writes.

No torch.
"""

import os
import pathlib
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from evenhand.core.attributes import NOT_SEEN, Attribute
from evenhand.core.errors import UserError, unknown
from evenhand.core.files import write_json
from evenhand.core.schema import Share, Strict, check, read_json, versioned
from evenhand.stats.confusion import Confusion

ROUNDING = 1e-5  # of a probability in the file
Images = Annotated[int, Field(ge=0, le=10**9)]
SCHEMA = 1  # of calibration.json; a file without `schema` is of 1


class Answers(Strict):
    """The probabilities given to labelled images of one true class.

    Those not seen count as 0 throughout.

    Attributes:
        mean: `{class: mean of its probability}`.
        products: `{class: {class: mean of the product of both probabilities}}`.
    """

    mean: dict[str, Share]
    products: dict[str, dict[str, Share]]


class Origin(Strict):
    """Which labelled images a calibration is of.

    Attributes:
        domain: what kind of images these were, in words; a report says when its own are of another.
        data: where they came from.
        date: of the calibration, ISO 8601.
    """

    domain: str
    data: str
    date: str


def _belong_together(answers: Answers) -> bool:
    """Whether products can be those of probabilities with the mean, up to rounding.

    They are symmetric, and what they exceed the mean's own products by is a covariance, which has
    no negative variance in any direction.
    """
    names = list(answers.mean)
    mean = np.array([answers.mean[c] for c in names])
    products = np.array([[answers.products[c][d] for d in names] for c in names])
    covariance = products - np.outer(mean, mean)
    room = ROUNDING * len(names)
    return bool(
        np.abs(products - products.T).max() <= room
        and np.linalg.eigvalsh(covariance).min() >= -room
        and (products.sum(1) <= mean + room).all()
    )


class Calibration(Strict):
    """What a classifier called labelled images: the file that `evenhand calibrate` writes.

    Attributes:
        classifier: its name.
        digest: of its weights.
        domain, data, date: of the last calibration (`Origin`).
        attributes: `{attribute: {true class: {called class or "not seen": images}}}`.
        probabilities: `{attribute: {true class: Answers}}`; without them calls are corrected
            instead of probabilities.
        origins: `{attribute: Origin}` of attributes that were calibrated otherwise than `domain`,
            `data` and `date` say.
    """

    classifier: str
    digest: str
    domain: str
    data: str
    date: str
    attributes: dict[str, dict[str, dict[str, Images]]]
    probabilities: dict[str, dict[str, Answers]] = {}
    origins: dict[str, Origin] = {}

    def origin(self, attribute: str) -> Origin:
        """Which labelled images an attribute's calibration is of."""
        own = Origin(domain=self.domain, data=self.data, date=self.date)
        return self.origins.get(attribute, own)

    def beside(self, before: "Calibration") -> "Calibration":
        """This one, with the attributes that only an earlier one of the same weights has.

        An earlier calibration of other weights says nothing of these: none of it is kept.
        """
        if before.digest != self.digest:
            return self
        kept = [a for a in before.attributes if a not in self.attributes]
        return self.model_copy(
            update={
                "attributes": {**self.attributes, **{a: before.attributes[a] for a in kept}},
                "probabilities": {
                    **self.probabilities,
                    **{a: before.probabilities[a] for a in kept if a in before.probabilities},
                },
                "origins": {a: before.origin(a) for a in kept},
            }
        )

    @model_validator(mode="after")
    def _check(self) -> "Calibration":
        for name, table in self.attributes.items():
            for truth, called in table.items():
                if other := called.keys() - table.keys() - {NOT_SEEN}:
                    raise unknown(
                        "class", min(other), [*table, NOT_SEEN], where=f"{name}: {truth} called"
                    )
        for name, answers in self.probabilities.items():
            classes, place = set(self.attributes.get(name, {})), f"probabilities.{name}"
            if answers.keys() != classes:
                raise ValueError(f"{place} are of {sorted(answers)}, images of {sorted(classes)}")
            for truth, x in answers.items():
                if any(y.keys() != classes for y in (x.mean, x.products, *x.products.values())):
                    raise ValueError(f"{place}.{truth}: name each of {sorted(classes)} once")
                if (total := sum(x.mean.values())) > 1 + ROUNDING * len(classes):
                    raise ValueError(f"{place}.{truth}: means sum to {total:g}, more than 1")
                if not _belong_together(x):
                    raise ValueError(
                        f"{place}.{truth}: no probabilities have this mean and these products"
                    )
        return self

    def of(self, attributes: Iterable[str]) -> "Calibration":
        """The same of some attributes only."""
        kept = set(attributes)
        return self.model_copy(
            update={
                part: {a: table for a, table in getattr(self, part).items() if a in kept}
                for part in ("attributes", "probabilities", "origins")
            }
        )

    def confusion(self, attribute: Attribute) -> "Confusion":
        """What is known of an attribute, as `Confusion`.

        Raises:
            UserError: not calibrated, other classes, or what `Confusion` refuses.
        """
        table = self.attributes.get(attribute.name)
        if table is None or set(table) != set(attribute.classes):
            found = "nothing" if table is None else ", ".join(table)
            raise UserError(
                f"calibration of {self.classifier!r}: has {found} for {attribute.name!r}, whose "
                "classes are "
                f"{', '.join(attribute.classes)}"
            )
        names, given = attribute.classes, self.probabilities.get(attribute.name)
        counts = np.array([[table[truth].get(c, 0) for truth in names] for c in [*names, NOT_SEEN]])
        try:
            if given is None:
                return Confusion(counts)
            return Confusion(
                counts,
                np.array([[given[truth].mean[c] for truth in names] for c in names]),
                np.array(
                    [
                        [[given[truth].products[c][d] for d in names] for c in names]
                        for truth in names
                    ]
                ),
            )
        except KeyError as error:
            raise UserError(
                f"{attribute.name}: the calibration's probabilities lack class {error}"
            ) from error
        except UserError as error:
            raise UserError(f"{attribute.name}: {error}") from error


def read_calibration(path: str | os.PathLike) -> Calibration:
    """Reads what `evenhand calibrate` wrote.

    The file, or a folder that holds it as `calibration.json`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = pathlib.Path(path)
    path = path / "calibration.json" if path.is_dir() else path
    values = read_json(path, what="a calibration", advice="`evenhand calibrate` writes one")
    versioned(values, kind="calibration", newest=SCHEMA, where=str(path))
    values.pop("schema", None)
    return check(Calibration, values, where=str(path))


def write_calibration(path: str | os.PathLike, calibration: Calibration) -> None:
    """Writes the file that `read_calibration` reads."""
    values = calibration.model_dump(mode="json")
    if not calibration.origins:
        del values["origins"]
    write_json(path, {"schema": SCHEMA, **values})
