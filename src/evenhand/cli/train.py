"""`evenhand train`: fine-tune a model, towards a target distribution or on images."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.options import Overrides, RunDirectory, named_and_placed

if TYPE_CHECKING:
    from evenhand.recipes.methods import Training


def train(
    recipe: Annotated[
        str, Argument(help="METHOD/RECIPE that ships (`evenhand list`), or a YAML file.")
    ],
    overrides: Overrides = None,
    out: RunDirectory = None,
    dry_run: Annotated[
        bool,
        Option(
            "--dry-run", help="Print the resolved recipe and what it will cost, from two steps."
        ),
    ] = False,
) -> None:
    """Fine-tune a model and write an adapter that any diffusers loads.

    Killed at any moment, the same command goes on from its last checkpoint and gives the same
    weights. Several processes (accelerate launch; torchrun without GPUs) share the images of a step
    and give the weights of one.

    Examples:
        evenhand train dft/emoji-gender

        evenhand train dft/emoji-gender steps=40 optimisation.learning_rate=1e-3

        accelerate launch --num_processes 2 -m evenhand train dft/emoji-gender

        evenhand train lora/folder images.path=PICTURES model=sdxl

        evenhand train fairtl/sd15 images.path=BALANCED

        evenhand train dreambooth/folder images.path=PICTURES --dry-run
    """
    from evenhand.recipes.methods import load_training

    settings = load_training(recipe, overrides)
    name, folder = named_and_placed("train", recipe, out)
    if dry_run:
        _dry(settings, folder)
        return
    adapter = run(settings, folder, name)
    if os.environ.get("RANK", "0") == "0":
        print(f"{adapter.name}: {adapter}")  # of all weights it is a model


def _dry(settings: "Training", folder: Path) -> None:
    """Prints the resolved recipe and what it will cost."""
    import yaml

    from evenhand.adapt.cost import cost
    from evenhand.core.errors import UserError
    from evenhand.recipes.dft import Dft

    print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--dry-run takes one process")
    page = folder.with_name(f"{folder.name}-clusters.html")
    found = cost(settings, page)
    several = f"{settings.runs} runs of " if isinstance(settings, Dft) and settings.runs > 1 else ""
    print(
        f"# into {folder}: {found.parameters:,} trainable parameters, {several}{settings.steps} "
        f"steps\n# {found.step}\n"
        f"# about {found.seconds / 60:.1f} minutes, {found.memory / 2**30:.1f} GiB at most "
        "(from two steps)"
    )
    if found.drawing:
        print(f"# {found.drawing / 60:.1f} minutes of them to draw images of the model's own")
    if found.clusters:
        print(f"# images: {', '.join(f'{name}: {n}' for name, n in found.clusters.items())}")
        if page.is_file():
            print(f"# look at the clusters: {page}")


def run(settings: "Training", folder: Path, name: str) -> Path:
    """Trains with a progress bar that shows the running gap, or the loss."""
    from evenhand.adapt import train as train_it
    from evenhand.adapt.progress import in_words
    from evenhand.cli.show import progress

    with progress("training") as update:
        return train_it(settings, folder, name=name, progress=in_words(settings, update))
