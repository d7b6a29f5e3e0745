"""The schema of sweeps: at which strengths and sampler settings an adapter is measured."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError
from evenhand.core.schema import Count, Share, Strict, merged
from evenhand.recipes.features import Feature
from evenhand.recipes.measure import Measure

STRENGTHS = [0.0, 0.25, 0.5, 0.75, 1.0]
SHORT = {"guidance_scale": "guidance", "num_inference_steps": "steps"}  # in names of folders
OF_SEVERAL = [0.0, 0.5, 1.0]  # of each of several adapters, since every combination is measured
OF_TOKENS = [0.0, 1.0]  # soft tokens stand before a prompt, or do not


class Sweep(Strict):
    """What `evenhand sweep` runs.

    Attributes:
        measure: how every point is measured; of the model without adapters.
        adapters: the strengths of each, 0 to 1.5: beyond 1 a LoRA was never trained, and far beyond
            it images fall apart. Every combination is a point.
        guidance: guidance scales; the model's own where there is none.
        steps: numbers of sampling steps; the model's own where there is none.
        margin: how much of the explicit prompts, and of the concepts, a point may lose to be
            suggested.
        features: in which the images are held against those of the model without adapters; the
            judge's own, where it has some, when None.
    """

    measure: Measure
    adapters: Annotated[dict[str, list[Annotated[float, Field(ge=0, le=1.5)]]], Field(min_length=1)]
    guidance: list[Annotated[float, Field(ge=0)]] = []
    steps: list[Count] = []
    margin: Share = 0.05
    features: list[Feature] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Sweep":
        grids = {**self.adapters, "guidance": self.guidance, "steps": self.steps}
        for name, values in grids.items():
            if twice := [x for x in values if values.count(x) > 1]:
                raise ValueError(f"{name}: {twice[0]:g} is given twice; leave one out")
        for name, strengths in self.adapters.items():
            if not any(strengths):
                raise ValueError(f"{name}: give a strength above 0; 0 is always measured")
        for name, values in self._sampler.items():
            if values and name in self.measure.settings:
                raise ValueError(f"{name} is given as a setting and swept; leave one out")
        if self.measure.strengths or self.measure.images_from or self.measure.until:
            raise ValueError("a sweep measures a generator, every point on the same images")
        return self

    @property
    def _sampler(self) -> dict[str, Sequence[float]]:
        return {"guidance_scale": self.guidance, "num_inference_steps": self.steps}

    def points(self) -> dict[str, Measure]:
        """The measurement of every point, by the name of its folder.

        At each of the sampler's settings the model without adapters comes first.
        """
        found = {}
        for chosen in itertools.product(*(values or [None] for values in self._sampler.values())):
            given = zip(self._sampler, chosen, strict=True)
            sampler = {name: x for name, x in given if x is not None}
            name = "".join(f"-{SHORT[k]}-{x:g}" for k, x in sampler.items())
            settings = {"settings": merged(self.measure.settings, sampler)}
            alone = self.measure.model_copy(update=settings)
            found[f"strength-0{name}"] = alone
            for strengths in itertools.product(*self.adapters.values()):
                if any(strengths):
                    mix = zip(self.adapters, strengths, strict=True)
                    found[f"strength-{'-'.join(f'{x:g}' for x in strengths)}{name}"] = (
                        alone.model_copy(update={"adapter": {k: x for k, x in mix if x}})
                    )
        return found


def strengths_for(adapters: Sequence[Adapter], given: dict[str, list[float]]) -> dict[str, list]:
    """The strengths of each adapter: those given, or what suits its kind and their number.

    Raises:
        UserError: soft tokens shall have a strength between 0 and 1.
    """
    found = {}
    for adapter in adapters:
        usual = STRENGTHS if len(adapters) == 1 else OF_SEVERAL
        strengths = given.get(adapter.name) or (usual if adapter.is_lora else OF_TOKENS)
        if not adapter.is_lora and set(strengths) - {0, 1}:
            raise UserError(
                f"adapter {adapter.name!r}: soft tokens have no strength: they are swept at 0 and "
                f"1 alone (write {adapter.name}=0,1)"
            )
        found[adapter.name] = strengths
    return found


def defaults_of(adapters: Sequence[Adapter], given: dict[str, Any]) -> dict[str, Any]:
    """Model, prompts, attributes and target that adapters were made for, where none is given.

    Args:
        adapters: which, at least one.
        given: settings of a measurement; those that are None are filled in.

    Raises:
        UserError: an adapter does not say what it was made for, or two were made for different
            things.
    """
    known = [(a, a.described.get("settings") or {}) for a in adapters]
    found = {name: value for name, value in given.items() if value is not None}
    for adapter, settings in known:
        said = {"model": settings.get("model"), "prompts": adapter.prompts}
        missing = [key for key, value in said.items() if key not in found and not value]
        if missing:
            raise UserError(
                f"adapter {adapter.name!r}: has no adapter.json that says its {missing[0]}; name "
                f"{'it' if missing == ['model'] else 'them'} with --{missing[0]}"
            )
    if "model" not in found:
        found["model"] = known[0][1]["model"]
        for adapter, settings in known:
            if settings["model"] != found["model"]:
                raise UserError(
                    f"adapter {adapter.name!r} was made for {settings['model']!r}, "
                    f"{known[0][0].name!r} for {found['model']!r}: adapters of different models "
                    "are not loaded together"
                )
    if "prompts" not in found:
        found["prompts"] = list(dict.fromkeys(name for a in adapters for name in a.prompts))
    targets = {a.name: (s.get("target") or {}) for a, s in known}
    if "target" not in found:
        found["target"] = _together({name: t.get("shares") or {} for name, t in targets.items()})
    if "attributes" not in found:
        asked = [name for t in targets.values() for name in t.get("joint_of") or []]
        found["attributes"] = list(dict.fromkeys([*found["target"], *asked]))
    found["joint"] = len(found["attributes"]) > 1
    return found


def _together(targets: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The targets of several adapters as one."""
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for name, target in targets.items():
        for attribute, shares in target.items():
            first, other = found.setdefault(attribute, (name, shares))
            if other != shares:
                raise UserError(
                    f"adapters {first!r} and {name!r} were made for different targets of "
                    f"{attribute}: say with --target which one to hold the images against"
                )
    return {attribute: shares for attribute, (_, shares) in found.items()}
