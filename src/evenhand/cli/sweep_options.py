"""The options of `evenhand sweep` that no other verb has, with their help."""

from typing import Annotated

from typer import Argument, Option

Adapters = Annotated[
    list[str],
    Argument(
        metavar="ADAPTER",
        help="Name of one that ships, or a folder; NAME=0,.5,1 gives it strengths of its own. "
        "Several are mixed: every combination of their strengths is measured.",
    ),
]
BaseModel = Annotated[
    str | None, Option(help="Base model. Default: the one that the adapter was made for.")
]
PromptSets = Annotated[
    list[str] | None,
    Option(help="Prompt set; may be repeated. Default: those that it was trained on."),
]
Split = Annotated[
    list[str] | None, Option(help="Split of the prompts; may be repeated. Default: test.")
]
Strength = Annotated[
    str | None,
    Option(
        help="Strengths, 0 to 1.5, with commas. Default: 0,.25,.5,.75,1; of each of several "
        "adapters 0,.5,1; of soft tokens 0,1. 0, the model without them, is always measured."
    ),
]
Guidance = Annotated[
    str | None, Option(help="Guidance scales, with commas. Default: the model's own.")
]
Steps = Annotated[str | None, Option(help="Sampling steps, with commas. Default: the model's own.")]
ImagesEach = Annotated[int, Option(help="Images of each prompt that leaves the class open.")]
ExplicitImages = Annotated[
    int, Option(help="Images of each explicit prompt (one that says a class).")
]
Margin = Annotated[
    float,
    Option(
        help="How much of the explicit prompts, and of the concepts, the suggested point may lose, "
        "in share of images."
    ),
]
Seed = Annotated[
    int,
    Option(help="Number that every image's seed is made from; fresh images take the next one."),
]
NoCard = Annotated[
    bool, Option("--no-card", help="Do not put the result into the adapter's adapter.json.")
]
