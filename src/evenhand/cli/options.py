"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evenhand.core.errors import UserError


def keys_once(pairs: list[str] | None) -> list[str] | None:
    """The `key=value` pairs of a command. Raises UserError where a key is given twice."""
    keys = [pair.partition("=")[0] for pair in pairs or []]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{key} is given twice; leave one out")
    return pairs


Overrides = Annotated[
    list[str] | None,
    Argument(
        metavar="[KEY=VALUE]...",
        help="Settings of the recipe to change.",
        callback=keys_once,
    ),
]
LabelledData = Annotated[
    str, Argument(help="Labelled images: parquet file, folder of class folders, or Hub data set.")
]
NoImages = Annotated[
    bool,
    Option(
        "--no-images",
        help="Write report.html without pictures. Otherwise it holds some of the images "
        "themselves: whoever gets it sees the faces in them.",
    ),
]
Accept = Annotated[
    list[str] | None,
    Option(
        help="Exit with code 1 where the report does not meet this rule, such as "
        "'gap.gender.upper < .3'; may be repeated. A rule is a path in report.json, < or >, and a "
        "number; of an interval it names the end that is worst for it."
    ),
]
RunDirectory = Annotated[
    Path | None, Option(help="Run directory; one with the same settings is continued.")
]
WeightName = Annotated[
    str | None,
    Option(
        help="The file to take, where the adapter's folder or repository holds several files of "
        "weights."
    ),
]
