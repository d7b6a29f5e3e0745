"""Attributes and targets: classes a named classifier perceives, and the shares asked for.

Data only.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evenhand.core.concept_targets import ConceptTargets, Shares
from evenhand.core.errors import unknown
from evenhand.core.schema import check

NOT_SEEN = "not seen"  # takes the place of a class where there was nothing to judge


class Attribute(BaseModel):
    """What is perceived.

    Attributes:
        name: such as `gender`.
        classes: at least two, in the order of every array `[..., K]`.
        contrast: the classes between which the gap is taken, as shares among these; all when empty.
        parts: names of the attributes it is the intersection of; none for an attribute of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(min_length=1)]
    classes: list[str]
    contrast: list[str] = []
    parts: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> "Attribute":
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(
                f"attribute {self.name!r} needs two or more different classes, has {self.classes}"
            )
        if reserved := {"", NOT_SEEN} & set(self.classes):
            raise ValueError(
                f"attribute {self.name!r}: a class cannot be called {reserved.pop()!r}"
            )
        for name in self.contrast:
            if name not in self.classes:
                raise unknown(
                    "class", name, self.classes, where=f"attribute {self.name!r}: contrast"
                )
        if len(self.contrast) == 1 or len(set(self.contrast)) < len(self.contrast):
            raise ValueError(
                f"attribute {self.name!r}: contrast needs two or more different classes, or none"
            )
        return self

    @property
    def contrasted(self) -> list[int]:
        """Indices of the classes between which the gap is taken."""
        return [self.classes.index(name) for name in self.contrast or self.classes]

    def perceived(self, classes: Mapping[str, str]) -> str | None:
        """Its class, given the perceived class of each attribute by name.

        None where one is missing.
        """
        names = self.parts or [self.name]
        return "/".join(classes[a] for a in names) if all(a in classes for a in names) else None


def intersection(attributes: Sequence[Attribute]) -> Attribute:
    """Several attributes as one: a class for every combination ("woman/dark"), in product order."""

    def cells(tables: list[list[str]]) -> list[str]:
        return ["/".join(cell) for cell in itertools.product(*tables)]

    values = {
        "name": " x ".join(a.name for a in attributes),
        "classes": cells([a.classes for a in attributes]),
        "contrast": cells([a.contrast or a.classes for a in attributes]),
        "parts": [a.name for a in attributes],
    }
    return check(Attribute, values, where="combinations (--joint)")


class Target(BaseModel):
    """The distribution asked for: independent shares of each attribute, or a joint table.

    A text instead of it is the name of a table of targets by concept.

    Attributes:
        shares: `{attribute: {class: share}}`; each sums to 1; classes left out get 0. Or
            `{attribute: table}` with other shares for each concept; `of` gives those of one.
        joint: `{"woman/dark": share, ...}` over the attributes of `joint_of`, instead of `shares`.
        joint_of: attribute names in the order of the keys of `joint`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    shares: Shares = {}
    joint: dict[str, float] = {}
    joint_of: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return {"shares": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _check(self) -> "Target":
        if bool(self.shares) == bool(self.joint):
            raise ValueError("a target has either shares or a joint table")
        if self.joint and not self.joint_of:
            raise ValueError("a joint table names its attributes in joint_of")
        tables = {**self.by_class, **({"joint": self.joint} if self.joint else {})}
        for where, table in tables.items():
            total = sum(table.values())
            if min(table.values(), default=0) < 0 or abs(total - 1) > 1e-6:
                raise ValueError(
                    f"target of {where!r} sums to {total:g} ({table}); shares are at least 0 and "
                    "sum to 1"
                )
        return self

    @property
    def attributes(self) -> list[str]:
        """The attributes it speaks of, in order."""
        return list(self.joint_of or self.shares)

    @property
    def by_class(self) -> dict[str, dict[str, float]]:
        """The shares that are the same for all concepts, by attribute."""
        return {a: x for a, x in self.shares.items() if not isinstance(x, ConceptTargets)}

    @property
    def by_concept(self) -> dict[str, ConceptTargets]:
        """The tables of those that are not, by attribute."""
        return {a: x for a, x in self.shares.items() if isinstance(x, ConceptTargets)}

    def of(self, concept: str) -> "Target":
        """The target of one concept, without tables.

        Raises:
            UserError: a table lacks the concept and has no default.
        """
        if not self.by_concept:
            return self
        shares: Shares = {
            a: x.of(concept) if isinstance(x, ConceptTargets) else x for a, x in self.shares.items()
        }
        return Target(shares=shares)

    def check_concepts(self, concepts: Iterable[str]) -> None:
        """Raises UserError where a table lacks one of the concepts and has no default."""
        concepts = list(concepts)
        for table in self.by_concept.values():
            table.check_concepts(concepts)

    def check(self, known: Mapping[str, Attribute]) -> None:
        """Raises UserError where it names an attribute or a class that is not known."""
        for name in self.attributes:
            if name not in known:
                raise unknown("attribute", name, known, where="target")
        for name, table in self.by_concept.items():
            table.check_classes(known[name].classes)
        for name, table in self.by_class.items():
            for cls in table:
                if cls not in known[name].classes:
                    raise unknown("class", cls, known[name].classes, where=f"target of {name!r}")
        cells = {
            "/".join(cell) for cell in itertools.product(*(known[a].classes for a in self.joint_of))
        }
        for cell in self.joint:
            if cell not in cells:
                raise unknown("cell", cell, cells, where="joint target")

    def cells(self, known: Mapping[str, Attribute]) -> tuple[list[tuple[int, ...]], list[float]]:
        """Joint cells as tuples of class indices, in product order, and their shares (sum 1).

        Only of a target without tables by concept: see `of`.
        """
        assert not self.by_concept
        self.check(known)
        attributes, shares = [known[name] for name in self.attributes], self.by_class
        cells = list(itertools.product(*(range(len(a.classes)) for a in attributes)))
        table = []
        for cell in cells:
            names = [a.classes[k] for a, k in zip(attributes, cell, strict=True)]
            share = self.joint.get("/".join(names), 0.0) if self.joint else 1.0
            for a, name in zip(attributes, names, strict=True):
                share *= 1.0 if self.joint else shares[a.name].get(name, 0.0)
            table.append(share)
        return cells, table

    def speaks_of(self, attribute: Attribute) -> bool:
        """Whether it says the shares of an attribute's classes; of an intersection all of them."""
        if attribute.parts:
            return sorted(attribute.parts) == sorted(self.attributes)
        return attribute.name in self.attributes

    def marginal(self, attribute: Attribute, known: Mapping[str, Attribute]) -> list[float] | None:
        """Shares of one attribute's classes, or None when the target does not speak of it."""
        if not self.speaks_of(attribute):
            return None
        if attribute.parts:  # an intersection may name the target's attributes in another order
            shares = dict(zip(*self.cells(known), strict=True))
            places = [attribute.parts.index(name) for name in self.attributes]
            ranges = (range(len(known[name].classes)) for name in attribute.parts)
            return [shares[tuple(cell[i] for i in places)] for cell in itertools.product(*ranges)]
        place, (cells, table) = self.attributes.index(attribute.name), self.cells(known)
        return [
            sum(s for c, s in zip(cells, table, strict=True) if c[place] == k)
            for k in range(len(attribute.classes))
        ]


def attributes_of(entries: dict[str, dict[str, Any]]) -> dict[str, Attribute]:
    """Attributes by name from `{name: {classes: ..., contrast: ...}}`.

    Raises:
        UserError: classes that are none, or another key.
    """
    for name, entry in entries.items():
        if other := entry.keys() - {"classes", "contrast"}:
            raise unknown("key", min(other), ["classes", "contrast"], where=f"attribute {name!r}")
    return {
        name: check(Attribute, {**entry, "name": name}, where=f"attribute {name!r}")
        for name, entry in entries.items()
    }
