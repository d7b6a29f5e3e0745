"""How far a training is, in words: the gap that its images had lately, or its loss."""

from collections.abc import Callable

from evenhand.core.schema import Strict
from evenhand.training.run_directory import Progress

SHOWN = ("loss", "said", "keep", "biased", "prior")  # besides gaps: losses of trainings on images
NEW = 0.2  # weight of a step's number in what is shown


def in_words(recipe: Strict, update: Callable[[int, int, str], None]) -> Progress:
    """What `evenhand.adapt.train` takes as progress: numbers of steps as a note.

    Args:
        recipe: of the training.
        update: called with (steps done, steps in all, note).
    """
    smooth: dict[str, float] = {}
    total = getattr(recipe, "steps", 0) * getattr(recipe, "runs", 1)

    def show(done: int, row: dict[str, float]) -> None:
        if "drawn" in row:
            update(done, total, f"{row['drawn']:.0f} of the model's own images")
            return
        if "probed" in row:
            note = f"{row['probed']:.0f} of {row['of']:.0f} steps that find the first layers"
            update(done, total, note)
            return
        for key, value in row.items():
            if key.startswith("gap/") or key in SHOWN:
                before = smooth.get(key, value)
                smooth[key] = (1 - NEW) * before + NEW * value
        note = ", ".join(
            f"{k.removeprefix('gap/')} gap {v:.2f}" if k.startswith("gap/") else f"{k} {v:.3f}"
            for k, v in smooth.items()
        )
        if "alignment" in row:
            note += f", loss {row['alignment']:.2f}"
        update(done, total, note)

    return show
