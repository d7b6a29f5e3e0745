"""Arguments and options that several verbs take."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.core.errors import UserError

if TYPE_CHECKING:
    from evenhand.recipes.features import Feature


def keys_once(pairs: list[str] | None) -> list[str] | None:
    """The `key=value` pairs of a command. Raises UserError where a key is given twice."""
    keys = [pair.partition("=")[0] for pair in pairs or []]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{key} is given twice; leave one out")
    return pairs


def named_and_placed(verb: str, recipe: str, out: Path | None) -> tuple[str, Path]:
    """What a run of a recipe is called, and its run directory: `out`, or runs/VERB/NAME."""
    own = {"chain": "chains/", "reference": "generate/"}.get(verb, f"{verb}/")
    name = Path(recipe).stem if _is_file(recipe) else recipe
    name = name.removeprefix(own)
    return name, out or Path("runs") / verb / name


def again(verb: str, recipe: str, overrides: list[str] | None, more: Sequence[str] = ()) -> str:
    """The command that does it again, for cards; it holds no paths of this machine."""
    shown = Path(recipe).name if _is_file(recipe) else recipe
    return shlex.join(["evenhand", verb, shown, *(overrides or []), *more])


def _is_file(recipe: str) -> bool:
    return recipe.endswith((".yaml", ".yml"))


def features_of(texts: list[str]) -> "list[Feature]":
    """The networks that `--features` names.

    Raises:
        UserError: one is not known, or named twice.
    """
    from evenhand.core.schema import check
    from evenhand.recipes.features import Feature

    named = [
        check(Feature, {"kind": kind, "model": model or None}, where="--features")
        for kind, _, model in (text.partition("=") for text in texts)
    ]
    kinds = [feature.kind for feature in named]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise UserError(f"--features: {twice[0]} is named twice; leave one out")
    return named


Features = Annotated[
    list[str] | None,
    Option(
        help="Compare the images as well, in: classifier (the judge's), pixels, clip, "
        "dino; clip=MODEL names another. May be repeated."
    ),
]
Overrides = Annotated[
    list[str] | None,
    Argument(
        metavar="[KEY=VALUE]...",
        help="Settings of the recipe to change.",
        callback=keys_once,
    ),
]
LabelledData = Annotated[
    str,
    Argument(
        help="Labelled images: parquet file, table (CSV, JSONL) with a column `image` of file "
        "names, folder of class folders or with a metadata.csv, or Hub data set (OWNER/NAME)."
    ),
]
NoImages = Annotated[
    bool,
    Option(
        "--no-images",
        help="Write the page (report.html, dataset.html of a set) without pictures. Otherwise it "
        "holds some of the images themselves: whoever gets it sees the faces in them.",
    ),
]
Accept = Annotated[
    list[str] | None,
    Option(
        help="Exit with code 1 where the report does not meet this rule, such as "
        "'gap.gender.upper < .3'; may be repeated. A rule is "
        "NUMBER.ATTRIBUTE[.SPLIT].END, < or >, and a value, as 'shares.woman.gender.test.lower > "
        ".4'; or any dotted path in report.json. END is an interval's: < takes upper, > lower."
    ),
]
RunDirectory = Annotated[
    Path | None,
    Option(
        help="Run directory; one with the same settings is continued. Default: runs/VERB/NAME of "
        "the recipe; of a measurement runs/measure/MODEL-PROMPTS[-ADAPTER]."
    ),
]
WeightName = Annotated[
    str | None,
    Option(
        help="The file to take, where the adapter's folder or repository holds several files of "
        "weights."
    ),
]
