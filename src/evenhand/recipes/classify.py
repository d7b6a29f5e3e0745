"""The schema of `train/classify/*.yaml`: how classifiers are trained, to be compared by group.

Data only. A *group* is a class of the target with a class of the protected attribute.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evenhand.core.errors import UserError
from evenhand.core.resources import find_yaml
from evenhand.core.schema import Count, Share, check, merged, override, read_yaml
from evenhand.recipes.classify_parts import (
    Augment,
    Bias,
    Contrast,
    Mask,
    Objective,
    Refit,
    Schedule,
    Synthetic,
)
from evenhand.recipes.labels import Labels
from evenhand.recipes.network import Network

Arm = Literal["real", "synthetic", "usb", "asb", "ffr", "aim_fair", "two_stage"]
WITHOUT_SYNTHETIC = ("real",)  # arms
ALONE = {"arm", "objective", "objective.name", "refit"}  # keys that ask for one classifier


class Classify(Network):
    """A recipe of `evenhand classify`.

    Attributes:
        target: what is classified.
        protected: for whose classes the classifier shall work equally.
        image: column that holds the images, or their files.
        split: column that says the split; the data's own splits, or a random 80/10/10, when None.
        splits: which values mean `train`, `validation` and `test`.
        bias: cuts the data to a biased part; all of it when None.
        synthetic: generated images; arms other than `real` need them.
        arm: which images, in which order: `real`; `synthetic`; `usb`, real and synthetic that fill
            every group up to the largest; `asb`, real and as many of every group; `ffr`, synthetic,
            then real; `aim_fair`, real, then some tensors on synthetic; `two_stage`, synthetic with
            a contrastive loss, then the last layer (or all, `tune`) on real.
        objective: of the images that need one: the real ones, or the mixture, or the only ones.
            Balanced synthetic images before or after real ones are trained with the mean loss.
        mask: of `aim_fair`.
        contrast: of `two_stage`.
        tune: what `two_stage` trains on real images.
        refit: fits the last layer anew after the training; None leaves it as it was trained.
        select: the epoch whose validation images have the best `worst_group`, `balanced` (mean over
            groups), `overall` or `worst_class` accuracy, the first of equals; or the `last`.
        schedule: of the parts.
        equal_steps: change the epochs of all parts so that every arm takes as many steps as `real`.
        seeds: trainings of every variant, from `seed` on.
        variants: what is compared: names, and the settings in which each differs. The first is the
            one that the others are held against.
    """

    target: Labels
    protected: Labels
    image: str = "image"
    split: str | None = None
    splits: dict[Literal["train", "validation", "test"], list[str | int]] = {
        "train": ["train"],
        "validation": ["validation", "val", "valid"],
        "test": ["test"],
    }
    bias: Bias | None = None
    synthetic: Synthetic | None = None
    arm: Arm = "real"
    objective: Objective = Objective()
    mask: Mask = Mask()
    contrast: Contrast = Contrast()
    tune: Literal["last_layer", "all"] = "last_layer"
    refit: Refit | None = None
    select: Literal["last", "worst_group", "balanced", "overall", "worst_class"] = "last"
    schedule: Schedule = Schedule()
    equal_steps: bool = False
    augment: Augment = Augment()
    smoothing: Share = 0.0
    batch: Annotated[int, Field(ge=2)] = 64
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    seeds: Count = 3
    variants: dict[str, dict[str, Any]] = {}

    @field_validator("objective", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("refit", mode="before")
    @classmethod
    def _by_word(cls, value: Any) -> Any:
        return {} if value == "dfr" else value

    @model_validator(mode="after")
    def _check(self) -> "Classify":
        for place in ("target", "protected"):
            labels: Labels = getattr(self, place)
            if len(labels.names) < 2:
                raise ValueError(f"{place} has the class {labels.names[0]!r} alone; name two")
        if self.target == self.protected:
            raise ValueError(
                f"target and protected are both column {self.target.column!r} with the same "
                "classes; name two attributes"
            )
        if self.arm == "aim_fair" and self.freeze:
            raise ValueError("arm aim_fair chooses tensors, and freeze leaves the last layer alone")
        if missing := {"train", "validation", "test"} - set(self.splits):
            raise ValueError(f"splits: says no value for {', '.join(sorted(missing))}")
        if self.bias and (wrong := _unknown(self)):
            raise ValueError(wrong)
        return self

    @property
    def labels(self) -> list[str]:
        """The classes of the target."""
        return self.target.names

    @property
    def groups(self) -> list[str]:
        """Names of the groups; group `i` has class `i // P` of the target, `i % P` of P."""
        return [f"{y}, {s}" for y in self.target.names for s in self.protected.names]

    def each(self) -> dict[str, "Classify"]:
        """The variants, complete; without any, this recipe by the name of its arm and objective.

        Raises:
            UserError: a variant has settings that there are not.
        """
        own = self.model_dump(exclude={"variants"})
        if not self.variants:
            return {described(self): self}
        return {
            name: check(Classify, merged(own, _by_key(changes)), where=f"variants.{name}")
            for name, changes in self.variants.items()
        }


def described(recipe: Classify) -> str:
    """`arm` or `arm+objective`, and what else is done."""
    objective = "" if recipe.objective.name == "erm" else f"+{recipe.objective.name}"
    return f"{recipe.arm}{objective}{'+dfr' if recipe.refit else ''}"


def _unknown(recipe: Classify) -> str | None:
    """What `bias.prevailing` names that there is not, in words."""
    table = recipe.bias.prevailing if recipe.bias else None
    if table is None:
        return None
    if set(table) != set(recipe.target.names):
        return (
            f"bias.prevailing: names {', '.join(table)}; it shall name a protected class for each "
            f"of {', '.join(recipe.target.names)}"
        )
    wrong = sorted(set(table.values()) - set(recipe.protected.names))
    return f"bias.prevailing: {wrong[0]!r} is no class of protected" if wrong else None


def _by_key(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes of a variant, an objective that is a word as its name: the rest is merged."""
    objective = changes.get("objective")
    return {**changes, "objective": {"name": objective}} if isinstance(objective, str) else changes


def _tuned(values: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """The values with the pairs applied.

    Settings of a refit that the recipe itself has none of are those of the variants that have one.
    """
    of_refit = [pair for pair in pairs if pair.startswith("refit.")]
    values = override(values, [pair for pair in pairs if pair not in of_refit])
    variants = values.get("variants")
    table = variants if isinstance(variants, dict) else {}
    having = [n for n, x in table.items() if isinstance(x, dict) and x.get("refit") is not None]
    if values.get("refit") is not None or not having:
        return override(values, of_refit)
    for name in having:
        own = {} if table[name]["refit"] == "dfr" else table[name]["refit"]
        table[name] = override({**table[name], "refit": own}, of_refit)
    return values


def load_classify(name: str, overrides: list[str] | None = None) -> Classify:
    """A recipe of `evenhand classify` by name (`emoji`) or path.

    An arm, an objective or a refit that is asked for stands alone: the recipe's variants, which
    have their own, do not count then. A setting of an objective or a refit (`objective.step_size`,
    `refit.repeats`) tunes the variants that have one.

    Raises:
        UserError: no such recipe, or every problem of it.
    """
    path = find_yaml("train/classify", name.removeprefix("classify/"))
    pairs = overrides or []
    keys, values = {pair.partition("=")[0] for pair in pairs}, read_yaml(path)
    if keys & ALONE and not any(key.partition(".")[0] == "variants" for key in keys):
        values.pop("variants", None)
    values = _tuned(values, pairs)
    recipe = check(Classify, values, where=path.name)
    for variant, one in recipe.each().items():
        if "/" in variant or variant in {"", ".", ".."}:
            raise UserError(f"{path.name}: variants.{variant}: is no name for a folder")
        if one.variants:
            raise UserError(f"{path.name}: variants.{variant}: has variants of its own")
    return recipe
