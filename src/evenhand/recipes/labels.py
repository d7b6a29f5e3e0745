"""The schema of labelled data: which column says an attribute's class, and how."""

import itertools
from typing import Annotated, Any

from pydantic import Field, model_validator

from evenhand.core.errors import UserError
from evenhand.core.schema import Strict


class Labels(Strict):
    """Which column says an attribute's class, and how.

    A value that means no class leaves the image unlabelled.

    Attributes:
        column: of the data set.
        classes: `{class: [value, ...]}`.
        bins: `{class: [least, below]}`, for numbers; instead of `classes`.
    """

    column: str
    classes: dict[str, Annotated[list[str | int | bool], Field(min_length=1)]] = {}
    bins: dict[str, tuple[float, float]] = {}

    @model_validator(mode="after")
    def _check(self) -> "Labels":
        if bool(self.classes) == bool(self.bins):
            raise ValueError("give either classes or bins")
        values = [v for group in self.classes.values() for v in group]
        if len(set(map(str, values))) < len(values):
            raise ValueError(f"a value stands in two classes: {self.classes}")
        edges = sorted(self.bins.values())
        for (_, below), (least, _) in itertools.pairwise(edges):
            if least < below:
                raise ValueError(f"two bins overlap: {self.bins}")
        if any(least >= below for least, below in edges):
            raise ValueError(f"a bin is empty: {self.bins}; write [least, below]")
        return self

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return list(self.classes or self.bins)

    def find(self, value: Any) -> int | None:
        """Index of the class that a value of the column means; None where it means none.

        Raises:
            UserError: the classes are bins of numbers, and the value is no number.
        """
        if value is None:
            return None
        if self.bins:
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"column {self.column!r} holds {value!r}, which is no number to put into bins"
                ) from error
            return next(
                (
                    k
                    for k, (least, below) in enumerate(self.bins.values())
                    if least <= number < below
                ),
                None,
            )
        return next(
            (k for k, group in enumerate(self.classes.values()) if str(value) in map(str, group)),
            None,
        )
