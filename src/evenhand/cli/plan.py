"""`evenhand plan`: how many images for an interval of a given width?"""

from typing import Annotated

from typer import Option


def plan(
    width: Annotated[
        float,
        Option(
            help="Half the width of the interval wished for: .05 for +- .05.", min=0.005, max=0.49
        ),
    ] = 0.05,
    prompts: Annotated[int, Option(help="Number of prompts.", min=1)] = 50,
    spread: Annotated[
        float, Option(help="Standard deviation of the share between prompts.", min=0, max=0.5)
    ] = 0.3,
) -> None:
    """How many images does an answer take?

    Examples:
        evenhand plan --width .05 --prompts 50
    """
    from rich.table import Table

    from evenhand.cli.show import console
    from evenhand.stats.stopping import (
        LOOK,
        half_width_over_prompts,
        images_for,
        prompts_for,
        typical_stop,
    )

    each = images_for(width)
    table = Table(
        box=None,
        header_style="bold",
        title=f"For +- {width:g} (95 %), {prompts} prompts",
        title_justify="left",
    )
    for heading in ("what is to be known", "images a prompt", "images in all"):
        table.add_column(heading, justify="left" if heading.startswith("what") else "right")
    pooled = -(-each // prompts)
    table.add_row("the share in every prompt, whatever it is", str(each), f"{each * prompts:,}")
    for share in (0.5, 0.25, 0.1, 0.05):
        stop = typical_stop(share, width, every=LOOK)
        table.add_row(
            f"  the same with --until {width:g}, where the share is {share:g}",
            f"{stop:.0f}",
            f"{stop * prompts:,.0f}",
        )
    table.add_row("the mean share over exactly these prompts", str(pooled), f"{pooled * prompts:,}")
    console.print(table)
    reached = half_width_over_prompts(spread, prompts)
    need = prompts_for(width, spread)
    print(
        f"The mean for prompts like these: no number of images gets below +- {reached:.3f} with "
        f"{prompts} prompts whose shares "
        f"spread by {spread:g}; +- {width:g} takes {need} prompts."
    )
