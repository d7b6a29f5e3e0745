"""A Space of the Hub that shows an adapter: a folder that runs there as it is.

It holds the app, the adapter and this evenhand, so it installs nothing but released libraries, in
the versions that are in use here.
"""

import importlib.util
import pathlib
import re
import shutil
from importlib import metadata
from string import Template

import yaml

from evenhand.core.adapters import Adapter, find_adapter
from evenhand.core.errors import UserError
from evenhand.core.files import write_json, write_text
from evenhand.core.resources import PACKAGE, ROOT, is_path
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import Model, load_model

MARK = "space.json"  # by which a push knows a Space that it made
DATA = ("eval", "prompts", "train")  # folders whose YAML the package needs
APP = Template(
    '''"""The app of evenhand with an adapter beside it. Written by `evenhand push --space`."""

import os

from evenhand.app import serve

serve(
    models=["$model"],
    adapters=["adapters/$name"],
    judge="$judge",
    host="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1",  # the Hub lets visitors in
    port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
)
'''
)
TEXT = Template(
    """
Whom does `$model` draw, and whom with the adapter `$name`? Both are drawn on the same seeds, and
`$judge` counts whom it perceives, with intervals. Classes are *perceived by a classifier*: they say
nothing of who a person is. What was measured of the adapter, and how: `adapters/$name/README.md`.

Written by `evenhand push --space`; `python app.py` runs it anywhere, after
`pip install -r requirements.txt gradio==$gradio`.
"""
)


def write_space(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the Space of an adapter into an empty folder.

    Args:
        folder: of the adapter.
        out: gets `app.py`, `README.md` with the Hub's header, `requirements.txt`, the adapter and
            the package.

    Raises:
        UserError: the adapter does not say of which model it is, that model is a folder of this
            machine, or names no judge; or the app's libraries are not installed.
    """
    adapter = find_adapter(str(folder.resolve()))
    model, name = _model(adapter), folder.resolve().name
    judge = model.judge or ""
    if not judge:
        raise UserError(
            f"model {model.name!r} names no judge, and a Space needs one to count with: add "
            "`judge:` to its YAML"
        )
    words = {"model": model.name, "name": name, "judge": judge, "gradio": _version("gradio")}
    write_text(out / "app.py", APP.substitute(words))
    header = yaml.safe_dump(_header(model, name, words["gradio"]), sort_keys=False)
    write_text(out / "README.md", f"---\n{header}---\n\n# {name}\n{TEXT.substitute(words)}")
    write_text(out / "requirements.txt", "".join(f"{line}\n" for line in _requirements()))
    write_json(out / MARK, {"adapter": name, "digest": adapter.digest, "model": model.name})
    shutil.copytree(folder, out / "adapters" / name, ignore=shutil.ignore_patterns(".*"))
    _copy_package(out / "evenhand")
    if find_judge(judge).faces:
        _copy_faces(out)


def _model(adapter: Adapter) -> Model:
    """The model that an adapter was trained on, as others find it, too."""
    name = (adapter.described.get("settings") or {}).get("model")
    if not isinstance(name, str):
        raise UserError(
            f"adapter {adapter.name!r}: its adapter.json names no model (settings.model), so no "
            "Space can draw with it"
        )
    if name.endswith((".yaml", ".yml")) or (is_path(name) and pathlib.Path(name).exists()):
        raise UserError(
            f"adapter {adapter.name!r}: was trained on {name}, which lies on this machine; a Space "
            "needs a model that ships or one of the Hub"
        )
    return load_model(name)


def _header(model: Model, name: str, gradio: str) -> dict[str, object]:
    """What the Hub reads of a Space's README."""
    of_hub = {} if model.path.startswith("package:") else {"models": [model.path]}
    return {
        "title": name,
        "colorFrom": "blue",
        "colorTo": "yellow",
        "sdk": "gradio",
        "sdk_version": gradio,
        "python_version": "3.11",
        "app_file": "app.py",
        "short_description": "Whom does a text-to-image model draw?",
        **({"license": model.licence.split("/")[0]} if model.licence else {}),
        **of_hub,
    }


def _requirements() -> list[str]:
    """The libraries of evenhand and its app in the versions of this environment, gradio apart.

    The Hub installs gradio by the header.
    """
    lines = metadata.requires("evenhand") or []
    wanted = [x for x in lines if "extra ==" not in x or re.search(r"extra == .app\W", x)]
    names = [re.match(r"[\w.-]+", line)[0] for line in wanted]  # pyright: ignore[reportOptionalSubscript]
    return [f"{name}=={_version(name)}" for name in sorted(set(names)) if name != "gradio"]


def _version(library: str) -> str:
    """The installed version, without what only this machine's build says (`+cu128`)."""
    try:
        return metadata.version(library).partition("+")[0]
    except metadata.PackageNotFoundError as error:
        raise UserError(f"a Space needs {library}: pip install 'evenhand[app]'") from error


def _copy_package(out: pathlib.Path) -> None:
    """This evenhand, with the YAML that ships, as a wheel holds them."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(PACKAGE, out, ignore=ignored, dirs_exist_ok=True)
    for top in DATA:
        for file in (ROOT / top).rglob("*.yaml"):
            place = out / "data" / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _copy_faces(out: pathlib.Path) -> None:
    """The library that finds faces (MIT), whose metadata no requirements file can satisfy."""
    found = importlib.util.find_spec("facenet_pytorch")
    if not found or not found.origin:
        raise UserError(
            "the judge looks for faces, and facenet-pytorch is not installed: "
            "pip install --no-deps facenet-pytorch"
        )
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(pathlib.Path(found.origin).parent, out / "facenet_pytorch", ignore=ignored)
