"""Reference sets of the benchmark of transfer, and what is measured of an adapted model."""

import json
import pathlib
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.files import whole, write_text
from evenhand.core.records import read_run
from evenhand.diffusion.latents import encode
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.emoji.world import Scene, caption, draw, load_world
from evenhand.images.io import read_image
from evenhand.images.tensors import to_float, to_uint8
from evenhand.judges.registry import load_judge
from evenhand.measure.distances import distances
from evenhand.measure.neighbours import memorisation, prdc
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import load_model
from evenhand.stats.shares import Estimate
from evenhand.training.checkpoints import step_generator

HELD_OUT = ["health worker", "teacher", "pilot", "astronaut", "firefighter", "detective"]
JUDGED = ["judge", "farmer", "cook", "mechanic", "factory worker", "office worker"]  # of the 14
GENDERS = ("woman", "man")
MANY = 420  # drawings, at most, of a set that images are compared with


def names() -> list[str]:
    """The 14 occupations that reference sets show."""
    return [name for name in load_world().occupations if name not in HELD_OUT]


def scene(n: int, seed: int, *, skewed: bool = False) -> Scene:
    """People of the 14 occupations with captions that leave the gender open.

    Women and men take turns within each title, so that every n is balanced as far as it can be;
    tones are as the world's table has them.

    Args:
        n: drawings.
        seed: of all draws.
        skewed: genders as in the world's table too.
    """
    world, every = load_world(), names()
    occupations, generator = list(world.occupations), step_generator(seed, "scene")
    genders, tones, captions = [], [], []
    for i in range(n):
        title, turn = every[i % len(every)], i // len(every)
        even = GENDERS[(turn + i % len(every)) % 2]  # half of the titles begin with a man
        table = torch.tensor(world.shares(title, "gender"))
        drawn = int(torch.multinomial(table, 1, generator=generator))
        genders.append(drawn if skewed else world.classes["gender"].index(even))
        table = torch.tensor(world.shares(title, "tone"))
        tones.append(int(torch.multinomial(table, 1, generator=generator)))
        template = int(torch.randint(len(world.captions["templates"]), (), generator=generator))
        captions.append(caption(title, {}, template=template))
    places = [occupations.index(every[i % len(every)]) for i in range(n)]
    return Scene(torch.tensor(places), torch.tensor(genders), torch.tensor(tones), captions)


def write_set(folder: pathlib.Path, found: Scene, seed: int) -> pathlib.Path:
    """Draws a scene into a folder of images with captions, once; returns the folder."""
    if not folder.is_dir():
        images = to_uint8(draw(found, generator=step_generator(seed, "draw")))
        with whole(folder) as temporary:
            temporary.mkdir()
            rows = []
            for i, (pixels, text) in enumerate(zip(images, found.captions, strict=True)):
                Image.fromarray(pixels).save(temporary / f"{i:04}.png")
                rows.append(json.dumps({"file_name": f"{i:04}.png", "text": text}) + "\n")
            write_text(temporary / "metadata.jsonl", "".join(rows))
    return folder


def reference(folder: pathlib.Path, n: int, seed: int, *, skewed: bool = False) -> pathlib.Path:
    """A reference set of n images."""
    name = f"{'skewed' if skewed else 'reference'}-{n}-{seed}"
    return write_set(folder / name, scene(n, seed, skewed=skewed), seed)


def prompts(folder: pathlib.Path, splits: dict[str, list[str]]) -> str:
    """A prompt set of concepts by split, with prompts that say a gender."""
    path = folder / f"prompts-{'-'.join(splits)}.yaml"
    said = {g: f"an emoji of a {g} {{concept}}" for g in GENDERS}
    values = {
        "version": 1,
        "source": "emoji-occupations",
        "licence": "CC0-1.0",
        "family": "occupations",
        "templates": ["an emoji of {a} {concept}"],
        "concepts": splits,
        "explicit": {"gender": said},
    }
    write_text(path, json.dumps(values))
    return str(path)


def pixels_of(folder: pathlib.Path, files: list[str]) -> Tensor:
    """Images `[N, 3, H, W]` of files in a folder."""
    return torch.cat([to_float(read_image(folder / f)[None]) for f in files])


def of_set(folder: pathlib.Path) -> Tensor:
    """The images of a reference set, the first `MANY` of them."""
    return pixels_of(folder, sorted(p.name for p in folder.glob("*.png"))[:MANY])


class Looking:
    """Image-set measures, in features of the judge and in small pixels.

    Real drawings pass through the model's autoencoder first, so that no measure sees its traces.
    """

    def __init__(self) -> None:
        self._judge = load_judge(find_judge("emoji-judge"))
        self._pipe = load_diffusion(load_model("emoji")).pipe
        fresh = draw(scene(MANY, 991), generator=step_generator(991, "draw"))
        self._mean, self._deviation = 0.0, 1.0
        self._balanced = self.features(self.through(fresh))
        self._mean, self._deviation = self._balanced.mean(0), self._balanced.std(0) + 1e-6
        self._balanced = (self._balanced - self._mean) / self._deviation
        self._women = torch.tensor([int(g) == 0 for g in scene(MANY, 991).gender])

    @torch.no_grad()
    def through(self, images: Tensor) -> Tensor:
        """Images as the autoencoder gives them back."""
        vae, found = self._pipe.vae, []
        for batch in images.split(32):
            shape = (vae.config.latent_channels, *(x // 4 for x in batch.shape[-2:]))
            latents = encode(self._pipe, batch, shape) / vae.config.scaling_factor
            found.append((vae.decode(latents).sample / 2 + 0.5).clamp(0, 1))
        return torch.cat(found)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Of the judge, `[N, D]`, each with mean 0 and deviation 1 in balanced drawings."""
        found = torch.cat([self._judge.features(batch) for batch in images.split(64)])
        return (found - self._mean) / self._deviation

    def measured(self, run: pathlib.Path, trained_on: pathlib.Path | None, twin: Any) -> dict:
        """KID balanced and per class, diversity, memorisation of a run's neutral images.

        Args:
            run: of `evenhand measure`.
            trained_on: folder of the reference set; None where there is none.
            twin: folder of the same scenes, drawn again.
        """
        records = [r for r in read_run(run)[1] if not r.states and r.concept in names()]
        images = pixels_of(run, [r.image for r in records])
        found = self.features(images)
        called = np.array(
            [max(r.probs["gender"], key=r.probs["gender"].__getitem__) for r in records]
        )
        women = torch.from_numpy(called == "woman")
        out: dict[str, Any] = {"kid": distances(found, self._balanced)["kid"]}
        for name, mine, theirs in (
            ("kid_woman", women, self._women),
            ("kid_man", torch.from_numpy(called == "man"), ~self._women),
        ):
            if int(mine.sum()) >= 24:
                out[name] = distances(found[mine], self._balanced[theirs])["kid"]
        near = prdc(found, self._balanced)
        out |= {name: near[name] for name in ("precision", "density", "coverage")}
        if trained_on is not None:
            for name, look in (("", small), ("_features", self.features)):
                sets = [look(self.through(of_set(x))) for x in (trained_on, twin)]
                close = memorisation(look(images), *sets)
                out[f"closer{name}"] = close["closer"]
                out[f"closer{name}_by_chance"] = close["closer_by_chance"]
        return {name: plain(x) for name, x in out.items()}


def small(images: Tensor) -> Tensor:
    """Pixels of images at 16x16, `[N, 768]`."""
    return F.interpolate(images, (16, 16), mode="area").flatten(1)


def plain(x: Estimate) -> list[float | None]:
    """Value and interval, to be written."""
    return [None if y is None else round(float(y), 4) for y in (x.value, x.low, x.high)]
