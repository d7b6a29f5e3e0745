"""Where the recipes, protocols, prompt sets and adapters that ship are, in a clone or a wheel."""

import itertools
import os
import pathlib
import re

from evenhand.core.errors import UserError, unknown

PACKAGE = pathlib.Path(__file__).parents[1]
ROOT = PACKAGE / "data" if (PACKAGE / "data").is_dir() else PACKAGE.parents[1]


def names(kind: str) -> list[str]:
    """Names of what ships of a kind (`prompts`, `train`, `eval/models`, ...), sorted.

    A name is the path below the kind's folder, without `.yaml`.
    """
    folder = ROOT / kind
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


def about(kind: str, name: str) -> str:
    """The first sentence of the comment with which a YAML that ships begins; "" without one."""
    lines = (ROOT / kind / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.lstrip("# ") for line in comment)
    return re.split(r"(?<! al)[.?] ", f"{text} ", maxsplit=1)[0].strip()


def is_path(name: str | os.PathLike) -> bool:
    """Whether a name means a file or a folder of the user.

    A bare word ("emoji") always means what ships, whatever lies in the working directory;
    "./emoji" is the folder there.
    """
    name = os.fspath(name)
    return name in {".", ".."} or "/" in name or os.sep in name


def one_spelling(name: str | os.PathLike) -> str:
    """What a name means, in one spelling: of the user's files and folders the absolute path.

    The same file named relatively, absolutely or from elsewhere is the same. Names of what ships
    and of the Hub stay as they are.
    """
    name = os.fspath(name)
    path = pathlib.Path(name)
    mine = path.exists() if is_path(name) else path.suffix and path.is_file()
    return str(path.resolve()) if mine else name


def no_such(kind: str, name: str, known: list[str]) -> UserError:
    """The error for a name that does not ship, with a hint where a file of that name lies here."""
    here = "" if is_path(name) or not os.path.exists(name) else f"; for the one here: ./{name}"
    return UserError(f"{unknown(kind, name, known)}{here}")


def find_yaml(kind: str, name: str) -> pathlib.Path:
    """The YAML file of that name: a path the user gives, or one that ships.

    Raises:
        UserError: neither exists.
    """
    given = pathlib.Path(name)
    if given.suffix in {".yaml", ".yml"} and given.is_file():
        return given
    folder = ROOT / kind
    shipped = folder / f"{name.removesuffix('.yaml')}.yaml"
    if not (shipped.is_file() and shipped.resolve().is_relative_to(folder.resolve())):
        label = {"prompts": "prompt set", "train": "recipe"}.get(
            kind.split("/")[0], kind.removeprefix("eval/").removesuffix("s")
        )
        raise no_such(label, name, names(kind))
    return shipped


def locate(path: str) -> str:
    """Turns `package:emoji/model` into a folder of the installed package.

    Leaves paths and Hub names as they are.

    Raises:
        UserError: it leads out of the package.
    """
    if not path.startswith("package:"):
        return path
    inside = PACKAGE / path.removeprefix("package:")
    if not inside.resolve().is_relative_to(PACKAGE.resolve()):
        raise UserError(
            f"{path}: leads out of the installed package; write a path without package:"
        )
    return str(inside)
