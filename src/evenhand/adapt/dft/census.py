"""What the training images were perceived as, over all steps.

It knows the prompts that showed nothing to judge, and the classes that were never drawn.
"""

import json
import pathlib
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from evenhand.adapt.dft.batches import Batch
from evenhand.adapt.dft.losses import Perceived
from evenhand.core.attributes import Attribute, Target
from evenhand.core.errors import UserError

BLIND_STEPS = (
    10  # steps in a row in which no image shows anything to judge, after which training stops
)
ENOUGH = 10  # images of a class asked for, from which on it is remarkable that none came


def count(batch: Batch, now: Perceived, known: Mapping[str, Attribute]) -> dict[str, Any]:
    """What a step's neutral images were perceived as.

    Returns:
        `classes`: counts of each attribute's classes; `prompts`: images of each, and how many of
        these were seen.
    """
    neutral = np.concatenate([group.rows for group in batch.groups])
    seen, probs = now.seen.cpu().numpy(), now.arrays()
    prompts: dict[str, list[int]] = {}
    for row in neutral:
        entry = prompts.setdefault(batch.prompts[row].text, [0, 0])
        entry[0] += 1
        entry[1] += int(seen[row])
    judged = neutral[seen[neutral]]
    return {
        "classes": {
            a: np.bincount(p[judged].argmax(-1), minlength=len(known[a].classes)).tolist()
            for a, p in probs.items()
        },
        "prompts": prompts,
    }


class Census:
    """The sum over the steps.

    Args:
        log: `log.jsonl` of the run, whose steps so far are counted in.
    """

    def __init__(self, log: pathlib.Path) -> None:
        self._classes: dict[str, np.ndarray] = {}
        self._images: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._blind = 0
        try:
            for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
                self._add(json.loads(line)["perceived"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{log}: is no log of this training ({type(error).__name__}: {error}); delete it: "
                "the training goes on without the steps that it tells of"
            ) from error

    def _add(self, perceived: dict[str, Any]) -> None:
        for a, numbers in perceived["classes"].items():
            self._classes[a] = self._classes.get(a, 0) + np.array(numbers)
        for prompt, (images, seen) in perceived["prompts"].items():
            self._images[prompt] += images
            self._seen[prompt] += seen
        self._blind = (
            0 if any(seen for _, seen in perceived["prompts"].values()) else self._blind + 1
        )

    def add(self, perceived: dict[str, Any], where: str) -> None:
        """Counts one step in.

        Raises:
            UserError: nothing was seen in any image for too long.
        """
        self._add(perceived)
        if self._blind == BLIND_STEPS:
            raise UserError(
                f"{where}: the classifier saw nothing to judge (no face, say) in any image of "
                f"{BLIND_STEPS} steps, "
                f"such as those of {next(iter(perceived['prompts']))!r}: look at the images of "
                "the base model with "
                "`evenhand measure`, and choose other prompts or another classifier"
            )

    def warn(self, targets: Mapping[str, Target], known: Mapping[str, Attribute]) -> None:
        """Warns of prompts that showed nothing to judge, and of classes that never came.

        Args:
            targets: of the neutral prompts, by text.
            known: attributes by name.
        """
        empty = [prompt for prompt in self._images if not self._seen[prompt]]
        if empty:
            named = ", ".join(map(repr, empty[:3])) + (", ..." if len(empty) > 3 else "")
            warnings.warn(
                f"{len(empty)} of {len(self._images)} prompts showed nothing to judge in any of "
                f"{sum(self._images[p] for p in empty)} images ({named}): nothing was learned "
                "from them; reword them, "
                "or leave them out",
                stacklevel=2,
            )
        for a, numbers in self._classes.items():
            wished = np.zeros(len(numbers))  # images of each class that were asked for
            for prompt, seen in self._seen.items():
                shares = targets[prompt].marginal(known[a], known) if prompt in targets else None
                wished += seen * np.array(shares or 0.0)
            for k in np.flatnonzero((numbers == 0) & (wished >= ENOUGH)):
                warnings.warn(
                    f"{a}: {known[a].classes[k]!r} is asked for and was perceived in none of "
                    f"{numbers.sum()} images: "
                    "there was no example to go by; check that the base model draws it when a "
                    "prompt says it, and that "
                    "the classifier knows it",
                    stacklevel=2,
                )
