"""The schema of models and measurements, and how every YAML is read: by pydantic models.

Unknown keys, wrong types and impossible values are reported together.
"""

import copy
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evenhand.core.errors import UserError
from evenhand.core.resources import find_yaml

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator of random numbers takes
T = TypeVar("T", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses keys it does not know, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def check(model: type[T], values: Any, *, where: str) -> T:
    """Validates values against a model.

    Raises:
        UserError: every problem found, one a line, with the place and the key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_problems(error, where))) from error


def _problems(error: ValidationError, where: str) -> Iterator[str]:
    """One line a problem; those of a model built inside a validator stand for themselves."""
    for problem in error.errors(include_url=False):
        spot = ".".join(map(str, problem["loc"]))
        place = f"{where}: {spot}" if spot else where
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, ValidationError):
            yield from _problems(cause, place)
            continue
        message = problem["msg"].removeprefix("Value error, ")
        says_all = problem["type"] in {"missing", "value_error"}
        got = "" if says_all else f" (got {problem['input']!r})"
        yield f"{place}: {message}{got}"


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number, as in YAML 1.2, and a key that stands twice an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A dictionary."""
        keys = [(k.tag, k.value) for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count((key.tag, key.value)) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, *, where: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        UserError: it is no YAML.
    """
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-01
        raise UserError(
            f"{where}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    if _size(value, {}) > LARGEST:
        raise UserError(f"{where}: cannot be read as YAML: its aliases (*name) repeat without end")
    return value


LARGEST = 10**6  # values of a YAML, those that aliases repeat counted each time


def _size(value: Any, known: dict[int, float]) -> float:
    """How many values a value holds; infinite where it holds itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # as long as it is not known: it would hold itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for; a key that stands twice and NaN are no JSON.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"key {max(names, key=names.count)!r} stands twice")
        return found

    def refused(name: str) -> None:
        raise ValueError(f"{name} is no number")

    return json.loads(text, object_pairs_hook=once, parse_constant=refused)


def read_json(path: str | os.PathLike, *, what: str, advice: str = "") -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Args:
        path: of the file.
        what: kind of file, in words, for the error.
        advice: what to do where it cannot be read, for the error.

    Raises:
        UserError: it cannot be read, is no JSON, or holds something else.
    """
    try:
        values = parse_json(pathlib.Path(path).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no mapping of keys to values")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: cannot be read as {what} ({reason}){'; ' + advice if advice else ''}"
        ) from error
    return values


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UserError where it does not."""
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    values = parse_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping of keys to values")
    return values


def override(values: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """A copy of the values with `a.b=value` pairs applied in turn; values are read as YAML.

    Raises:
        UserError: a pair that is none.
    """
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
        place[last] = parse_yaml(text, where=repr(pair))
    return values


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The values with others laid over them, group by group.

    `{"a": {"b": 1}}` and `{"a": {"c": 2}}` give `{"a": {"b": 1, "c": 2}}`.
    """
    found = dict(values)
    for key, value in over.items():
        before = found.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        found[key] = value
    return found


def versioned(values: Mapping[str, Any], *, kind: str, newest: int, where: str) -> int:
    """The version of the schema that a file was written in; files without one are of version 1.

    Args:
        values: of the file, whose key `schema` says it.
        kind: of file, in words ("adapter description").
        newest: version that this evenhand writes.
        where: the file.

    Raises:
        UserError: a newer evenhand wrote it, or the version is none.
    """
    version = values.get("schema", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UserError(f"{where}: schema: {version!r} is no version of a {kind}")
    if version > newest:
        raise UserError(
            f"{where}: this {kind} was written by a newer evenhand (schema {version}; this one "
            f"reads up to {newest}); update evenhand"
        )
    return version


def load(model: type[T], kind: str, name: str, overrides: list[str] | None = None) -> T:
    """Loads a YAML that ships or that the user names, with overrides, checked.

    Raises:
        UserError: unknown name, or every problem of the file.
    """
    path = find_yaml(kind, name)
    return check(model, override(read_yaml(path), overrides or []), where=path.name)
