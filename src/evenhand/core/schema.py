"""The schema of models and measurements, and how every YAML is read: by pydantic models.

Unknown keys, wrong types and impossible values are reported together.
"""

import copy
import os
import pathlib
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evenhand.core.errors import UserError
from evenhand.core.resources import find_yaml

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
            got = (
                ""
                if problem["type"] in {"missing", "value_error"}
                else f" (got {problem['input']!r})"
            )
            lines.append(f"{where}: {spot + ': ' if spot else ''}{message}{got}")
        raise UserError("\n".join(lines)) from error


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UserError where it does not."""
    path = pathlib.Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping of keys to values")
    return values


def override(values: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """A copy of the values with `a.b=value` pairs applied; values are read as YAML."""
    values = copy.deepcopy(values)
    for pair in pairs:
        dotted, equals, text = pair.partition("=")
        if not equals or not dotted:
            raise UserError(f"{pair!r}: write key=value, such as steps=40 or lora.rank=4")
        *parents, last = dotted.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{pair!r}: {parent} is a value, not a group of keys")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(
                f"{pair!r}: the value cannot be read as YAML: {' '.join(str(error).split())}"
            ) from error
    return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    rows = {}
    for name, value in values.items():
        rows.update(
            flat(value, f"{prefix}{name}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{name}": value}
        )
    return rows


def load(model: type[T], kind: str, name: str, overrides: list[str] | None = None) -> T:
    """Loads a YAML that ships or that the user names, with overrides, checked.

    Raises:
        UserError: unknown name, or every problem of the file.
    """
    path = find_yaml(kind, name)
    return check(model, override(read_yaml(path), overrides or []), where=path.name)
