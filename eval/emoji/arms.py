"""The arms of the embedded benchmark of subgroups: what is trained, and what is drawn by it."""

import pathlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.metrics import adjusted_rand_score
from styles_data import OWN
from torch import Tensor

from evenhand.adapt import train
from evenhand.adapt.dreambooth.clusters import find_parts
from evenhand.adapt.dreambooth.groups import find_groups
from evenhand.core.adapter_sets import AdapterSet, Member, find_set
from evenhand.core.schema import read_json
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.images.tensors import to_float, to_uint8
from evenhand.judges.base import Judge, answers
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model
from evenhand.stats.shares import Estimate, wilson
from evenhand.training.checkpoints import step_generator

PLAIN = "a portrait of a {gender} {occupation} with {tone} skin"
AT_ONCE = 36


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
        overrides: of train/dreambooth/emoji; None where nothing is trained.
        one_style: the group's images are of one style.
        fresh: drawings through the autoencoder instead of images of a model.
    """

    overrides: list[str] | None = None
    one_style: bool = False
    fresh: bool = False


SETTINGS = ["checkpoint_every=1000"]  # of every arm
WITHOUT = ["token=null", f"images.caption={PLAIN}"]
ARMS = {
    "fresh drawings": Arm(fresh=True),
    "base": Arm(),
    "cluster": Arm(["per=cluster"]),
    "shared": Arm(["per=shared"]),
    "group": Arm(["per=group"]),
    "one style: cluster": Arm(["per=cluster"], one_style=True),
    "one style: group": Arm(["per=group"], one_style=True),
    "cluster, no token": Arm(["per=cluster", *WITHOUT]),
}


@dataclass(frozen=True)
class Plan:
    """What is drawn: of each image the occupation, the tone, and whether it is a class prompt.

    Attributes:
        occupations, tones: names, in the order in which they take turns.
        counts: of the images of the group, of the tones not trained on, and of the class prompt.
    """

    occupations: tuple[str, ...]
    tones: tuple[str, tuple[str, ...]]
    counts: tuple[int, int, int] = (144, 96, 48)

    def cells(self, part: int) -> list[tuple[str, str]]:
        """Occupation and tone of each image of a part."""
        tones = self.tones[1] if part == 1 else (self.tones[0],)
        kinds = [(occupation, tone) for tone in tones for occupation in self.occupations]
        return [kinds[i % len(kinds)] for i in range(self.counts[part])]


@dataclass(frozen=True)
class Drawn:
    """Images of one training, `[N, 3, 64, 64]` in [0, 1].

    Attributes:
        parts: the group's, those of tones not trained on, those of the class prompt; the last has
            none where that is not asked.
        members: number of the adapter that drew each image of each part.
    """

    parts: tuple[Tensor, Tensor, Tensor]
    members: tuple[Tensor, Tensor, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """As they are kept in a file: 8 bits a channel."""
        images = {f"images{i}": torch.from_numpy(to_uint8(x)) for i, x in enumerate(self.parts)}
        return images | {f"members{i}": x for i, x in enumerate(self.members)}

    @classmethod
    def of(cls, kept: dict[str, Tensor]) -> "Drawn":
        """From what is kept."""
        a, b, c = (to_float(kept[f"images{i}"]) for i in range(3))
        return cls((a, b, c), (kept["members0"], kept["members1"], kept["members2"]))


def trained(
    arm: Arm, file: pathlib.Path, folder: pathlib.Path, *, seed: int, steps: int
) -> dict[str, Any]:
    """Trains an arm's adapters; what is worth knowing of the training beside its images.

    Args:
        arm: with overrides.
        file: training images.
        folder: of this arm and seed.
        seed: of the training.
        steps: of all adapters together.

    Returns:
        processor seconds; the adjusted Rand index of the clusters and the styles, and the clusters'
        sizes and most frequent styles.
    """
    assert arm.overrides is not None
    pairs = [f"images.path={file}", f"steps={steps}", f"seed={seed}", *SETTINGS]
    began = time.process_time()
    train(load_training("dreambooth/emoji", [*pairs, *arm.overrides]), folder / "run")
    found = {"training_cpu_seconds": round(time.process_time() - began, 1)}
    clusters, styles = _clusters(folder), _styles(file)
    if any(number is not None for number in clusters):
        found |= {
            "adjusted_rand_index": round(float(adjusted_rand_score(styles, clusters)), 4),
            "clusters": _most_frequent(clusters, styles),
        }
    return found


def silhouettes(file: pathlib.Path, folder: pathlib.Path, seed: int) -> dict[int, float | None]:
    """Mean silhouette of the training images by the number of clusters, where it is left open."""
    pairs = [f"images.path={file}", f"seed={seed}", "clusters.k=null", "clusters.k_max=6"]
    recipe = load_training("dreambooth/emoji", pairs)
    find_parts(recipe, find_groups(recipe), folder)
    kept = read_json(folder / "clusters.json", what="clusters", advice="train again")
    return {row["k"]: row["silhouette"] for row in kept["tried"][0]}


def _styles(file: pathlib.Path) -> list[str]:
    """The style of each training image, in the order in which trainings number them."""
    return find_groups(load_training("dreambooth/emoji", [f"images.path={file}"])).rows["style"]


def _clusters(folder: pathlib.Path) -> list[int | None]:
    """The cluster of each training image, in the order of their numbers."""
    kept = read_json(folder / "run" / "clusters.json", what="clusters", advice="train again")
    return [row["cluster"] for row in sorted(kept["images"], key=lambda row: row["row"])]


def _most_frequent(clusters: list[Any], styles: list[str]) -> list[dict[str, Any]]:
    """Size and most frequent style of each cluster."""
    found = []
    for number in sorted(set(clusters)):
        own = Counter(s for s, c in zip(styles, clusters, strict=True) if c == number)
        found.append({"size": own.total(), "style": own.most_common(1)[0][0]})
    return found


def drawn_by(
    arm: Arm, plan: Plan, group: dict[str, str], folder: pathlib.Path, base: Diffusion, seed: int
) -> Drawn:
    """Draws what is planned: by the base model, or by each adapter of an arm its quota.

    Prompts of the group hold the adapter's token, those of the class prompt do not.
    """
    quotas = [[_seeds(seed, part, n), [0] * n] for part, n in enumerate(plan.counts)]
    members: list[tuple[int, Diffusion, str, str]] = [(0, base, PLAIN, "")]
    if arm.overrides is not None:
        found = find_set(folder / "run" / "adapter")
        for part, n in enumerate(plan.counts):
            quotas[part][1] = _quota(found, group, n, len(plan.occupations))
        members = [(i, *_loaded(found, member)) for i, member in enumerate(found.of(group))]
    images = [torch.zeros(n, 3, 64, 64) for n in plan.counts]
    for number, diffusion, text, token in members:
        for part in range(len(plan.counts)):
            seeds, quota = quotas[part]
            own = [i for i, member in enumerate(quota) if member == number]
            wording = PLAIN if part == 2 else text
            for places in (own[i : i + AT_ONCE] for i in range(0, len(own), AT_ONCE)):
                prompts = [
                    wording.format(**group | {"occupation": o, "tone": t}, token=token)
                    for o, t in (plan.cells(part)[i] for i in places)
                ]
                images[part][places] = diffusion.sample(prompts, [seeds[i] for i in places])
    a, b, c = (torch.tensor(quota) for _, quota in quotas)
    return Drawn((images[0], images[1], images[2]), (a, b, c))


def _loaded(found: AdapterSet, member: Member) -> tuple[Diffusion, str, str]:
    """A member's pipeline, its caption and its token."""
    diffusion = load_diffusion(load_model("emoji"), adapter=member.mix)
    return diffusion, found.described.caption, member.token


def _quota(found: AdapterSet, group: dict[str, str], n: int, turns: int) -> list[int]:
    """The number of the member that draws each image: of each occupation alike."""
    shares = list(found.weights(group).values())
    ends = torch.tensor(shares, dtype=torch.double).cumsum(0)
    places = (torch.arange(n // turns).double() + 0.5) / (n // turns)
    numbers = torch.bucketize(places, ends).clamp(max=len(shares) - 1)
    return [int(numbers[i // turns]) for i in range(n)]


def _seeds(seed: int, part: int, n: int) -> list[int]:
    return [int(step_generator(seed, "drawn", part, i).initial_seed() % 2**62) for i in range(n)]


def per_image(
    judge: Judge, images: Drawn, plan: Plan, folder: pathlib.Path, file: pathlib.Path
) -> dict[str, Estimate]:
    """Shares of images that show what their own prompt and adapter ask for, by the judge.

    `occupation_as_asked`; `tones: tone_as_asked` and `tones: occupation_as_asked`; for adapters of
    clusters `style_as_asked`, the most frequent style of the adapter's cluster; of the class prompt
    `class_prompt: own_style`, the share that is drawn in the embedded world's own style.
    """
    found = {}
    for part, name in ((0, ""), (1, "tones: ")):
        said = answers(judge, images.parts[part])
        occupations, tones = zip(*plan.cells(part), strict=True)
        for attribute, asked in (("occupation", occupations), ("tone", tones)):
            found[f"{name}{attribute}_as_asked"] = _right(judge, said.logits, attribute, asked)
        if learned := _learned(folder, file):
            asked = [learned[int(number)] for number in images.members[part]]
            found[f"{name}style_as_asked"] = _right(judge, said.logits, "style", asked)
    if len(images.parts[2]):
        said = answers(judge, images.parts[2])
        own = [OWN] * len(images.parts[2])
        found["class_prompt: own_style"] = _right(judge, said.logits, "style", own)
    return found


def _learned(folder: pathlib.Path, file: pathlib.Path) -> list[str]:
    """The most frequent style of each cluster, in the order of the members; none without them."""
    if not (folder / "run" / "clusters.json").is_file():
        return []
    clusters = _clusters(folder)
    if clusters[0] is None:
        return []
    return [entry["style"] for entry in _most_frequent(clusters, _styles(file))]


def _right(judge: Judge, logits: dict[str, Tensor], attribute: str, asked: Any) -> Estimate:
    """The share of images of which the judge calls what was asked for."""
    names = judge.classes(attribute)
    wanted = torch.tensor([names.index(name) for name in asked])
    return wilson(int((logits[attribute].argmax(-1) == wanted).sum()), len(wanted))
