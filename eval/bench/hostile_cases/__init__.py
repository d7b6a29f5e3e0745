"""Bad inputs, by verb, as data; `eval/bench/hostile.py` runs them."""

from hostile_cases import (
    chains,
    classifiers,
    classify,
    folders,
    generators,
    recipes,
    runs,
    sets,
    shipping,
    sweeps,
    tables,
    words,
)
from hostile_cases.case import Case

CASES: dict[str, list[Case]] = {
    "measure": generators.CASES,
    "measure --images-from": [*folders.CASES, *tables.CASES],
    "report and compare": runs.CASES,
    "sweep": sweeps.CASES,
    "train": recipes.CASES,
    "generate": sets.CASES,
    "chain": chains.CASES,
    "classify": classify.CASES,
    "verify": shipping.VERIFY,
    "export": shipping.EXPORTS,
    "push": shipping.PUSH,
    "classifier train and calibrate": classifiers.CASES,
    "plan, demo, list": words.CASES,
}
