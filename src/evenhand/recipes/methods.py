"""Training recipes of every method: which schema a YAML of `train/` has."""

from evenhand.core.errors import unknown
from evenhand.core.resources import find_yaml
from evenhand.core.schema import check, override, read_yaml
from evenhand.recipes.denoising import LoraTraining
from evenhand.recipes.dft import Dft
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.fairtl import FairTl

Training = Dft | LoraTraining | FairTl | Dreambooth
# by the folder of the recipes that ship
METHODS = {"dft": Dft, "lora": LoraTraining, "fairtl": FairTl, "dreambooth": Dreambooth}


def load_training(name: str, overrides: list[str] | None = None) -> Training:
    """A training recipe by name (`dft/emoji-gender`) or path.

    The method of one that ships is the name of its folder. A file of the user's says it by its key
    `method`, and is one of `dft` where it says none.

    Raises:
        UserError: unknown name or method, or every problem of the file.
    """
    path = find_yaml("train", name)
    values = override(read_yaml(path), overrides or [])
    method = values.pop("method", path.parent.name if path.parent.name in METHODS else "dft")
    if method not in METHODS:
        raise unknown("method", str(method), METHODS, where=path.name)
    return check(METHODS[method], values, where=path.name)
