"""Bad inputs, by verb, as data; `eval/bench/hostile.py` runs them."""

from hostile_cases import (
    chains,
    classifiers,
    folders,
    generators,
    recipes,
    runs,
    sets,
    sweeps,
    words,
)
from hostile_cases.case import Case

CASES: dict[str, list[Case]] = {
    "measure": generators.CASES,
    "measure --images-from": folders.CASES,
    "report and compare": runs.CASES,
    "sweep": sweeps.CASES,
    "train": recipes.CASES,
    "generate": sets.CASES,
    "chain": chains.CASES,
    "classifier train and calibrate": classifiers.CASES,
    "plan, demo, list": words.CASES,
}
