"""The schema of chains, `train/chains/*.yaml`: from whom a generator draws to a classifier.

A stage is what one verb does by one recipe. Stages are done in the order in which they stand.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evenhand.core.errors import unknown
from evenhand.core.resources import find_yaml
from evenhand.core.schema import Count, Seed, Strict, check, override, read_yaml

Verb = Literal["measure", "train", "generate", "reference", "classify"]
VERBS: tuple[Verb, ...] = ("measure", "train", "generate", "reference", "classify")
DRAWING = ("generate", "reference")  # verbs that make an image set
DATA = "{data}"  # in `set`: the path of the real images
FOLDER = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"  # what a stage's folder may be called


class Drawings(Strict):
    """Labelled drawings of the embedded world, degraded: they stand in for real images.

    Attributes:
        drawings: occupations that are drawn, each as often, women and men alike. The columns are
            gender, tone, occupation and split.
        splits: images of each occupation and gender in a split.
        seed: of the drawings.
    """

    drawings: Annotated[list[str], Field(min_length=1)]
    splits: dict[Literal["train", "validation", "test"], Count]
    seed: Seed = 0


class Stage(Strict):
    """What one verb does by one recipe; each stage has exactly one verb.

    Attributes:
        measure: a protocol that ships or a file; or its settings.
        train: a recipe of `evenhand train`.
        generate: a recipe of `evenhand generate`.
        reference: the same, by `evenhand reference`: an image set that trainings may learn from.
        classify: a recipe of `evenhand classify`.
        set: `key=value` pairs: settings of the recipe to change, as on the command line; `{data}`
            in them is the path of the chain's real images, `{STAGE}` the folder of a stage.
        adapter: the stage that trained the adapter to load, of all verbs but `train` and
            `classify`. Sets also take several, each with how it is used
            (`evenhand.recipes.generate`): `{STAGE: {draws: {gender: woman}, scale: .8}}`.
        sets: of `classify`: the stages that made synthetic images, by the name that their variants
            get. Every variant of the recipe that needs synthetic images is trained with each.
    """

    measure: str | dict[str, Any] | None = None
    train: str | None = None
    generate: str | None = None
    reference: str | None = None
    classify: str | None = None
    set: list[str] = []
    adapter: str | dict[str, dict[str, Any]] | None = None
    sets: dict[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> "Stage":
        named = [verb for verb in VERBS if getattr(self, verb) is not None]
        if len(named) != 1:
            raise ValueError(
                f"a stage has one verb of {', '.join(VERBS)} (given: {', '.join(named) or 'none'})"
            )
        if self.adapter and self.verb not in ("measure", *DRAWING):
            raise ValueError(f"adapter is no key of a stage that does {self.verb}")
        if self.sets and self.verb != "classify":
            raise ValueError(f"sets is no key of a stage that does {self.verb}")
        if self.verb == "measure" and isinstance(self.adapter, dict):
            raise ValueError("adapter: a measurement takes the stage of one adapter")
        return self

    @property
    def verb(self) -> Verb:
        """Which verb it is done by."""
        return next(verb for verb in VERBS if getattr(self, verb) is not None)

    @property
    def recipe(self) -> str:
        """The name of the recipe; `settings` where they stand in the chain itself."""
        given = getattr(self, self.verb)
        return given if isinstance(given, str) else "settings"

    @property
    def adapters(self) -> dict[str, dict[str, Any]]:
        """The stages whose adapters are loaded, each with how it is used."""
        if self.adapter is None:
            return {}
        return {self.adapter: {}} if isinstance(self.adapter, str) else self.adapter

    @property
    def builds_on(self) -> dict[str, Verb]:
        """The stages named by `adapter` and `sets`, and which verb each of them must be."""
        adapters: dict[str, Verb] = dict.fromkeys(self.adapters, "train")
        sets: dict[str, Verb] = dict.fromkeys(self.sets.values(), "generate")
        return {**adapters, **sets}


class Chain(Strict):
    """A chain: `train/chains/*.yaml`.

    Attributes:
        data: real images, labelled: a path, as on the command line; or `Drawings`. Classifiers are
            trained and tested on them.
        stages: by name, in the order in which they are done. Each may build on those before it.
    """

    data: str | Drawings | None = None
    stages: Annotated[
        dict[Annotated[str, Field(pattern=FOLDER)], Stage],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _check(self) -> "Chain":
        names = list(self.stages)
        for name, stage in self.stages.items():
            if not self.data and (stage.verb == "classify" or any(DATA in x for x in stage.set)):
                raise ValueError(f"stages.{name}: needs real images: name them with data")
        for place, (name, stage) in enumerate(self.stages.items()):
            for other, verb in self._named_by(stage).items():
                if other not in self.stages:
                    raise unknown("stage", other, names, where=f"stages.{name}")
                if names.index(other) >= place:
                    raise ValueError(
                        f"stages.{name}: builds on {other!r}, which stands "
                        f"{'after it' if other != name else 'in the same place'}: put "
                        f"{other!r} before it"
                    )
                made = self.stages[other].verb
                if made != verb and not (verb == "generate" and made in DRAWING):
                    raise ValueError(
                        f"stages.{name}: needs a stage that does {verb}, and {other!r} does {made}"
                    )
        return self

    def _named_by(self, stage: Stage) -> dict[str, Verb]:
        """The stages that a stage names, also those in `set`, and the verb that they must be."""
        pairs = " ".join(stage.set)
        paths: dict[str, Verb] = {
            name: one.verb for name, one in self.stages.items() if f"{{{name}}}" in pairs
        }
        return {**paths, **stage.builds_on}

    def needs(self, name: str) -> dict[str, Verb]:
        """The stages that a stage builds on, with their verbs."""
        return {other: self.stages[other].verb for other in self._named_by(self.stages[name])}

    def after(self, start: str) -> list[str]:
        """A stage and those that build on it, in their order.

        Raises:
            UserError: there is no such stage.
        """
        if start not in self.stages:
            raise unknown("stage", start, self.stages, where="--from")
        found = [start]
        for name in self.stages:
            if name not in found and self.needs(name).keys() & set(found):
                found.append(name)
        return found


def load_chain(name: str, overrides: list[str] | None = None) -> Chain:
    """A chain by name (`emoji`, `chains/emoji`) or path.

    Raises:
        UserError: no such chain, or every problem of it.
    """
    path = find_yaml("train/chains", name.removeprefix("chains/"))
    return check(Chain, override(read_yaml(path), overrides or []), where=path.name)
