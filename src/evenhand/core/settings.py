"""The settings of runs: as one level of keys, and how those of two runs differ."""

from collections.abc import Collection
from typing import Any


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


def differing(old: dict[str, Any], new: dict[str, Any], free: Collection[str] = ()) -> str:
    """Which settings differ, in words; "" where none does.

    Args:
        old: settings before, flat, as JSON has them.
        new: settings now, in the same form.
        free: keys that may differ.
    """
    found = [
        f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if key not in free and old.get(key) != new.get(key)
    ]
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join([*found[:5], *more])
