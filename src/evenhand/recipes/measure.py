"""The schema of measurements: what `evenhand measure` runs."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from evenhand.core.adapters import named_strengths
from evenhand.core.concept_targets import Shares
from evenhand.core.schema import Count, Strict

NO_CALIBRATION = "none"  # for `calibration`: correct nothing, even where the judge has one


class Measure(Strict):
    """What `evenhand measure` runs: the settings that must agree when a run is continued.

    Attributes:
        model: the generator; or `images_from`, a folder of images made elsewhere.
        prompts: prompt sets; of `images_from`, a table of files and prompts (CSV or JSONL), or
            none.
        images: of a neutral prompt; at most, with `until`.
        until: a prompt is drawn no further once each of its shares is known to +- this.
        target: shares asked for, `{attribute: {class: share}}`; or the name of a table that gives
            each concept its own, alone or under its attribute.
        adapter: with which the model is loaded: a name, several that may each carry a strength
            (`NAME=0.7`), or a table of names and strengths; `strengths` reads it.
        adapter_scale: strength of an adapter that is the only one and carries none.
        calibration: file that `evenhand calibrate` wrote; the one beside the judge when None;
            `none` (a file of that name is `./none`): shares stay as they are called.
        domain: what kind of images these are, in words, to be compared with the calibration's.
        accept: rules that the report must meet (`evenhand.reports.accept`).
    """

    model: str | None = None
    images_from: str | None = None
    prompts: list[str] = []
    attributes: list[str] = []
    judge: str | None = None
    adapter: str | list[str] | dict[str, float] | None = None
    adapter_scale: float = 1.0
    joint: bool = False
    splits: list[str] = []
    images: Count = 32
    explicit_images: int = Field(default=4, ge=0)
    until: Annotated[float, Field(ge=0.005, lt=0.5)] | None = None
    seed: int = 0
    batch: Count = 16
    target: Shares = {}
    settings: dict[str, Any] = {}
    calibration: str | None = None
    domain: str = ""
    accept: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> "Measure":
        if (self.model is None) == (self.images_from is None):
            raise ValueError("name either a model or, with --images-from, a folder of images")
        for name in ("prompts", "attributes", "splits"):
            values = getattr(self, name)
            if twice := [x for x in values if values.count(x) > 1]:
                raise ValueError(f"{name}: {twice[0]!r} is given twice; leave one out")
        strengths = list(self.strengths.values())
        if self.adapter_scale != 1 and strengths != [self.adapter_scale]:
            raise ValueError(
                "adapter_scale is the strength of an adapter: name one with --adapter; of several, "
                "write --adapter NAME=STRENGTH for each"
            )
        if self.model and not self.prompts:
            raise ValueError("name a prompt set with --prompts")
        drawing = {"adapter", "until", "settings", "splits", "images", "explicit_images"}
        named = {x: getattr(self, x) for x in drawing & self.model_fields_set}
        given = {x for x, value in named.items() if value not in (None, {}, [])}
        if self.images_from and (given or len(self.prompts) > 1):
            raise ValueError(
                "images that are there already take no adapter, until, setting or split, no number "
                f"of images, and one table of prompts (given: {', '.join(sorted(given)) or 'more'})"
            )
        return self

    @property
    def strengths(self) -> dict[str, float]:
        """The adapters by name, and the strength at which each is loaded.

        Raises:
            ValueError: one is given twice, or with several strengths.
        """
        table = self.adapter if isinstance(self.adapter, dict) else _table(self.adapter)
        return {name: strength * self.adapter_scale for name, strength in table.items()}


def _table(given: str | list[str] | None) -> dict[str, float]:
    """Names of adapters and their strengths, from `NAME` and `NAME=STRENGTH`."""
    names, found = [given] if isinstance(given, str) else given or [], {}
    for name, strengths in map(named_strengths, names):
        if name in found:
            raise ValueError(f"adapter: {name!r} is given twice; leave one out")
        if len(strengths) > 1:
            raise ValueError(f"adapter: {name!r} has several strengths; a measurement takes one")
        found[name] = strengths[0] if strengths else 1.0
    return found
