"""The embedded world: emoji people with known truth.

20 occupations x {woman, man, person} x 5 tones of Noto Color Emoji, drawn on a plain background
with a random shift, scale and rotation. `world.yaml` says who is drawn when a caption does not say.
"""

import functools
import pathlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
SPRITES = HERE / "sprites.png"


class Occupation(BaseModel):
    """One occupation: its codepoints, and who is drawn when a title's caption does not say."""

    model_config = ConfigDict(extra="forbid")
    titles: dict[str, tuple[float, float, float, str]]
    object: str = ""
    base: str = ""


class World(BaseModel):
    """`world.yaml`."""

    model_config = ConfigDict(extra="forbid")
    version: int
    size: int
    classes: dict[str, list[str]]
    words: dict[str, dict[str, str]]
    codepoints: dict[str, dict[str, str]]
    captions: dict
    augment: dict
    tones: dict[str, list[float]]
    occupations: dict[str, Occupation]
    seeds: dict[str, int]

    @functools.cached_property
    def titles(self) -> dict[str, str]:
        """Occupation of each title."""
        return {title: name for name, entry in self.occupations.items() for title in entry.titles}

    def shares(self, title: str, attribute: str) -> list[float]:
        """Shares of the attribute's classes when a caption names the title alone; sums to 1."""
        *genders, tones = self.occupations[self.titles[title]].titles[title]
        return list(genders) if attribute == "gender" else self.tones[tones]


@functools.cache
def load_world() -> World:
    """The world of `world.yaml`."""
    return World.model_validate(yaml.safe_load((HERE / "world.yaml").read_text(encoding="utf-8")))


@functools.cache
def load_sprites() -> torch.Tensor:
    """Sprites `[occupation, gender, tone, 4, 64, 64]`, colour times alpha (channel 3)."""
    world = load_world()
    size, genders, tones = world.size, len(world.classes["gender"]), len(world.classes["tone"])
    atlas = torch.from_numpy(
        np.asarray(Image.open(SPRITES).convert("RGBA"), dtype=np.float32) / 255
    )
    cells = (
        atlas.reshape(len(world.occupations), size, genders, tones, size, 4)
        .permute(0, 2, 3, 5, 1, 4)
        .contiguous()
    )
    return torch.cat([cells[..., :3, :, :] * cells[..., 3:, :, :], cells[..., 3:, :, :]], dim=-3)


@dataclass(frozen=True)
class Scene:
    """N drawings: class indices `[N]` into occupations and `classes`, and a caption each."""

    occupation: torch.Tensor
    gender: torch.Tensor
    tone: torch.Tensor
    captions: list[str]


def draw(scene: Scene, *, generator: torch.Generator) -> torch.Tensor:
    """Draws the scene: images `[N, 3, 64, 64]`, float in [0, 1]."""
    sprites = load_sprites()[scene.occupation, scene.gender, scene.tone]
    return on_background(sprites, generator=generator)


def on_background(sprites: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Draws sprites, turned, scaled and shifted by chance, each on a plain background.

    Args:
        sprites: `[N, 4, 64, 64]`, colour times alpha, and alpha.
        generator: source of all randomness.

    Returns:
        images `[N, 3, 64, 64]` in [0, 1].
    """
    world, n = load_world(), len(sprites)
    size, augment = world.size, world.augment

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle = torch.deg2rad(uniform(-augment["rotate"], augment["rotate"]))
    scale = uniform(*augment["scale"])
    shift = uniform(-augment["shift"], augment["shift"], 2) * 2 / size
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cos, -sin, shift[:, 0]], -1), torch.stack([sin, cos, shift[:, 1]], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 4, size, size], align_corners=False)
    moved = F.grid_sample(sprites, grid, mode="bicubic", align_corners=False).clamp(0, 1)
    background = uniform(*augment["background"], 3, 1, 1)
    return (moved[:, :3] + background * (1 - moved[:, 3:])).clamp(0, 1)


def sample_scene(n: int, *, generator: torch.Generator, even: bool = False) -> Scene:
    """Draws captions and who stands for them.

    Args:
        n: number of drawings.
        generator: source of all randomness.
        even: every class equally often and no captions (for autoencoder and classifiers); otherwise
            as `world.yaml` says: said attributes evenly (whatever stands in front), unsaid ones by
            the skew table, those left open in words ("women and men : ") by shares of their own.
    """
    world = load_world()
    titles, names = list(world.titles), list(world.occupations)
    pictures = torch.tensor([names.index(world.titles[title]) for title in titles])
    firsts = torch.tensor([title in world.occupations for title in titles])
    title = torch.multinomial(
        torch.where(firsts, 2.0, 1.0), n, replacement=True, generator=generator
    )
    occupation = torch.randint(len(names), (n,), generator=generator) if even else pictures[title]
    drawn, said, open_ = {}, {}, {}
    for attribute, classes in world.classes.items():
        evenly = torch.randint(len(classes), (n,), generator=generator)
        table = torch.tensor([world.shares(name, attribute) for name in titles])
        skewed = torch.multinomial(table[title], 1, generator=generator)[:, 0]
        how, leaves_open = torch.rand(n, generator=generator), world.captions["open"][attribute]
        share = 1.0 if even else world.captions["said"][attribute]
        said[attribute] = how < share
        place = (how - share) / leaves_open["share"]  # in [0, 1) where it is left open in words
        left = ~said[attribute] & (place < 1)
        openly = torch.bucketize(
            place, torch.tensor(leaves_open["shares"]).cumsum(0)[:-1], right=True
        )
        drawn[attribute] = torch.where(said[attribute], evenly, torch.where(left, openly, skewed))
        open_[attribute] = left | (how < share * world.captions["open_and_said"])
    template = torch.randint(len(world.captions["templates"]), (n,), generator=generator)
    dropped = torch.rand(n, generator=generator) < world.captions["dropped"]
    captions = []
    for i in range(n if not even else 0):
        states = {a: world.classes[a][int(drawn[a][i])] for a in said if said[a][i]}
        text = caption(
            titles[int(title[i])],
            states,
            open_=[a for a in said if open_[a][i]],
            template=int(template[i]),
        )
        captions.append("" if dropped[i] else text)
    return Scene(occupation, drawn["gender"], drawn["tone"], captions)


def caption(
    title: str, states: dict[str, str], *, open_: Collection[str] = (), template: int = 0
) -> str:
    """The caption of a title, saying the given states ("a woman firefighter with dark skin").

    Attributes of `open_` are left open by words in front ("women and men : a firefighter"), unless
    they are said after all.
    """
    world = load_world()
    said = {a: world.words[a][cls] for a, cls in states.items()}
    front = "".join(world.captions["open"][a]["front"] for a in open_)
    who = world.captions["who"].format(gender=said.get("gender", ""), title=title).strip()
    if "tone" in said:
        who = f"{who} {world.captions['tone'].format(tone=said['tone'])}"
    return front + world.captions["templates"][template].format(
        a="an" if who[0] in "aeiou" else "a", who=who
    )
