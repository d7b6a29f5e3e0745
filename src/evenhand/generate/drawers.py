"""Who draws the images of a set: the adapters of its recipe, those of a set of adapters one by one.

Names are looked up here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evenhand.core.adapter_sets import find_set, is_set
from evenhand.core.adapters import Adapter, Mix, find_adapter
from evenhand.core.errors import UserError, unknown
from evenhand.core.resources import is_path, one_spelling
from evenhand.recipes.dreambooth import SLOT
from evenhand.recipes.generate import AdapterUse, Generate


@dataclass(frozen=True)
class Drawer:
    """Adapters that draw some of the images together.

    Attributes:
        mix: what is loaded.
        draws: classes that it is asked for, `{attribute: class}`; none where the judge decides.
        share: of the images of these classes, in proportion to the others that draw them.
        token: word by which prompts call what it learned; "" without one.
        settings: its part of the run's settings.
    """

    mix: Mix
    draws: dict[str, str]
    share: float = 1.0
    token: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def adapters(self) -> list[Adapter]:
        """What is loaded, without strengths."""
        return [adapter for adapter, _ in self.mix.parts]

    @property
    def digest(self) -> str:
        """Of all weights."""
        return "+".join(adapter.digest for adapter in self.adapters)


def drawers_of(config: Generate) -> list[Drawer]:
    """The drawers of a recipe.

    Raises:
        UserError: an adapter or a set is not there or damaged, has no member for what it shall
            draw, or prompts have no place for its token.
    """
    found = [
        drawer
        for use in config.adapters
        for drawer in (
            _members(use, config) if is_path(use.name) and is_set(use.name) else [_alone(use)]
        )
    ]
    for drawer in found:
        if drawer.token and f"{{{SLOT}}}" not in config.prompt:
            raise UserError(
                f"prompt: {config.prompt!r} has no slot {{{SLOT}}}, and the adapters were taught "
                f"to be called by a token ({drawer.token!r}); put it where their captions have it"
            )
    return found


def _alone(use: AdapterUse) -> Drawer:
    """One adapter."""
    adapter = find_adapter(use.name)
    said = {
        "name": one_spelling(adapter.name),
        "digest": adapter.digest,
        "scale": use.scale,
        "draws": use.draws,
    }
    return Drawer(adapter.at(use.scale), use.draws, settings=said)


def _members(use: AdapterUse, config: Generate) -> list[Drawer]:
    """The members of a set, each with its share of its group's images."""
    found = find_set(use.name)
    places = [{a: c for a, c in m.group.items() if a in config.cells} for m in found.members]
    for name, cls in use.draws.items():
        if cls not in (known := {place[name] for place in places if name in place}):
            raise unknown("class", cls, known, where=f"adapters, {use.name}: draws.{name}")
    drawers = []
    for member, place in zip(found.members, places, strict=True):
        if any(place.get(name) != cls for name, cls in use.draws.items()):
            continue
        share = found.weights(place, use.alpha)[member.name]
        strengths = tuple((a, use.scale if a.is_lora else 1.0) for a, _ in member.mix.parts)
        mix = Mix(strengths, spoken=True)
        said = {
            "name": f"{one_spelling(use.name)}/{member.name}",
            "digest": "+".join(a.digest for a, _ in mix.parts),
            "scale": use.scale,
            "draws": place,
            "share": share,
            "token": member.token,
        }
        drawers.append(Drawer(mix, place, share, member.token, said))
    return drawers


def slots_for(drawers: Sequence[Drawer]) -> list[str]:
    """Slots that drawers fill in prompts."""
    return [SLOT] if any(drawer.token for drawer in drawers) else []


def texts_of(drawer: Drawer | None) -> Mapping[str, str]:
    """What a drawer fills in prompts."""
    return {SLOT: drawer.token if drawer else ""}
