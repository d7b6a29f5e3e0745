"""The schema of models and measurements, and how every YAML is read: by pydantic models.

Unknown keys, wrong types and impossible values are reported together.
"""

import copy
import os
import pathlib
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evenhand.attributes import Attribute
from evenhand.errors import UserError
from evenhand.prompts import PromptSet
from evenhand.resources import find_yaml

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def attributes_of(entries: dict[str, dict[str, Any]]) -> dict[str, Attribute]:
    """Attributes by name from `{name: {classes: ..., contrast: ...}}`."""
    return {name: Attribute(name=name, **entry) for name, entry in entries.items()}


class Settings(Strict):
    """How the stock pipeline samples. None leaves the pipeline's own default; `options` are further arguments of its call."""

    num_inference_steps: Count | None = None
    guidance_scale: float | None = Field(default=None, ge=0)
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = {}
    options: dict[str, Any] = {}

    def call(self) -> dict[str, Any]:
        """The keyword arguments of the pipeline's call."""
        named = self.model_dump(include={"num_inference_steps", "guidance_scale", "height", "width"}, exclude_none=True)
        return {**named, **self.options}


class Model(Strict):
    """A base model: `eval/models/*.yaml`.

    Attributes:
        path: folder, Hub name or `package:...`.
        revision: of a Hub name.
        dtype: of its weights.
        settings: how it samples.
        judge: classifier that judges it when none is named.
        domain: what kind of images it draws, in words, as in calibrations.
    """

    path: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    settings: Settings = Settings()
    judge: str | None = None
    domain: str = ""


class Measure(Strict):
    """What `evenhand measure` runs: the settings that must agree when a run is continued.

    Attributes:
        model: the generator; or `images_from`, a folder of images made elsewhere.
        prompts: prompt sets; of `images_from`, a table of files and prompts (CSV or JSONL), or none.
        images: of a neutral prompt; at most, with `until`.
        until: a prompt is drawn no further once each of its shares is known to +- this.
        calibration: file that `evenhand calibrate` wrote; the one beside the judge when None.
        domain: what kind of images these are, in words, to be compared with the calibration's.
    """

    model: str | None = None
    images_from: str | None = None
    prompts: list[str] = []
    attributes: list[str] = []
    judge: str | None = None
    adapter: str | None = None
    adapter_scale: float = 1.0
    joint: bool = False
    splits: list[str] = []
    images: Count = 32
    explicit_images: int = Field(default=4, ge=0)
    until: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    seed: int = 0
    batch: Count = 16
    target: dict[str, dict[str, float]] = {}
    settings: dict[str, Any] = {}
    calibration: str | None = None
    domain: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Measure":
        if (self.model is None) == (self.images_from is None):
            raise ValueError("name either a model or, with --images-from, a folder of images")
        if self.model and not self.prompts:
            raise ValueError("name a prompt set with --prompts")
        if self.images_from and (self.adapter or self.until or self.settings or self.splits or len(self.prompts) > 1):
            raise ValueError("images that are there already take no adapter, until, setting or split, and one table of prompts")
        return self


def check(model: type[T], values: Any, *, where: str) -> T:
    """Validates values against a model.

    Raises:
        UserError: every problem found, one a line, with the place and the key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            spot = ".".join(map(str, problem["loc"]))
            message = problem["msg"].removeprefix("Value error, ")
            got = "" if problem["type"] in {"missing", "value_error"} else f" (got {problem['input']!r})"
            lines.append(f"{where}: {spot + ': ' if spot else ''}{message}{got}")
        raise UserError("\n".join(lines)) from error


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UserError where it does not."""
    path = pathlib.Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping of keys to values")
    return values


def override(values: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """A copy of the values with `a.b=value` pairs applied; values are read as YAML."""
    values = copy.deepcopy(values)
    for pair in pairs:
        dotted, equals, text = pair.partition("=")
        if not equals or not dotted:
            raise UserError(f"{pair!r}: write key=value, such as learning_rate=1e-3 or lora.rank=4")
        *parents, last = dotted.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{pair!r}: {parent} is a value, not a group of keys")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{pair!r}: the value cannot be read as YAML: {' '.join(str(error).split())}") from error
    return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    rows = {}
    for name, value in values.items():
        rows.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value})
    return rows


def load(model: type[T], kind: str, name: str, overrides: list[str] | None = None) -> T:
    """Loads a YAML that ships or that the user names, with overrides, checked.

    Raises:
        UserError: unknown name, or every problem of the file.
    """
    path = find_yaml(kind, name)
    return check(model, override(read_yaml(path), overrides or []), where=path.name)


def load_prompts(name: str) -> PromptSet:
    """A prompt set by name or path; a `.txt` file holds one training prompt a line.

    `concepts: NAME` in the file stands for the concepts and splits of the set of that name.
    """
    if not name.endswith(".txt"):
        path = find_yaml("prompts", name)
        values = read_yaml(path)
        if isinstance(values.get("concepts"), str):
            values["concepts"] = load_prompts(values["concepts"]).concepts
        return check(PromptSet, values, where=path.name)
    path = pathlib.Path(name)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not lines:
        raise UserError(f"{path}: holds no prompt; write one a line")
    return PromptSet(version=1, source=path.name, licence="", family=path.stem, templates=["{concept}"],
                     concepts={"train": list(dict.fromkeys(lines))})


def load_model(name: str) -> Model:
    """A base model by YAML name, or any diffusers folder or Hub name, which samples as its pipeline does by default."""
    if pathlib.Path(name).is_dir():
        return Model(path=name)
    return Model(path=name) if "/" in name and not name.endswith((".yaml", ".yml")) else load(Model, "eval/models", name)
