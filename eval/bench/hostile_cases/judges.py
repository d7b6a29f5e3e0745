"""Bad judges and calibrations, and models that are measured with them."""

import yaml

from hostile_cases.case import Case, json_of, judge, tensors, text_of
from hostile_cases.measuring import LINES, G, half, nan

JUDGED = f"{G} --judge ./j.yaml"
CALIBRATED = f"{G} --calibration ./c.json"
JUDGE = {
    "kind": "emoji",
    "path": "package:emoji/classifiers/judge",
    "attributes": {"gender": {"classes": ["woman", "man", "person"]}},
}
CLIP = {
    "kind": "clip",
    "attributes": {"gender": {"classes": ["woman", "man"]}},
    "descriptions": {"gender": {"woman": ["a woman"], "man": ["a man"]}},
}
CALLED = {"woman": 9, "man": 1, "person": 0, "not seen": 0}
CALIBRATION = {
    "classifier": "emoji-judge",
    "digest": "0",
    "domain": "d",
    "data": "x",
    "date": "2026-01-01",
    "attributes": {
        "gender": {
            "woman": CALLED,
            "man": {**CALLED, "woman": 1, "man": 9},
            "person": {**CALLED, "woman": 0, "man": 1, "person": 9},
        }
    },
}


def judged_by(**changes) -> dict:
    return {**LINES, "j.yaml": yaml.safe_dump({**JUDGE, **changes})}


def clip(**changes) -> dict:
    return {**LINES, "j.yaml": yaml.safe_dump({**CLIP, **changes})}


def calibrated(**changes) -> dict:
    return {**LINES, "c.json": {**CALIBRATION, **changes}}


def table(**changes) -> dict:
    rows = CALIBRATION["attributes"]["gender"]
    return calibrated(attributes={"gender": {**rows, "woman": {**CALLED, **changes}}})


JUDGES = [
    Case("no YAML", JUDGED, "cannot be read as YAML", {**LINES, "j.yaml": "a: [b"}),
    Case("a list", JUDGED, "holds no mapping", {**LINES, "j.yaml": "- a\n"}),
    Case("bytes", JUDGED, "cannot be read", {**LINES, "j.yaml": b"\xff\xfe\x00"}),
    Case("a key twice", JUDGED, "key 'kind' stands twice", {**LINES, "j.yaml": "kind: a\nkind: b"}),
    Case(
        "code in YAML", JUDGED, "cannot be r", {**LINES, "j.yaml": "!!python/object/apply:os.x []"}
    ),
    Case("unknown kind", JUDGED, "kind: Input should be", judged_by(kind="emojis")),
    Case("unknown key", JUDGED, "colour: Extra inputs", judged_by(colour="red")),
    Case("no attributes", JUDGED, "attributes: ", judged_by(attributes={})),
    Case(
        "one class",
        JUDGED,
        "two or more different classes",
        judged_by(attributes={"gender": {"classes": ["woman"]}}),
    ),
    Case(
        "classes of another network",
        JUDGED,
        "has classes .* its YAML says",
        judged_by(attributes={"gender": {"classes": ["woman", "man"]}}),
    ),
    Case(
        "a class called not seen",
        JUDGED,
        "cannot be called 'not seen'",
        judged_by(attributes={"gender": {"classes": ["woman", "not seen"]}}),
    ),
    Case(
        "contrast of an unknown class",
        JUDGED,
        "unknown class 'men'",
        judged_by(
            attributes={
                "gender": {"classes": ["woman", "man", "person"], "contrast": ["men", "woman"]}
            }
        ),
    ),
    Case(
        "contrast of one class twice",
        JUDGED,
        "contrast needs two or more different",
        judged_by(
            attributes={
                "gender": {"classes": ["woman", "man", "person"], "contrast": ["man", "man"]}
            }
        ),
    ),
    Case(
        "faces that would be ignored", JUDGED, "faces: a judge of kind emoji", judged_by(faces={})
    ),
    Case("concept it does not know", JUDGED, "unknown attribute 'job'", judged_by(concept="job")),
    Case("no weights there", JUDGED, "no readable classifier", judged_by(path="nowhere")),
    Case("no templates", JUDGED, "templates: ", clip(templates=[]), fault=26),
    Case("template without a place", JUDGED, "templates: 'a face'", clip(templates=["a face"])),
    Case("template with a name", JUDGED, "templates: '{} {x}'", clip(templates=["{} {x}"])),
    Case(
        "class without a description",
        JUDGED,
        "descriptions.gender.man",
        clip(descriptions={"gender": {"woman": ["a"], "man": []}}),
    ),
    Case("weights that nobody can fetch", JUDGED, "cannot be loaded", clip(model="nobody/nothing")),
    Case(
        "weights nan",
        JUDGED,
        "not finite: its weights are damaged",
        {**judged_by(path="j"), "j": judge(tensors("model.safetensors", nan), calibrated=False)},
        fault=1,
    ),
    Case(
        "weights cut",
        JUDGED,
        "no readable classifier",
        {**judged_by(path="j"), "j": judge(text_of("model.safetensors", half))},
    ),
    Case(
        "network without widths",
        JUDGED,
        "no readable classifier",
        {**judged_by(path="j"), "j": judge(json_of("config.json", widths=[]))},
    ),
    Case(
        "network's file a list",
        JUDGED,
        "no readable classifier",
        {**judged_by(path="j"), "j": judge(text_of("config.json", lambda _: b"[]"))},
    ),
]
CALIBRATIONS = [
    Case("not there", CALIBRATED, "cannot be read as a calibration", LINES),
    Case("no JSON", CALIBRATED, "cannot be read as a calib", {**LINES, "c.json": "{"}),
    Case("a key twice", CALIBRATED, "stands twice", {**LINES, "c.json": '{"a": 1, "a": 2}'}),
    Case("a list", CALIBRATED, "cannot be read as a calib", {**LINES, "c.json": []}),
    Case("of another judge", CALIBRATED, "calibrate it anew", calibrated()),
    Case("of a later version", CALIBRATED, "newer evenhand", calibrated(schema=9)),
    Case("counts below 0", CALIBRATED, "greater than or equal to 0", table(man=-1), fault=26),
    Case("counts beyond reason", CALIBRATED, "less than or equal to", table(man=10**30), fault=26),
    Case("a class that is none", CALIBRATED, "unknown class 'boy'", table(boy=3)),
    Case(
        "a class without an image",
        CALIBRATED,
        "no labelled image of class",
        table(woman=0, man=0),
    ),
    Case(
        "another attribute's",
        CALIBRATED,
        "has nothing for 'gender'",
        calibrated(attributes={"age": {"a": {"a": 1, "b": 0}, "b": {"a": 0, "b": 1}}}),
    ),
    Case(
        "probabilities over 1",
        CALIBRATED,
        "less than or equal to 1",
        calibrated(probabilities={"gender": {"woman": {"mean": {"woman": 7}, "products": {}}}}),
    ),
]
