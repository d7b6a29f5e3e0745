"""Person emoji in three other drawing styles: data, and a judge that knows every style.

The parquet file holds 480 drawings (Twemoji, OpenMoji, Fluent 3D; licences in its README). Nothing
of it, nor the judge that is trained on it, belongs to the project.
"""

import functools
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image
from pyarrow import parquet
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from evenhand.core.files import write_text
from evenhand.diffusion.latents import round_trip
from evenhand.emoji.drawings import write_rows
from evenhand.emoji.world import load_sprites, load_world, on_background
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Judge
from evenhand.judges.registry import load_judge
from evenhand.judges.small_network import SmallNetwork
from evenhand.recipes.judge import find_judge
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.checkpoints import seeded, step_generator
from evenhand.training.fit import Passes, fit
from evenhand.training.phases import Phase

OWN = "noto"  # the style of the embedded world
ATTRIBUTES = ("style", "occupation", "gender", "tone")
COPIES, EPOCHS, SEED = 10, 14, 31  # of the judge: renderings of each drawing, passes, draws


class Cell(NamedTuple):
    """What a drawing shows."""

    style: str
    occupation: str
    gender: str
    tone: str


@functools.cache
def sprites(path: str) -> dict[Cell, Tensor]:
    """Drawings `[4, 64, 64]`, colour times alpha: of the file, and of the embedded world."""
    found = {}
    for row in parquet.read_table(path).to_pylist():
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1) / 255
        cell = Cell(*(row[a] for a in ATTRIBUTES))
        found[cell] = torch.cat([pixels[:3] * pixels[3:], pixels[3:]])
    world = load_world()
    occupations, classes = list(world.occupations), world.classes
    for i, occupation in enumerate(occupations):
        for j, gender in enumerate(classes["gender"]):
            for k, tone in enumerate(classes["tone"]):
                if gender != "person":
                    found[Cell(OWN, occupation, gender, tone)] = load_sprites()[i, j, k]
    return found


def rendered(path: str, cells: list[Cell], generator: torch.Generator) -> Tensor:
    """Renderings `[N, 3, 64, 64]` of drawings."""
    known = sprites(path)
    return on_background(torch.stack([known[cell] for cell in cells]), generator=generator)


def write_rendered(file: pathlib.Path, cells: list[Cell], images: Tensor) -> None:
    """Writes images and what they show as a parquet file."""
    rows = [
        {"image": Image.fromarray(pixels), **cell._asdict()}
        for cell, pixels in zip(cells, to_uint8(images), strict=True)
    ]
    write_rows(file, rows)


class Renderings(Dataset):
    """Renderings of every drawing, half of them through the autoencoder."""

    def __init__(self, path: str, pipe: Any, classes: dict[str, list[str]], seed: int) -> None:
        cells = sorted(sprites(path)) * COPIES
        images = rendered(path, cells, step_generator(seed, "judge"))
        half = len(cells) // 2
        images[:half] = round_trip(pipe, images[:half], at_once=64)
        self.pixels = torch.from_numpy(to_uint8(images))
        self.classes = {
            a: torch.tensor([names.index(getattr(cell, a)) for cell in cells])
            for a, names in classes.items()
        }

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"images": self.pixels[i], **{a: known[i] for a, known in self.classes.items()}}


def benchmark_judge(path: str, pipe: Any, folder: pathlib.Path) -> Judge:
    """The judge of the benchmark: style, occupation, gender and tone; trained once.

    It has seen every drawing, those of held-out tones too, and no image of a diffusion model. No
    clusters are found and nothing is trained by it.
    """
    world = load_world()
    classes = {
        "style": sorted({cell.style for cell in sprites(path)}),
        "occupation": list(world.occupations),
        "gender": [g for g in world.classes["gender"] if g != "person"],
        "tone": world.classes["tone"],
    }
    if not (folder / "judge.yaml").is_file():
        with seeded(SEED):
            network = SmallNetwork(architecture="strided", widths=[24, 40, 64, 80], classes=classes)
        fit(
            network.train(),
            Renderings(path, pipe, classes, SEED),
            lambda logits, batch: sum(F.cross_entropy(logits[a], batch[a]) for a in classes),
            phases=[Phase(Optimisation(learning_rate=3e-3, weight_decay=1e-3, warmup=0.1), EPOCHS)],
            passes=Passes(batch=64, seed=SEED, augment=_noisy),
            folder=folder,
        )
        network.save(folder / "network")
        config = {
            "kind": "emoji",
            "path": str((folder / "network").resolve()),
            "concept": "occupation",
            "seen": 0.5,
            "attributes": {a: {"classes": classes[a]} for a in ("style", "gender", "tone")},
        }
        write_text(folder / "judge.yaml", yaml.safe_dump(config, sort_keys=False))
    return load_judge(find_judge(str(folder / "judge.yaml")))


def _noisy(batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    images = batch["images"]
    noise = torch.rand(len(images), 1, 1, 1, generator=generator) * 0.06
    noise = noise * torch.randn(images.shape, generator=generator)
    return {**batch, "images": (images + noise).clamp(0, 1)}
