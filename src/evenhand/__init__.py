"""Measure and correct whom a text-to-image diffusion model draws.

What is called from a notebook stands here; it is imported when it is first used. With examples:
`src/evenhand/README.md`.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# The libraries of Hugging Face send no telemetry: they read this when they are first imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from evenhand.adapt import train as train_adapter
    from evenhand.chain import chain as run_chain
    from evenhand.classify.run import classify as train_classifiers
    from evenhand.generate import generate as generate_set
    from evenhand.measure import measure as measure_images
    from evenhand.recipes.chain import load_chain
    from evenhand.recipes.classify import load_classify
    from evenhand.recipes.generate import load_generate
    from evenhand.recipes.measure import Measure
    from evenhand.recipes.methods import load_training
    from evenhand.reports.html import write_comparison as compare_runs

__all__ = [
    "Measure",
    "compare_runs",
    "generate_set",
    "load_chain",
    "load_classify",
    "load_generate",
    "load_training",
    "measure_images",
    "run_chain",
    "train_adapter",
    "train_classifiers",
]
# by name: module, and the name there. Rooms have the names of verbs, so functions have others.
_PLACES = {
    "Measure": ("recipes.measure", "Measure"),
    "compare_runs": ("reports.html", "write_comparison"),
    "generate_set": ("generate", "generate"),
    "load_chain": ("recipes.chain", "load_chain"),
    "load_classify": ("recipes.classify", "load_classify"),
    "load_generate": ("recipes.generate", "load_generate"),
    "load_training": ("recipes.methods", "load_training"),
    "measure_images": ("measure", "measure"),
    "run_chain": ("chain", "chain"),
    "train_adapter": ("adapt", "train"),
    "train_classifiers": ("classify.run", "classify"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'evenhand' has no attribute {name!r}")
    module, inside = _PLACES[name]
    found = getattr(importlib.import_module(f"evenhand.{module}"), inside)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
