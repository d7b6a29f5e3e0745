"""The schema of labelled data: which column says an attribute's class, and how."""

from typing import Any

from pydantic import model_validator

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
    classes: dict[str, list[str | int | bool]] = {}
    bins: dict[str, tuple[float, float]] = {}

    @model_validator(mode="after")
    def _check(self) -> "Labels":
        if bool(self.classes) == bool(self.bins):
            raise ValueError("give either classes or bins")
        values = [v for group in self.classes.values() for v in group]
        if len(set(map(str, values))) < len(values):
            raise ValueError(f"a value stands in two classes: {self.classes}")
        return self

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return list(self.classes or self.bins)

    def find(self, value: Any) -> int | None:
        """Index of the class that a value of the column means; None where it means none."""
        if value is None:
            return None
        if self.bins:
            return next(
                (
                    k
                    for k, (least, below) in enumerate(self.bins.values())
                    if least <= float(value) < below
                ),
                None,
            )
        return next(
            (k for k, group in enumerate(self.classes.values()) if str(value) in map(str, group)),
            None,
        )
