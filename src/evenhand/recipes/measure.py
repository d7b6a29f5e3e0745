"""The schema of measurements: what `evenhand measure` runs."""

from typing import Annotated, Any

from pydantic import Field, model_validator

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
        calibration: file that `evenhand calibrate` wrote; the one beside the judge when None;
            `none` (a file of that name is `./none`): shares stay as they are called.
        joint: count the combinations of the attributes as well: of all, or of those named.
        domain: what kind of images these are, in words, to be compared with the calibration's.
        accept: rules that the report must meet (`evenhand.reports.accept`).
    """

    model: str | None = None
    images_from: str | None = None
    prompts: list[str] = []
    attributes: list[str] = []
    judge: str | None = None
    adapter: str | None = None
    adapter_scale: float = 1.0
    joint: bool | list[str] = False
    splits: list[str] = []
    images: Count = 32
    explicit_images: int = Field(default=4, ge=0)
    until: Annotated[float, Field(ge=0.005, lt=0.5)] | None = None
    seed: int = 0
    batch: Count = 16
    target: dict[str, dict[str, float]] = {}
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
        if self.adapter is None and self.adapter_scale != 1:
            raise ValueError("adapter_scale is the strength of an adapter: name one with --adapter")
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
