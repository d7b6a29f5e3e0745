"""`evenhand demo`: the main job from end to end."""

from pathlib import Path
from typing import Annotated

from typer import Option

from evenhand.core.errors import UserError


def demo(
    quick: Annotated[
        bool, Option("--quick", help="Use the adapter that ships instead of training one.")
    ] = False,
    chain: Annotated[
        bool,
        Option("--chain", help="Go on from there to balanced images and to classifiers."),
    ] = False,
    out: Annotated[
        Path, Option(help="Where runs, adapter and report go; a cut demo is continued.")
    ] = Path("runs/demo"),
) -> None:
    """Measure a model, fine-tune it, measure again: on the embedded model, without network or GPU.

    Six occupations that the fine-tuning never saw are drawn before and after. Takes minutes on a
    laptop. With --chain it does `evenhand chain emoji`, which takes some times
    as long (`evenhand chain emoji --dry-run` says how long).

    Examples:
        evenhand demo

        evenhand demo --quick

        evenhand demo --chain
    """
    if chain and quick:
        raise UserError("--chain trains, --quick does not: leave one out")
    if chain:
        from evenhand.cli.chain import run as run_chain
        from evenhand.recipes.chain import load_chain

        run_chain(load_chain("emoji"), out / "chain", "emoji", command="evenhand chain emoji")
    else:
        _measure_twice(quick, out)


def _measure_twice(quick: bool, out: Path) -> None:
    """Measures before and after a fine-tuning, or with the adapter that ships."""
    from evenhand.cli.show import progress, tell
    from evenhand.cli.train import run
    from evenhand.core.adapters import find_adapter
    from evenhand.measure import measure
    from evenhand.recipes.dft import load_recipe
    from evenhand.recipes.measure import Measure
    from evenhand.reports.card import write_card
    from evenhand.reports.html import write_comparison

    recipe = load_recipe("dft/emoji-gender")
    out = out / "quick" if quick else out
    config = Measure(
        model="emoji",
        prompts=["emoji-occupations"],
        attributes=["gender"],
        splits=["test"],
        images=24 if quick else 48,
        explicit_images=4 if quick else 8,
        seed=7,
        target=recipe.target.shares,
    )
    with progress("measuring the model") as update:
        measure(config, out / "before", progress=update)
    adapter = "emoji-gender" if quick else str(run(recipe, out / "training", "dft/emoji-gender"))
    with progress("measuring with the adapter") as update:
        measure(config.model_copy(update={"adapter": adapter}), out / "after", progress=update)
    result = write_comparison(out / "before", out / "after", out)
    if not quick:
        write_card(find_adapter(adapter).folder, result)
    tell([result.before, result.after], result.change, [])
    print(f"adapter: {find_adapter(adapter).folder}\nreport:  {out / 'report.html'}")
