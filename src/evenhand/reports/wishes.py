"""The shares asked for of one attribute: the same for all concepts, or each concept's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evenhand.core.attributes import Attribute, Target
from evenhand.core.concept_targets import ConceptTargets
from evenhand.stats.squares import Form, distance_from


@dataclass(frozen=True)
class Wish:
    """What is asked for of one attribute.

    Attributes:
        target: which speaks of the attribute.
        attribute: one of its own, or an intersection.
        known: attributes by name, of which an intersection has its parts.
    """

    target: Target
    attribute: Attribute
    known: Mapping[str, Attribute]

    def of(self, concept: str) -> list[float]:
        """The shares `[K]` asked for of a concept, sum 1."""
        found = self.target.of(concept).marginal(self.attribute, self.known)
        assert found is not None
        return found

    @property
    def tables(self) -> list[ConceptTargets]:
        """The tables that give each concept its own shares; none where all have the same."""
        tables = self.target.by_concept
        return [tables[a] for a in self.attribute.parts or [self.attribute.name] if a in tables]

    @property
    def same(self) -> list[float] | None:
        """The shares `[K]` asked for of every concept; None where each has its own."""
        return None if self.tables else self.of("")

    def form(self, concepts: Sequence[str]) -> Form:
        """The square of the distance, of which each concept's is to its own shares."""
        return distance_from(self.same or [self.of(concept) for concept in concepts])

    def notes(self, concepts: Iterable[str]) -> list[str]:
        """Where the shares come from, one sentence a table."""
        found = []
        for table in self.tables:
            lacking = table.lacking(concepts)
            named = ", ".join(map(repr, lacking[:3])) + (", ..." if len(lacking) > 3 else "")
            default = ", ".join(f"{c} {s:g}" for c, s in (table.default or {}).items())
            less = f" {len(lacking)} concepts that it lacks ({named}) have its default: {default}."
            found.append(
                f"Target of {table.attribute}: by concept, {table}. Distances are of each prompt "
                f"to its own concept's shares.{less if lacking else ''}"
            )
        return found


def wish_of(
    target: Target | None, attribute: Attribute, known: Mapping[str, Attribute]
) -> Wish | None:
    """What a target asks for of an attribute; None where it does not speak of it."""
    if target is None or not target.speaks_of(attribute):
        return None
    names = attribute.parts or [attribute.name]
    if target.shares:  # what it asks for of other attributes is not needed here
        target = Target(shares={a: x for a, x in target.shares.items() if a in names})
    return Wish(target, attribute, known)
