"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Overrides = Annotated[
    list[str] | None,
    Argument(metavar="[KEY=VALUE]...", help="Settings of the recipe to change."),
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
RunDirectory = Annotated[
    Path | None, Option(help="Run directory; one with the same settings is continued.")
]
