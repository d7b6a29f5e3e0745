"""What else changed between two runs: nearness of the images, prompt agreement, variety."""

import importlib.util
import os
import pathlib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import UserError
from evenhand.core.records import Record, read_run
from evenhand.devices import default_device
from evenhand.features.networks import Clip, load_features
from evenhand.images.folders import files_in
from evenhand.images.io import Unreadable, read_images
from evenhand.images.tensors import in_batches, refuse_not_finite
from evenhand.judges.registry import load_judge
from evenhand.measure.distances import distances
from evenhand.recipes.features import Feature
from evenhand.recipes.judge import find_judge
from evenhand.reports.changes import Closeness
from evenhand.stats.means import mean_over_prompts
from evenhand.stats.shares import Estimate


def closeness(
    before: str | os.PathLike,
    after: str | os.PathLike,
    features: Sequence[Feature],
    *,
    reference: str | os.PathLike | None = None,
    batch: int = 64,
    device: str | torch.device | None = None,
) -> dict[str, Closeness]:
    """Compares the images of two runs of `evenhand measure`.

    Args:
        before: run directory.
        after: another; images with the same prompt and seed are pairs.
        features: networks in which they are compared; `classifier` is the judge of the second run.
        reference: folder of images as they should look, photographs for instance; needs
            torchmetrics.
        batch: images embedded at a time.
        device: of the networks; an accelerator where there is one, when None.

    Returns:
        by kind of features. The prompt's cosines are there for CLIP, distances of all images
        (`distances`) with a reference.

    Raises:
        UserError: no pair, an image that is gone, a reference without images, or weights or a
            package that cannot be had.
    """
    (_, a), (run_after, b) = read_run(before), read_run(after)
    pairs = {(r.prompt, r.seed): r for r in a}
    rows = [(pairs[r.prompt, r.seed], r) for r in b if (r.prompt, r.seed) in pairs]
    if not rows:
        raise UserError(f"{before} and {after} share no image (same prompt and seed)")
    real = _reference(reference, features) if reference else []
    found = {}
    device = torch.device(device or default_device())
    judge = load_judge(find_judge(run_after["settings"]["judge"]["name"]), device=device)
    for feature in features:
        ((_, embed),) = load_features([feature], judge.features, device=device)
        old, new = (
            _embedded([pathlib.Path(folder) / r.image for r in side], embed, batch, device)
            for side, folder in zip(zip(*rows, strict=True), (before, after), strict=True)
        )
        entry: dict[str, Estimate] = {}
        if real:
            photographs = _embedded(real, embed, batch, device, skip=True)
            entry = {
                f"{name}_{when}": x
                for when, side in (("before", old), ("after", new))
                for name, x in distances(side, photographs).items()
            }
        entry |= _paired(rows, F.normalize(old, dim=-1), F.normalize(new, dim=-1), embed)
        found[feature.kind] = Closeness(**entry)
    return found


def _paired(
    rows: list[tuple[Record, Record]], old: Tensor, new: Tensor, embed: Any
) -> dict[str, Any]:
    """What pairs of images tell of nearness, variety and, of CLIP, agreement with their prompts.

    Args:
        rows: N pairs.
        old: `[N, D]`, unit vectors of the images before.
        new: of those after.
        embed: by which they were embedded.
    """
    concepts = [r.concept for r, _ in rows]
    entry = {
        "same_seed": _over(concepts, (old * new).sum(-1).tolist()),
        "diversity_before": _variety([r for r, _ in rows], old),
        "diversity_after": _variety([r for _, r in rows], new),
    }
    if isinstance(embed, Clip):
        prompts = list(dict.fromkeys(r.prompt for r, _ in rows))
        texts = dict(zip(prompts, embed.texts(prompts).cpu(), strict=True))
        asked = torch.stack([texts[r.prompt] for r, _ in rows])
        fits = [(x * asked).sum(-1) for x in (old, new)]
        entry |= {
            "prompt_before": _over(concepts, fits[0].tolist()),
            "prompt_after": _over(concepts, fits[1].tolist()),
            "prompt_change": _over(concepts, (fits[1] - fits[0]).tolist(), (-2, 2)),
        }
    return entry


def _reference(folder: str | os.PathLike, features: Sequence[Feature]) -> list[pathlib.Path]:
    """The reference's files; what stands against using them is said before anything is loaded."""
    if any(f.kind == "pixels" for f in features):
        raise UserError(
            "--reference: no distance is computed in pixels; name classifier, clip or dino"
        )
    if importlib.util.find_spec("torchmetrics") is None:
        raise UserError("--reference needs torchmetrics: pip install 'evenhand[fidelity]'")
    return files_in(folder)


@torch.no_grad()
def _embedded(
    files: list[pathlib.Path], embed: Any, batch: int, device: torch.device, *, skip: bool = False
) -> Tensor:
    """Features `[N, D]` of image files, in their order.

    What cannot be read is an error, or is left out with a warning.
    """
    result: list[Tensor | None] = [None] * len(files)
    numbers: dict[pathlib.Path, list[int]] = defaultdict(list)
    for i, file in enumerate(files):
        numbers[file].append(i)

    def readable() -> Any:
        for path, image in read_images(numbers):
            if isinstance(image, Unreadable) and skip:
                warnings.warn(f"{path}: {image}; left out of the reference", stacklevel=2)
                continue
            if isinstance(image, Unreadable):
                raise UserError(
                    f"{path}: {image}; images are compared as files, measure that run anew"
                )
            yield path, image

    for paths, images in in_batches(readable(), batch, device=device):
        vectors = embed(images).flatten(1).float().cpu()
        refuse_not_finite(vectors, "the images' features", "their network's weights are damaged")
        for path, vector in zip(paths, vectors, strict=True):
            for i in numbers[path]:
                result[i] = vector
    found = [x for x in result if x is not None]
    if not found:
        raise UserError(f"{files[0].parent}: none of {len(files)} images can be read")
    return torch.stack(found)


def _variety(records: list[Record], vectors: Tensor) -> Estimate:
    """One minus the mean cosine of two images of one prompt with the same perceived classes."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, r in enumerate(records):
        if r.seen:
            groups[(r.prompt, *sorted(r.perceived.items()))].append(i)
    concepts, values = [], []
    for rows in groups.values():
        if (n := len(rows)) > 1:
            together = vectors[rows].sum(0)
            concepts.append(records[rows[0]].concept)
            values.append(1 - float(together @ together - n) / (n * (n - 1)))
    return _over(concepts, values, (0, 2))


def _over(
    concepts: list[str], values: list[float], within: tuple[float, float] = (-1, 1)
) -> Estimate:
    """Mean over the prompts' concepts of the means within them.

    Cosines unless other bounds are given.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for concept, value in zip(concepts, values, strict=True):
        groups[concept].append(value)
    return mean_over_prompts([float(np.mean(v)) for v in groups.values()], within=within)
