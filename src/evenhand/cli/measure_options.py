"""The options of `evenhand measure`, with their help."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evenhand.cli.options import keys_once

ModelName = Annotated[
    str | None,
    Argument(help="A model that ships (`evenhand list`), a diffusers folder or a Hub name."),
]
PromptSets = Annotated[
    list[str] | None,
    Option(
        help="Prompt set, by name, YAML file, or .txt with a prompt a line; may be "
        "repeated. With --images-from: CSV or JSONL of image and prompt."
    ),
]
WHO, DRAW, JUDGES, MANY = "Who is counted", "How images are drawn", "Who judges", "Many processes"
ProtocolName = Annotated[
    str | None,
    Option(
        help="Take the settings from a protocol: `full` (12,400 images), `quick` (1,000), or a "
        "YAML file of yours. "
        "Options given here win over it."
    ),
]
ImagesFrom = Annotated[
    Path | None,
    Option(help="Draw nothing: measure the images in this folder, whatever made them."),
]
Attributes = Annotated[
    str | None,
    Option(
        help="Attributes to count, such as gender,tone. Default: all that the judge perceives.",
        rich_help_panel=WHO,
    ),
]
Joint = Annotated[
    bool,
    Option(
        "--joint",
        help="Count the combinations of the attributes as well.",
        rich_help_panel=WHO,
    ),
]
Target = Annotated[
    list[str] | None,
    Option(
        help="Shares that you ask for, to report the distance from them: "
        "gender=woman:.45,man:.45,person:.1. Or a table with other shares for each concept: the "
        "name of one that ships (`evenhand list`), a YAML or a CSV file (concept, class, share, "
        "source, year), as us-labour-2022 or gender=counts.csv. May be repeated.",
        rich_help_panel=WHO,
    ),
]
ImagesEach = Annotated[
    int | None,
    Option(
        help="Images of each prompt that leaves the class open. Default: 32.", rich_help_panel=DRAW
    ),
]
ExplicitImages = Annotated[
    int | None,
    Option(
        help="Images of each explicit prompt (one that says a class, such as 'a woman pilot'); "
        "0 draws none. Default: 4.",
        rich_help_panel=DRAW,
    ),
]
Until = Annotated[
    float | None,
    Option(
        help="Stop drawing a prompt once each of its shares is known to +- this, such as .05.",
        rich_help_panel=DRAW,
    ),
]
Split = Annotated[
    list[str] | None,
    Option(
        help="Draw only the prompts of this split, such as test; may be repeated. Default: all "
        "(occupations: 1,267 prompts, 50 of them in test).",
        rich_help_panel=DRAW,
    ),
]
AdapterNames = Annotated[
    list[str] | None,
    Option(
        help="Load an adapter into the model: the name of one that ships, a folder, a file, or a "
        "repository of the Hub (USER/REPO[@REVISION]); NAME=.7 loads it at this strength. May be "
        "repeated: all are loaded together.",
        rich_help_panel=DRAW,
    ),
]
AdapterScale = Annotated[
    float | None,
    Option(help="Strength of the only adapter, 0 to 1. Default: 1.", rich_help_panel=DRAW),
]
WeightName = Annotated[
    str | None,
    Option(
        help="With --adapter: the file to take, where its folder or repository holds several "
        "files of weights.",
        rich_help_panel=DRAW,
    ),
]
Setting = Annotated[
    list[str] | None,
    Option(
        help="Change a setting of the sampler: num_inference_steps=30; may be repeated.",
        rich_help_panel=DRAW,
        callback=keys_once,
    ),
]
Seed = Annotated[
    int | None,
    Option(help="Number that every image's seed is made from. Default: 0.", rich_help_panel=DRAW),
]
Batch = Annotated[
    int | None, Option(help="Images drawn at a time. Default: 16.", rich_help_panel=DRAW)
]
JudgeName = Annotated[
    str | None,
    Option(
        help="Classifier that judges the images: the name of one that ships, a YAML file, or the "
        "folder of a trained one (`evenhand classifier train`). Where its YAML says "
        "`faces: {margin: .5}`, the largest face is cut out first. Default: the one that the "
        "model's YAML names.",
        rich_help_panel=JUDGES,
    ),
]
Calibration = Annotated[
    str | None,  # a path drops the "./" of a file that is called `none`
    Option(
        metavar="FILE",
        help="File that `evenhand calibrate` wrote: shares are corrected by it, where the judge "
        "answers on these images as on those of its calibration. Default: the one beside the "
        "judge. `none`: correct nothing.",
        rich_help_panel=JUDGES,
    ),
]
Domain = Annotated[
    str | None,
    Option(
        help="What kind of images these are, in words. The report says so where it cannot check "
        "whether a calibration on another kind holds for them.",
        rich_help_panel=JUDGES,
    ),
]
JudgeMayBeTrainer = Annotated[
    bool,
    Option(
        "--judge-may-be-trainer",
        help="Allow the classifier that trained the adapter to judge it; the report says so.",
        rich_help_panel=JUDGES,
    ),
]
Shard = Annotated[
    str | None,
    Option(
        help="Do only this part of the work: i/n is the i-th of n, counted from 0. The n commands "
        "may run anywhere; the one that ends last writes the report.",
        rich_help_panel=MANY,
    ),
]
Executor = Annotated[
    str | None,
    Option(
        help="Hand the work to datatrove's executor: local, slurm or ray "
        "(pip install 'evenhand[cluster]').",
        rich_help_panel=MANY,
    ),
]
Tasks = Annotated[
    int,
    Option(help="With --executor: into how many tasks.", min=1, rich_help_panel=MANY),
]
ExecutorOption = Annotated[
    list[str] | None,
    Option(
        help="With --executor: an argument of the executor, such as partition=gpu; may be "
        "repeated.",
        rich_help_panel=MANY,
    ),
]
DryRun = Annotated[
    bool,
    Option("--dry-run", help="Say what would be drawn and what it costs, measured on two batches."),
]
