"""What the app draws with: names turned into plans, one model and adapter loaded, its judge."""

import gc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from evenhand.app.settings import App, Asked
from evenhand.core.adapters import Adapter, Mix, find_adapter, shipped_adapters
from evenhand.core.attributes import Attribute
from evenhand.core.errors import UserError, unknown
from evenhand.core.resources import names
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.judges.base import Judge
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import JudgeConfig, find_judge
from evenhand.recipes.model import Model, load_model

T = TypeVar("T")
FIRST = "emoji"  # the model that comes along
JUDGES = 2  # kept in memory


@dataclass(frozen=True)
class Plan:
    """What a visitor asks for, every name found; nothing is loaded."""

    asked: Asked
    model: Model
    adapter: Adapter | None
    judge: JudgeConfig

    @property
    def attributes(self) -> list[Attribute]:
        """What is counted."""
        return list(self.judge.known.values())


class Studio:
    """Holds what is loaded: never two models at a time.

    Only the thread of the device draws with it.

    Args:
        app: which names visitors may use.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.models = app.models or (_shipped() if app.alone else [FIRST])
        self.adapters = app.adapters or (shipped_adapters() if app.alone else [])
        self._loaded: tuple[object, Diffusion] | None = None
        self._judges: OrderedDict[str, Judge] = OrderedDict()
        for name in app.models:
            self._model(name)
        for name in app.adapters:
            find_adapter(name)

    def plan(self, asked: Asked) -> Plan:
        """Finds every name that a visitor gives.

        Raises:
            UserError: one is not known or, where others reach the app, not among those offered.
        """
        self._allow("model", asked.model, self.models)
        model, adapter = self._model(asked.model), None
        if asked.adapter:
            self._allow("adapter", asked.adapter, self.adapters)
            adapter = find_adapter(asked.adapter)
            adapter.at(asked.strength)  # refuses a strength that it cannot have
        return Plan(asked, model, adapter, self._judge_of(model))

    def load(self, plan: Plan) -> tuple[Diffusion, Judge]:
        """The pipeline with its adapter at strength 1, and the judge; loaded where they are not.

        Raises:
            UserError: they cannot be loaded.
        """
        wanted = (plan.model, plan.model.name, plan.adapter and plan.adapter.digest)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # two models may be more than the memory holds
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._loaded = wanted, load_diffusion(plan.model, adapter=plan.adapter or Mix())
        diffusion = self._loaded[1]
        judge = kept(
            self._judges,
            plan.judge.name,
            JUDGES,
            lambda: load_judge(plan.judge, device=diffusion.device),
        )
        return diffusion, judge

    def _allow(self, kind: str, name: str, offered: list[str]) -> None:
        if not self.app.alone and name not in offered:
            raise unknown(kind, name, offered, where="this app")

    def _model(self, name: str) -> Model:
        model = load_model(name)
        if model.endpoint:
            raise UserError(
                f"model {name!r} is a service, which the app does not ask; `evenhand measure "
                f"{name}` does"
            )
        return model

    def _judge_of(self, model: Model) -> JudgeConfig:
        name = self.app.judge or model.judge
        if not name:
            raise UserError(
                f"model {model.name!r} names no judge: start the app with one, `evenhand app "
                f"{model.name} --judge NAME`"
            )
        return find_judge(name)


def _shipped() -> list[str]:
    """Names of the models that ship and run here, the one that comes along first."""
    found = [name for name in names("eval/models") if not load_model(name).endpoint]
    return sorted(found, key=lambda name: name != FIRST)


def kept(cache: OrderedDict[str, T], key: str, most: int, make: Callable[[], T]) -> T:
    """An entry of a cache, made where it is missing; the one unused for longest goes first."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]
