"""Where the data that ships is.

Recipes, protocols, prompt sets and adapters, in a clone or inside the wheel.
"""

import pathlib

from evenhand.core.errors import unknown

PACKAGE = pathlib.Path(__file__).parents[1]
ROOT = PACKAGE / "data" if (PACKAGE / "data").is_dir() else PACKAGE.parents[1]


def names(kind: str) -> list[str]:
    """What ships of a kind (`prompts`, `train`, `eval/models`, ...).

    Paths below it without `.yaml`, sorted.
    """
    folder = ROOT / kind
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


def find_yaml(kind: str, name: str) -> pathlib.Path:
    """The YAML file of that name: a path the user gives, or one that ships.

    Raises:
        UserError: neither exists.
    """
    given = pathlib.Path(name)
    if given.suffix in {".yaml", ".yml"} and given.is_file():
        return given
    shipped = ROOT / kind / f"{name.removesuffix('.yaml')}.yaml"
    if not shipped.is_file():
        label = {"prompts": "prompt set", "train": "recipe"}.get(
            kind, kind.removeprefix("eval/").removesuffix("s")
        )
        raise unknown(label, name, names(kind))
    return shipped


def locate(path: str) -> str:
    """Turns `package:emoji/model` into a folder of the installed package.

    Leaves paths and Hub names as they are.
    """
    return str(PACKAGE / path.removeprefix("package:")) if path.startswith("package:") else path
