"""`evenhand reference`: a balanced reference set for transfer, drawn by the model itself."""

from evenhand.cli.generate import RecipeName
from evenhand.cli.options import Overrides, RunDirectory, again, named_and_placed


def reference(recipe: RecipeName, overrides: Overrides = None, out: RunDirectory = None) -> None:
    """Draw a balanced reference set for `evenhand train fairtl/...`, with neutral captions.

    The model draws prompts that say a class, the judge takes those that show it, and each image is
    captioned with the same prompt without the class. Takes the recipes of `evenhand generate`.
    Killed at any moment, the same command goes on.

    Examples:
        evenhand reference emoji-reference

        evenhand reference emoji-reference per_cell=4 --out runs/reference/small

        evenhand train fairtl/emoji images.path=runs/reference/emoji-reference/reference.parquet
    """
    from evenhand.cli.show import progress
    from evenhand.generate.reference import reference as make
    from evenhand.recipes.generate import load_generate

    config = load_generate(recipe, overrides or [])
    _, folder = named_and_placed("reference", recipe, out)
    command = again("reference", recipe, overrides)
    with progress("drawing") as update:
        file = make(config, folder, progress=update, command=command)
    print(f"reference set: {file}; where it is from: {folder / 'reference.json'}")
