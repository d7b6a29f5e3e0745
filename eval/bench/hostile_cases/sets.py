"""Bad inputs of `evenhand generate`: quotas, words, contexts, folders of other sets."""

import yaml

from hostile_cases.case import Case, Maker, text_of

RECIPE = {
    "model": "emoji",
    "cells": {"gender": ["woman", "man"]},
    "per_cell": 2,
    "prompt": "an emoji of {a} {gender} {title}",
    "contexts": {"vocabulary": {"title": ["cook"]}},
    "wording": {"gender": {"woman": "woman", "man": "man"}},
    "settings": {"num_inference_steps": 2},
    "filter": {"confidence": 0.0},
    "batch": 4,
}
MINE = "generate ./r.yaml --out s"


def recipe(**changes) -> dict:
    return {"r.yaml": yaml.safe_dump({**RECIPE, **changes})}


def bad(name: str, says: str, lines: int = 1, **changes) -> Case:
    """A recipe that is refused before anything is loaded."""
    return Case(name, MINE, says, recipe(**changes), lines=lines)


def titles(*texts: str) -> dict:
    return {"vocabulary": {"title": list(texts)}}


def in_set(change: Maker) -> Maker:
    return lambda folder: change(folder / "s")


CASES = [
    bad("class that nobody knows", "unknown class 'giant'", cells={"gender": ["woman", "giant"]}),
    bad("class that no word says", "no words for 'person'", cells={"gender": ["man", "person"]}),
    bad("attribute that the judge does not know", "unknown attribute 'age'", cells={"age": []}),
    bad("negated wording", "says what is not there",
        wording={"gender": {"woman": "not a man", "man": "man"}}),
    bad("context that names a class", "row 2, title: 'wise women' holds 'women'",
        contexts=titles("cook", "wise women")),
    bad("context that names a synonym", "holds 'ladies'", contexts=titles("the ladies"),
        synonyms={"gender": {"woman": ["lady"]}}),
    bad("two contexts alike", "rows 1 and 2 give the same prompt",
        contexts=titles("cook", " cook")),
    bad("shares that do not sum to 1", "sums to 0.9", per_cell=None, images=9,
        shares={"gender": {"woman": 0.5, "man": 0.4}}),
    bad("joint table of no cell", "unknown cell 'woman/dark'", per_cell=None, images=9,
        joint={"woman/dark": 1.0}),
    bad("number of images given twice", "give either per_cell", images=9),
    bad("slot that nothing fills", "unknown slot 'titel'", prompt="{gender} {titel}"),
    bad("no slot for the class", "has no slot", prompt="an emoji of a {title}"),
    bad("adapter that is not there", "unknown adapter 'nobody'", adapters=[{"name": "nobody"}]),
    bad("split without a context", "would hold none of 1 contexts",
        splits={"train": 0.5, "test": 0.5}),
    bad("file of contexts that is not there", "nowhere.txt: cannot be read",
        contexts={"file": "./nowhere.txt"}),
    bad("format that is none", "out.0: Input should be 'parquet'", out=["zip"]),
    Case("recipe that is not there", "generate emoji-balenced", "did you mean"),
    Case("judge that trained the adapter", f"{MINE} judge=emoji-trainer", "trained the adapter",
         recipe(adapters=[{"name": "emoji-gender"}])),
    Case("folder of images that is not there", f"{MINE} --from-images nowhere",
         "nowhere: no such folder of images", recipe()),
    Case("a smaller set in a folder", MINE, "a set may grow only", recipe(),
         then=lambda folder: None, again=f"{MINE} per_cell=1"),
    Case("another set in a folder", MINE, "filter.confidence was 0.0, is 0.1", recipe(),
         then=lambda folder: None, again=f"{MINE} filter.confidence=.1"),
    Case("list of sizes that is none", MINE, "stages.json: cannot be read", recipe(),
         then=in_set(text_of("stages.json", lambda text: b'{"stages": [1]}'))),
    Case("report of a set", MINE, "is an image set", recipe(),
         then=lambda folder: None, again="report s"),
]  # fmt: skip
