"""What a sweep holds: the schema of `sweep.json`, and of `sweep` in `adapter.json`.

Numbers as in `evenhand.reports.models`. Every interval has the level that its estimate says: those
of `SweepReport.points` hold for all points together (`SweepReport.level`).
"""

from typing import Any, Literal

from pydantic import Field

from evenhand.core.adapters import Adapter
from evenhand.core.schema import Strict, check
from evenhand.reports.models import File, Measured, Number, Whole


class PointAttribute(Strict):
    """One attribute at a point, in all prompts that say no class of it.

    Changes are against the model without adapters at the same settings and seeds, and None for that
    model itself.

    Attributes:
        gap, distance: as in `SplitReport`, corrected for the judge's errors where its calibration
            holds at every point; no distance without a target.
        explicit: of the images whose prompt says a class, the share perceived as it; None without
            such prompts.
    """

    gap: Measured
    gap_change: Measured | None = None
    distance: Measured | None = None
    distance_change: Measured | None = None
    explicit: Measured | None = None
    explicit_change: Measured | None = None

    @property
    def measure(self) -> str:
        """What says how far off it is."""
        return "distance to the target" if self.distance else "gap"

    @property
    def off(self) -> Measured:
        """How far off it is: the distance to the target; without one, the gap."""
        return self.distance or self.gap

    @property
    def off_change(self) -> Measured | None:
        """The change of that."""
        return self.distance_change if self.distance else self.gap_change


class Point(Strict):
    """The model with its adapters at some strengths, at some settings of the sampler.

    Attributes:
        strengths: of the adapters, by name; 0 where one is not loaded.
        guidance_scale, num_inference_steps: None where the pipeline's own default holds.
        folder: of its run of `evenhand measure`, beside `sweep.json`.
        images: drawn.
        attributes: by name.
        concept: share of the images whose concept is perceived as the prompt's; None where the
            judge names none.
        concept_change: against the model without adapters.
        closeness: by kind of features, the mean cosine to the image of the same seed without
            adapters, -1 to 1; its interval is of this point alone.
    """

    strengths: dict[str, Number]
    guidance_scale: Number | None = None
    num_inference_steps: Whole | None = None
    folder: str
    images: Whole
    attributes: dict[str, PointAttribute]
    concept: Measured | None = None
    concept_change: Measured | None = None
    closeness: dict[str, Measured] = {}

    @property
    def alone(self) -> bool:
        """Whether this is the model without adapters."""
        return not any(self.strengths.values())

    @property
    def sampler(self) -> tuple[float | None, int | None]:
        """At which settings of the sampler it was drawn."""
        return self.guidance_scale, self.num_inference_steps

    @property
    def label(self) -> str:
        """What tells it from the others, in words."""
        several = len(self.strengths) > 1
        strengths = [f"{n} at {x:g}" if several else f"{x:g}" for n, x in self.strengths.items()]
        parts = [f"strength {', '.join(strengths)}"]
        if self.guidance_scale is not None:
            parts.append(f"guidance {self.guidance_scale:g}")
        if self.num_inference_steps is not None:
            parts.append(f"{self.num_inference_steps} steps")
        return ", ".join(parts)

    @property
    def changes(self) -> list[Measured]:
        """Of what an adapter should leave as it is: explicit prompts and concepts."""
        found = [*(a.explicit_change for a in self.attributes.values()), self.concept_change]
        return [change for change in found if change is not None]


class SweepReport(File):
    """What `evenhand sweep` found.

    Attributes:
        adapters: digests of their weights, by name.
        settings: with which every point was measured.
        date, versions: of the sweep, and of the software.
        level: of each interval, so that those of one number at all points hold together at 95 %.
        points: in order; at each of the sampler's settings the model without adapters comes first.
        margin: of the rule.
        rule: by which a point is suggested, in words.
        suggested: its place in `points`; None where the rule finds none.
        fresh: the suggested point and, before it, the model without adapters, at other seeds; none
            where no point is suggested. Their intervals are of 95 % each.
        said: what the sweep found, in sentences.
        notes: what a reader must know of the runs.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]
    adapters: dict[str, str]
    settings: dict[str, Any]
    date: str
    versions: dict[str, str] = {}
    level: float
    points: list[Point]
    margin: float
    rule: str
    suggested: Whole | None
    fresh: list[Point] = []
    said: list[str]
    notes: list[str]


def sweep_of(adapter: Adapter) -> SweepReport | None:
    """The sweep that `adapter.json` holds; None without one, or where it is of other weights.

    Raises:
        UserError: it is damaged.
    """
    values = adapter.described.get("sweep")
    if values is None:
        return None
    found = check(SweepReport, values, where=f"{adapter.folder / 'adapter.json'}: sweep")
    return found if list(found.adapters.values()) == [adapter.digest] else None
