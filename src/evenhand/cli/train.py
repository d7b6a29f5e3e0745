"""`evenhand train`: fine-tune a model towards a target distribution."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.options import Overrides, RunDirectory

if TYPE_CHECKING:
    from evenhand.recipes.dft import Dft


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
    """
    from evenhand.recipes.dft import load_recipe

    settings = load_recipe(recipe, overrides)
    name = Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe
    folder = out or Path("runs/train") / name
    if dry_run:
        _dry(settings, folder)
        return
    adapter = run(settings, folder, name)
    if os.environ.get("RANK", "0") == "0":
        print(f"adapter: {adapter}")


def _dry(settings: "Dft", folder: Path) -> None:
    """Prints the resolved recipe and what it will cost."""
    import yaml

    from evenhand.core.errors import UserError

    print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--dry-run takes one process")
    from evenhand.adapt.dft.cost import cost

    found = cost(settings)
    several = f"{settings.runs} runs of " if settings.runs > 1 else ""
    print(
        f"# into {folder}: {found.parameters:,} trainable parameters, {several}{settings.steps} "
        f"steps\n"
        f"# a step: {found.images} images, {found.calls[0]} denoiser calls without and "
        f"{found.calls[1]} with gradients\n"
        f"# about {found.seconds / 60:.1f} minutes, {found.memory / 2**30:.1f} GiB at most "
        "(from two steps)"
    )


def run(settings: "Dft", folder: Path, name: str) -> Path:
    """Trains with a progress bar that shows the running gap."""
    from evenhand.adapt.dft.finetune import finetune
    from evenhand.cli.show import progress

    with progress("training") as update:
        gaps: dict[str, float] = {}

        def show(done: int, row: dict[str, float]) -> None:
            for key, value in row.items():
                if key.startswith("gap/"):
                    gaps[key] = value if key not in gaps else 0.8 * gaps[key] + 0.2 * value
            note = ", ".join(f"{k.removeprefix('gap/')} gap {v:.2f}" for k, v in gaps.items())
            update(done, settings.steps * settings.runs, f"{note}, loss {row['alignment']:.2f}")

        return finetune(settings, folder, name=name, progress=show)
