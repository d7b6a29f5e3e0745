"""Bad inputs of `evenhand classify`: splits, columns, groups, synthetic sets, folders."""

import itertools
import json
import pathlib
from collections.abc import Callable

import yaml

from hostile_cases.case import Case, Maker, pixels, text_of

PART = {"epochs": 1, "optimisation": {"learning_rate": 1e-3}}
PARTS = ("real", "mixed", "synthetic", "tune_real", "tune_synthetic", "last_layer")
RECIPE = {
    "target": {"column": "gender", "classes": {"woman": ["woman"], "man": ["man"]}},
    "protected": {"column": "tone", "classes": {"dark": ["dark"], "light": ["light"]}},
    "split": "split",
    "config": {
        "model_type": "plain_convolutions",
        "widths": [4, 4],
        "strides": [2, 2],
        "pool": 2,
    },
    "size": 16,
    "schedule": dict.fromkeys(PARTS, PART),
    "batch": 8,
    "dtype": "float32",
    "seeds": 1,
}
MINE = "classify ./r.yaml real/real.csv --out k"
SPLITS = {"train": 4, "validation": 2, "test": 2}  # images of each group
Row = dict[str, str]


def images(
    number: int, splits: dict[str, int], change: Callable[[list[Row]], list[Row]] | None = None
) -> Maker:
    """A folder of drawings with a table; no two of them, nor of another number, are equal."""

    def maker(path: pathlib.Path) -> None:
        path.mkdir(parents=True)
        rows = []
        groups = itertools.product(("woman", "man"), ("dark", "light"))
        for (gender, tone), (split, n) in itertools.product(groups, splits.items()):
            for _ in range(n):
                i = len(rows)
                drawing = pixels(i).convert("RGB")
                drawing.putpixel((0, 0), (number, i, 7))
                drawing.save(path / f"{i}.png")
                rows.append({"image": f"{i}.png", "gender": gender, "tone": tone, "split": split})
        lines = [",".join(row.values()) for row in (change(rows) if change else rows)]
        text = "\n".join(["image,gender,tone,split", *lines])
        (path / f"{path.name}.csv").write_text(text + "\n")

    return maker


def without(**wrong: str) -> Callable[[list[Row]], list[Row]]:
    """Leaves out the rows of these values."""
    return lambda rows: [r for r in rows if any(r[k] != v for k, v in wrong.items())]


def recipe(real: Maker | None = None, made: Maker | None = None, **changes) -> dict:
    return {
        "real": real or images(1, SPLITS),
        "made": made or images(2, {"train": 4}),
        "r.yaml": yaml.safe_dump({**RECIPE, **changes}),
    }


def bad(name: str, says: str, arguments: str = "", **changes) -> Case:
    return Case(name, f"{MINE} {arguments}".strip(), says, recipe(**changes))


def trained(folder: pathlib.Path, out: str) -> bool:
    report = json.loads((folder / "k" / "report.json").read_text())
    return report["variants"].keys() == {"real"} and any(folder.glob("k/real/*/classifier/*.json"))


FFR = "arm=ffr synthetic.path=made/made.csv"
MASK = "arm=aim_fair synthetic.path=made/made.csv synthetic.images=8 mask.k"
CASES = [
    Case("right", MINE, None, recipe(), trained),
    Case("recipe that is not there", "classify emogi real", "did you mean"),
    Case("data that is not there", "classify ./r.yaml nowhere.csv --out k",
         "no such file", {"r.yaml": yaml.safe_dump(RECIPE)}),
    bad("group without a test image", "test: no image of the group 'woman, dark'",
        real=images(1, SPLITS, without(gender="woman", tone="dark", split="test"))),
    bad("group without a training image", "train: no image of the group 'man, light'",
        real=images(1, SPLITS, without(gender="man", tone="light", split="train"))),
    bad("class that no image has", "no image has class 'man'",
        real=images(1, SPLITS, without(gender="man"))),
    bad("no test split", "has no split test",
        real=images(1, SPLITS, without(split="test"))),
    bad("an image in two splits", "of test stand.* in train as well",
        real=images(1, SPLITS, lambda rows: [*rows, {**rows[0], "split": "test"}])),
    bad("a file that is no image", "real.csv: no image; leave it out",
        real=images(1, SPLITS, lambda rows: [*rows, {**rows[0], "image": "real.csv"}])),
    bad("column that is not there", "sex",
        target={"column": "sex", "classes": {"woman": ["woman"], "man": ["man"]}}),
    bad("target that is protected", "target and protected are both", protected=RECIPE["target"]),
    bad("target of one class", "name two", target={"column": "gender",
                                                  "classes": {"woman": ["woman"]}}),
    bad("arm that is none", "arm", "arm=fft"),
    bad("objective that is none", "objective", "objective=dro"),
    bad("arm without synthetic images", "needs synthetic images", "arm=ffr"),
    bad("synthetic images that are not there", "no such file", "arm=ffr synthetic.path=nowhere"),
    bad("synthetic images of other classes", "synthetic.target: has the classes", FFR,
        synthetic={"path": "made/made.csv", "target": {
            "column": "gender", "classes": {"a": ["woman"], "b": ["man"]}}}),
    bad("too few synthetic images", "needs more images", f"{FFR} synthetic.images=400"),
    bad("synthetic set without a group", "no image of the group 'woman, dark'", FFR,
        made=images(2, {"train": 4}, without(gender="woman", tone="dark"))),
    bad("synthetic images that are the real ones", "of synthetic stand.* in train as well",
        "arm=ffr synthetic.path=real/real.csv"),
    bad("more images than there are", "lower bias.images", "bias.ratio=.9 bias.images=400"),
    bad("bias of a class that is none", "'old' is no class of protected",
        bias={"ratio": 0.9, "prevailing": {"woman": "old", "man": "dark"}}),
    bad("mask that trains nothing", "raise mask.k", f"{MASK}=1"),
    bad("mask of more tensors than there are", "lower it", f"{MASK}=99"),
    bad("variant in no folder", "is no name for a folder", variants={"../x": {}}),
    bad("variant of other seeds", "seed is another", variants={"a": {}, "b": {"seed": 4}}),
    Case("another run in a folder", MINE, "batch was 8, is 4", recipe(),
         then=lambda folder: None, again=f"{MINE} batch=4"),
    Case("answers that are none", MINE, "answers.npy: cannot be read", recipe(),
         changed=("k/report.json",), then=text_of("k/real/seed-0/answers.npy", lambda _: b"x")),
]  # fmt: skip
