"""What adapters of a subgroup have learned: their images, held against the group's own.

`measured` takes the images of one training; `reported` puts several seeds together.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import UserError
from evenhand.diffusion.latents import round_trip
from evenhand.judges.base import Judge, answers
from evenhand.measure.distances import distances
from evenhand.measure.neighbours import coverage_if_alike, memorisation, neighbours
from evenhand.reports.group_models import Cost, GroupReport
from evenhand.stats.groups import over_seeds
from evenhand.stats.shares import Estimate, wilson

WITHIN = {  # the least and the largest value of what is no share, whatever stands before ": "
    "kid": (-float("inf"), float("inf")),
    "same_seed": (-1.0, 1.0),
    "density": (0.0, float("inf")),
    "ratio": (0.0, float("inf")),
}
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GroupImages:
    """The images of one group, `[N, 3, H, W]` in [0, 1] each.

    Attributes:
        drawn: by the group's adapters.
        held_out: the group's own that no adapter was trained on.
        training: that they were trained on.
        group: what all of them show, `{"gender": "woman"}`.
        clusters: name of the cluster of each held-out image; none when empty.
        class_prompt: images of a prompt without the adapters' token: by the model as it was, and by
            the adapters, with the same seeds; None where that is not asked.
    """

    drawn: Tensor
    held_out: Tensor
    training: Tensor
    group: Mapping[str, str] = field(default_factory=dict)
    clusters: Sequence[str] = ()
    class_prompt: tuple[Tensor, Tensor] | None = None


def measured(
    images: GroupImages, embed: Embed, *, judge: Judge | None = None, pipe: Any = None, k: int = 5
) -> dict[str, Estimate]:
    """Holds a group's drawn images against its held-out and its training images.

    - `kid`, `precision`, `recall`, `density`, `coverage` to the held-out images; a smear has a
      large recall, so look at the others first.
    - `clusters_covered`: share of the clusters whose coverage is at least half of that of alike
      sets; `coverage: NAME` of each.
    - `closer`, `ratio`, `closer_by_chance`: `evenhand.measure.neighbours.memorisation`.
    - `as_asked: ATTRIBUTE`: share of the drawn images of which the judge says what the group is.
    - `drift: kid`, `drift: same_seed` (mean cosine), `drift: ATTRIBUTE` (share of the images whose
      perceived class has changed): of the class prompt.

    Args:
        images: of one training.
        embed: images to features, in which they are compared.
        judge: independent of the training; None asks nothing of one.
        pipe: through whose autoencoder held-out and training images are passed, so that it is not
            measured as well; None where they were passed already.
        k: as in `neighbours`.

    Raises:
        UserError: too few images, or a group of an attribute that the judge does not know.
    """
    passed = (lambda x: round_trip(pipe, x)) if pipe is not None else (lambda x: x)
    drawn, held_out, training = (
        _embedded(x, embed)
        for x in (images.drawn, passed(images.held_out), passed(images.training))
    )
    near = neighbours(drawn, held_out, k=k)
    found = {"kid": distances(drawn, held_out)["kid"], **near.estimates()}
    if images.clusters:
        alike = coverage_if_alike(len(drawn), len(held_out), k)
        found |= _of_clusters(near.covered, images.clusters, alike)
    found |= memorisation(drawn, training, held_out)
    if judge:
        found |= _as_asked(judge, images.drawn, images.group)
    if images.class_prompt:
        found |= _drift(images.class_prompt, embed, judge)
    return found


def reported(
    seeds: Mapping[int, dict[str, Estimate]],
    images: GroupImages,
    *,
    judge: Judge | None = None,
    k: int = 5,
    adapters: Mapping[int, dict[str, Cost]] | None = None,
) -> GroupReport:
    """Puts several trainings together.

    Args:
        seeds: what `measured` found, by the seed of the training.
        images: of any of them: their numbers and the group.
        judge: as in `measured`.
        k: as in `measured`.
        adapters: what each takes (`costs`), by seed.

    Raises:
        UserError: no training, or trainings of which not the same was measured.
    """
    rows = list(seeds.values())
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise UserError("trainings to be put together: give one or more, measured alike")
    return GroupReport(
        group=dict(images.group),
        judge=judge.name if judge else None,
        k=k,
        drawn=len(images.drawn),
        held_out=len(images.held_out),
        trained_on=len(images.training),
        coverage_if_alike=coverage_if_alike(len(images.drawn), len(images.held_out), k),
        seeds=list(seeds),
        numbers={name: together([row[name] for row in rows], name) for name in rows[0]},
        per_seed=rows,
        adapters={seed: dict(found) for seed, found in (adapters or {}).items()},
    )


def together(estimates: Sequence[Estimate], name: str = "") -> Estimate:
    """The mean of what several trainings have under one name, for other seeds and images."""
    rows = [
        (e.value, e.value if e.low is None else e.low, e.value if e.high is None else e.high)
        for e in estimates
        if e.value is not None
    ]
    if not rows:
        return Estimate(None, None, None, 0)
    values, lows, highs = zip(*rows, strict=True)
    n, within = estimates[0].n, WITHIN.get(name.rpartition(": ")[2], (0.0, 1.0))
    return over_seeds(values, lows, highs, n=n, within=within)


def costs(run: str | os.PathLike) -> dict[str, Cost]:
    """Training time and size of each adapter in a training's folder, by name.

    Of a training of several adapters (`parts/NAME`, `adapter/NAME`) or of one. What is trained
    together with others, such as the learned tokens of a set, has no time of its own.
    """
    run, found = pathlib.Path(run), {}
    folders = [x for x in sorted((run / "adapter").glob("*")) if any(x.glob("*.safetensors"))]
    for folder in folders or [run / "adapter"]:
        log = (run / "parts" / folder.name if folders else run) / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        seconds = [row["seconds"] for row in map(json.loads, lines) if "seconds" in row]
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        found[folder.name] = Cost(seconds=sum(seconds) if seconds else None, bytes=size)
    return found


@torch.no_grad()
def _embedded(images: Tensor, embed: Embed) -> Tensor:
    return torch.cat([embed(part).flatten(1).float().cpu() for part in images.split(64)])


def _of_clusters(covered: Tensor, names: Sequence[str], alike: float) -> dict[str, Estimate]:
    """Coverage of each cluster of the held-out images, and the share of clusters covered."""
    found = {}
    for name in sorted(set(names)):
        own = covered[torch.tensor([other == name for other in names])]
        found[f"coverage: {name}"] = wilson(int(own.sum()), len(own))
    enough = [e.value is not None and e.value >= alike / 2 for e in found.values()]
    return {
        "clusters_covered": Estimate(sum(enough) / len(enough), None, None, len(enough)),
        **found,
    }


def _as_asked(judge: Judge, drawn: Tensor, group: Mapping[str, str]) -> dict[str, Estimate]:
    """Share of the images that show what the group is, by the judge, of those it saw."""
    found, said = {}, answers(judge, drawn)
    for attribute, cls in group.items():
        if attribute not in said.logits:
            raise UserError(
                f"judge {judge.name!r} knows nothing of {attribute!r}, which tells the group; "
                f"it knows {', '.join(said.logits)}"
            )
        called = said.logits[attribute].argmax(-1)[said.seen]
        right = int((called == judge.classes(attribute).index(cls)).sum())
        found[f"as_asked: {attribute}"] = wilson(right, len(called))
    return found


def _drift(pair: tuple[Tensor, Tensor], embed: Embed, judge: Judge | None) -> dict[str, Estimate]:
    """How far the class prompt's images have moved, with the same seeds."""
    before, after = (_embedded(x, embed) for x in pair)
    cosines = F.cosine_similarity(before, after).double()
    half = 1.96 * float(cosines.std()) / len(cosines) ** 0.5
    mean = float(cosines.mean())
    found = {
        "drift: kid": distances(after, before)["kid"],
        "drift: same_seed": Estimate(mean, mean - half, min(mean + half, 1.0), len(cosines)),
    }
    if judge:
        old, new = (answers(judge, x) for x in pair)
        for attribute in old.logits:
            changed = old.logits[attribute].argmax(-1) != new.logits[attribute].argmax(-1)
            found[f"drift: {attribute}"] = wilson(int(changed.sum()), len(changed))
    return found
