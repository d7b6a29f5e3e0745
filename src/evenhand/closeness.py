"""What else changed between two runs on the same seeds: nearness of the images, agreement with the prompt, variety."""

import os
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.classifiers import load_classifier
from evenhand.errors import UserError
from evenhand.features import Clip, load_features
from evenhand.images import Unreadable, in_batches, read_images
from evenhand.recipes import Feature
from evenhand.records import Record
from evenhand.report import read_run
from evenhand.statistics import mean_over_prompts


def closeness(before: str | os.PathLike, after: str | os.PathLike, features: Sequence[Feature], *, batch: int = 64,
              device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Compares the images of two runs of `evenhand measure`.

    Args:
        before: run directory.
        after: another; images with the same prompt and seed are pairs.
        features: networks in which they are compared; `classifier` is the judge of the second run.
        batch: images embedded at a time.
        device: of the networks.

    Returns:
        by kind of features, estimates as dictionaries (means over prompts, intervals for prompts like these): `same_seed`, the
        cosine of paired images, 1 where nothing changed; `diversity_before` and `diversity_after`, one minus the mean cosine of two
        images of a prompt in which the same classes are perceived; for CLIP `prompt_before`, `prompt_after` and
        `prompt_change`, the cosine of image and prompt (CLIP-T).

    Raises:
        UserError: no pair, an image that is gone, or weights that cannot be had.
    """
    (_, a), (run_after, b) = read_run(before), read_run(after)
    pairs = {(r.prompt, r.seed): r for r in a}
    rows = [(pairs[r.prompt, r.seed], r) for r in b if (r.prompt, r.seed) in pairs]
    if not rows:
        raise UserError(f"{before} and {after} share no image (same prompt and seed)")
    found = {}
    for feature in features:
        judge = load_classifier(run_after["settings"]["judge"]["name"], device=device)
        (_, embed), = load_features([feature], judge, device=device)
        old, new = (_embedded(list(side), pathlib.Path(folder), embed, batch, device)
                    for side, folder in zip(zip(*rows, strict=True), (before, after), strict=True))
        prompts = [r.prompt for r, _ in rows]
        entry = {"same_seed": _over(prompts, (old * new).sum(-1).tolist()),
                 "diversity_before": _variety([r for r, _ in rows], old), "diversity_after": _variety([r for _, r in rows], new)}
        if isinstance(embed, Clip):
            texts = dict(zip(dict.fromkeys(prompts), embed.texts(list(dict.fromkeys(prompts))).cpu(), strict=True))
            asked = torch.stack([texts[p] for p in prompts])
            fits = [(x * asked).sum(-1) for x in (old, new)]
            entry |= {"prompt_before": _over(prompts, fits[0].tolist()), "prompt_after": _over(prompts, fits[1].tolist()),
                      "prompt_change": _over(prompts, (fits[1] - fits[0]).tolist())}
        found[feature.kind] = entry
    return found


@torch.no_grad()
def _embedded(records: list[Record], folder: pathlib.Path, embed: Any, batch: int, device: str) -> Tensor:
    """Unit features `[N, D]` of the records' images, in their order."""
    result: list[Tensor | None] = [None] * len(records)
    numbers: dict[pathlib.Path, list[int]] = defaultdict(list)
    for i, r in enumerate(records):
        numbers[folder / r.image].append(i)

    def readable() -> Any:
        for path, image in read_images(numbers):
            if isinstance(image, Unreadable):
                raise UserError(f"{path}: {image}; images are compared as files, measure that run anew")
            yield path, image

    for paths, images in in_batches(readable(), batch):
        for path, vector in zip(paths, F.normalize(embed(images.to(device)).flatten(1).float(), dim=-1).cpu(), strict=True):
            for i in numbers[path]:
                result[i] = vector
    return torch.stack([x for x in result if x is not None])


def _variety(records: list[Record], vectors: Tensor) -> dict[str, Any]:
    """One minus the mean cosine of two images of one prompt with the same perceived classes."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, r in enumerate(records):
        if r.seen:
            groups[(r.prompt, *sorted(r.perceived.items()))].append(i)
    prompts, values = [], []
    for (prompt, *_), rows in groups.items():
        if (n := len(rows)) > 1:
            together = vectors[rows].sum(0)
            prompts.append(prompt)
            values.append(1 - float(together @ together - n) / (n * (n - 1)))
    return _over(prompts, values)


def _over(prompts: list[str], values: list[float]) -> dict[str, Any]:
    """Mean over prompts of the means within them."""
    groups: dict[str, list[float]] = defaultdict(list)
    for prompt, value in zip(prompts, values, strict=True):
        groups[prompt].append(value)
    return mean_over_prompts([float(np.mean(v)) for v in groups.values()]).as_dict()
