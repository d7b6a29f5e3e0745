"""`evenhand compare`: what changed between two runs?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.accept import hold, readable
from evenhand.cli.options import Accept, Features, NoImages

if TYPE_CHECKING:
    from evenhand.reports.changes import Closeness


def compare(
    before: Annotated[Path, Argument(help="Run directory of `evenhand measure`.")],
    after: Annotated[Path, Argument(help="Another, of the same prompts and seed.")],
    features: Features = None,
    reference: Annotated[
        Path | None,
        Option(
            help="With --features: folder of images as they should look; how far "
            "both runs are from it (KID, FID)."
        ),
    ] = None,
    card: Annotated[
        Path | None,
        Option(help="Write the card of this adapter, which AFTER was measured with."),
    ] = None,
    accept: Accept = None,
    no_images: NoImages = False,
    out: Annotated[Path | None, Option(help="Where the report goes.")] = None,
) -> None:
    r"""Compare two measured runs image by image: the same seeds, or the same photographs.

    By one judge: what changed. The same images by two judges: how far these agree (the share of
    images of which both say the same, Cohen's kappa). With --features also nearness and variety.

    Examples:
        evenhand compare runs/measure/emoji-emoji-occupations \
            runs/measure/emoji-emoji-occupations-emoji-gender

        evenhand compare RUN_BEFORE RUN_AFTER --features clip --features dino --reference PHOTOS

        evenhand compare RUN_BEFORE RUN_AFTER --card runs/train/dft/gender-sd15/adapter

        evenhand measure --images-from photographs --judge siglip-faces --out RUN_A
        evenhand measure --images-from photographs --judge clip-faces --out RUN_B
        evenhand compare RUN_A RUN_B
    """
    from evenhand.cli.show import tell, tell_page
    from evenhand.core.errors import UserError
    from evenhand.reports.card import card_of, write_card
    from evenhand.reports.html import may_hold_comparison, write_comparison

    out = out or Path("runs/compare") / f"{before.resolve().name}-{after.resolve().name}"
    may_hold_comparison(out)
    rules = readable(accept)
    if reference and not features:
        raise UserError("--reference: say with --features in what the images are compared")
    adapter = card_of(card, before, after) if card else None
    near = _near(before, after, features, reference) if features else None
    result = write_comparison(before, after, out, closeness=near, pictures=not no_images)
    tell([result.before, result.after], result.change, result.notes)
    if adapter:
        write_card(adapter, result)
    tell_page(out / "report.html", [result.before, result.after], not no_images)
    hold(rules, result)


def _near(
    before: Path, after: Path, features: list[str], reference: Path | None
) -> "dict[str, Closeness]":
    """The comparison of the images in the features that were named."""
    from evenhand.cli.options import features_of
    from evenhand.measure.closeness import closeness
    from evenhand.reports.comparison import compare as compare_runs

    named = features_of(features)
    compare_runs(before, after)  # what stands against it is said before networks are loaded
    return closeness(before, after, named, reference=reference)
