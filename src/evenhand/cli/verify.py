"""`evenhand verify`: is an adapter what its card says?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from evenhand.cli import measure_options as opt
from evenhand.cli.accept import readable
from evenhand.cli.options import Accept

if TYPE_CHECKING:
    from evenhand.publish.verification import Verification
    from evenhand.publish.verify import Verified


Name = Annotated[str, Argument(help="An adapter that ships (`evenhand list`), or a folder.")]
Model = Annotated[str | None, Option(help="Base model. Default: the one that the card names.")]
Prompts = Annotated[
    list[str] | None,
    Option(
        help="Prompt set; may be repeated. Default: the card's, or held-out prompts of the recipe "
        "where there is no card yet."
    ),
]
Images = Annotated[
    int | None,
    Option(help="Images of each prompt that leaves the class open. Default: the card's."),
]
Seed = Annotated[
    int | None,
    Option(help="Number that every image's seed is made from. Default: the card's plus 1."),
]
WriteReferences = Annotated[
    bool,
    Option(
        "--write-references",
        help="Where the adapter has no reference images, keep those that its file draws now.",
    ),
]
OnlyCard = Annotated[
    bool,
    Option("--only-card", help="Measure nothing: write the cards anew, from the report."),
]


def verify(
    adapter: Name,
    model: Model = None,
    prompts: Prompts = None,
    images: Images = None,
    judge: opt.JudgeName = None,
    seed: Seed = None,
    accept: Accept = None,
    write_references: WriteReferences = False,
    only_card: OnlyCard = False,
    dry_run: opt.DryRun = False,
) -> None:
    r"""Load an adapter by plain diffusers, measure it anew, and compare with its card.

    Its file is loaded in a fresh process that knows nothing of evenhand. It must load whole, change
    the images, and draw its reference images again. Then its numbers are measured on the card's
    prompts and images of fresh seeds, together with the attributes that its target does not name.
    The result stands in adapter.json and in the card, which shows the fresh numbers where they
    agree with the old ones; where not, or where a rule is not met, the exit code is 1. An adapter
    without numbers is measured for the first time. Of a set of adapters every file is loaded and
    drawn with, and nothing measured. Killed at any moment, the same command goes on.

    Examples:
        evenhand verify emoji-gender --dry-run

        evenhand verify emoji-gender

        evenhand verify runs/train/dft/gender-sd15/adapter --images 60 --judge siglip-faces

        evenhand verify ./adapter --model sdxl --prompts occupations \
            --accept "gap.gender.upper < .3"
    """
    from evenhand.core.adapter_sets import is_set
    from evenhand.publish.verification import verification

    if is_set(adapter):
        given = [prompts, images, judge, seed, accept, write_references or None]
        _verify_set(Path(adapter), model, only_card, any(x is not None for x in given), dry_run)
        return
    if only_card:
        _write_cards(adapter)
        return
    asked = verification(
        adapter,
        model=model,
        prompts=prompts,
        images=images,
        judge=judge,
        seed=seed,
        accept=None if accept is None else readable(accept),
    )
    if dry_run:
        _dry(asked)
        return
    result = _run(asked, write_references)
    _tell(result, asked.adapter.folder)
    if not result.passed:
        raise typer.Exit(1)


def _write_cards(adapter: str) -> None:
    """Writes the cards of an adapter anew."""
    from evenhand.core.adapters import find_adapter
    from evenhand.reports.card import write_cards

    found = find_adapter(adapter)
    write_cards(found.folder)
    print(f"card: {found.folder / 'README.md'}")


def _verify_set(
    folder: Path, model: str | None, only_card: bool, measured: bool, dry_run: bool
) -> None:
    """Verifies the files of a set of adapters; of what they draw nothing is measured."""
    from evenhand.core.adapter_sets import find_set
    from evenhand.core.errors import UserError
    from evenhand.publish.sets import verify_set
    from evenhand.reports.set_card import write_set_card

    if measured:
        raise UserError(
            f"{folder}: is a set of adapters, whose files alone are verified; leave the options of "
            "a measurement out, or name one of its folders"
        )
    if only_card:
        write_set_card(folder)
        print(f"card: {folder / 'README.md'}")
        return
    if dry_run:
        for member in find_set(folder).members:
            print(f"# {member.name} by plain diffusers; its reference images to draw again")
        return
    found = verify_set(folder, model=model, runs=Path("runs/verify"))
    for name, sentences in found.said.items():
        print(f"{name}: {' '.join(sentences)}")
    print(f"{'verified' if found.passed else 'NOT verified'}: {folder}")
    if not found.passed:
        raise typer.Exit(1)


def _dry(asked: "Verification") -> None:
    """Says what would be checked, and what it will cost."""
    from evenhand.cli.measure_settings import tell_plan

    kept = asked.references
    drawn = f"{len(kept.images)} reference images" if kept else "no reference images"
    print(f"# {asked.adapter.weights} by plain diffusers; {drawn} to draw again")
    print("# then this measurement, once without the adapter and once with it:")
    tell_plan(asked.after, asked.folder)


def _run(asked: "Verification", write_references: bool) -> "Verified":
    """Verifies with a progress bar."""
    from evenhand.cli.show import progress
    from evenhand.publish.verify import verify as run

    with progress("verifying") as update:
        return run(
            asked,
            write_references=write_references,
            progress=lambda label, done, total: update(done, total, label),
        )


def _tell(result: "Verified", folder: Path) -> None:
    """Says what was found."""
    from evenhand.cli.show import tell

    if found := result.comparison:
        tell([found.before, found.after], found.change, found.notes)
    for sentence in result.said:
        print(sentence)
    print(f"{'verified' if result.passed else 'NOT verified'}: {folder}")
