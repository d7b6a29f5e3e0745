"""Bad inputs of `evenhand report` and `evenhand compare`: run directories and their records."""

import json
import pathlib

from hostile_cases.case import Case, copied, json_of, row, text_of

REPORT = ("run/report.json", "run/report.html")
R, C = "report run", "compare run other --out c"
BOTH = {"run": copied("run"), "other": copied("other")}


def run(change=None, name: str = "run") -> dict:
    return {name: copied("run", change)}


def records(change) -> dict:
    return run(text_of("records.jsonl", change))


def one(**changes) -> dict:
    """A run whose first record has other values."""
    return run(row(lambda record: {**record, **changes}))


def probs(**classes) -> dict:
    """A run whose first record has other probabilities."""
    return run(row(lambda record: {**record, "probs": {**record["probs"], "gender": classes}}))


def settings(**changes) -> dict:
    return run(json_of("run.json", **{f"settings__{k}": v for k, v in changes.items()}))


def unfinished(folder: pathlib.Path) -> None:
    (folder / "records.jsonl").unlink()


def damaged_part(folder: pathlib.Path) -> None:
    unfinished(folder)
    part = next((folder / "parts").glob("*.jsonl"))
    part.write_bytes(part.read_bytes()[:-40])


def secret(folder: pathlib.Path) -> None:
    """A record names an image beside the run; the page must not show it."""
    image = next((folder / "images").iterdir())
    (folder.parent / "secret.png").write_bytes(image.read_bytes())
    row(lambda record: {**record, "image": "../secret.png"})(folder)


def without_images(folder: pathlib.Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def shown(n: int):
    def right(folder: pathlib.Path, out: str) -> bool:
        return (folder / "run" / "report.html").read_text().count("data:image/png") == n

    return right


def images(n: int, report: str = "run/report.json"):
    return lambda folder, out: json.loads((folder / report).read_text())["images"] == n


def said(words: str):
    return lambda folder, out: words in " ".join(out.split())


def bad(name: str, says: str, files: dict, fault: int | None = None, command: str = R) -> Case:
    return Case(name, command, says, files, fault=fault)


def good(name: str, files: dict, right, fault: int | None = None) -> Case:
    return Case(name, R, None, files, right, fault, changed=REPORT)


RUN_JSON = [
    bad("not there", "is no run directory", {}),
    bad("a file", "is no run directory", {"run": "x"}),
    bad("an empty folder", "is no run directory", {"run/x": ""}),
    bad("a training's", "names no judge", {"run": copied("training")}, 19),
    bad("a list", "cannot be read as a run's", run(text_of("run.json", lambda _: b"[]")), 19),
    bad("null", "cannot be read as a run's", run(text_of("run.json", lambda _: b"null")), 19),
    bad("half", "cannot be read as a run's", run(text_of("run.json", lambda x: x[:99])), 19),
    bad("bytes", "cannot be read as a run's", run(text_of("run.json", lambda _: b"\xff\xfe")), 19),
    bad("settings missing", "names no judge", run(json_of("run.json", settings=None)), 19),
    bad("judge missing", "names no judge", settings(judge=None), 19),
    bad("judge without a digest", "judge.digest", settings(judge={"name": "x"}), 19),
    bad("judge a word", "judge: ", settings(judge="emoji-judge"), 19),
    bad("no attributes", "attributes: ", settings(attributes={}), 19),
    bad("one class", "two or more", settings(attributes={"gender": {"classes": ["woman"]}}), 19),
    bad("attributes a list", "attributes: ", settings(attributes=["gender"]), 19),
    bad("neither model nor images", "neither a model", settings(model=None), 19),
    bad("of a later version", "newer evenhand", run(json_of("run.json", schema=99))),
    bad("versions a list", "versions: ", run(json_of("run.json", versions=[]))),
    bad("target of an unknown class", "unknown class", settings(target={"gender": {"x": 1.0}})),
    bad("target over 1", "sums to 2", settings(target={"gender": {"woman": 2.0}})),
    bad("until 0", "until.width", settings(until={"width": 0, "every": 8})),
    bad("until without a width", "until.width", settings(until={"every": 8})),
    bad("calibration a number", "calibration", settings(calibration=5)),
    good(
        "a judge called like a tag", settings(judge={"name": "[/b]", "digest": "x"}), images(12), 12
    ),
]
RECORDS = [
    bad(
        "missing",
        "no records here",
        run(lambda f: (unfinished(f), __import__("shutil").rmtree(f / "parts"))),
    ),
    bad("bytes that are no UTF-8", "not a record", records(lambda x: b"\xff\xfe\n" + x), 19),
    bad("half a line", "not a record", records(lambda x: x[:-30]), 19),
    bad("a number", "not a record", records(lambda x: b"5\n" + x), 19),
    bad("a list", "not a record", records(lambda x: b"[]\n" + x), 19),
    bad("deep", "not a record", records(lambda x: b"[" * 99999 + b"\n" + x), 19),
    bad("a key too many", "not a record", one(colour="red"), 19),
    bad("no class", "probabilities sum to 0", probs(), 19),
    bad("an unknown class", "has .*lady", probs(lady=0.5, man=0.5), 19),
    bad("a class missing", "has .* for 'gender'", probs(woman=0.5, man=0.5), 19),
    bad("an attribute missing", "has nothing for 'gender'", one(probs={}), 19),
    bad(
        "probability nan",
        "not a record",
        records(lambda x: x.replace(b'"man": 0.', b'"man": NaN, "x": 0.', 1)),
        1,
    ),
    bad("probability 7", "not a record", probs(woman=7.0, man=0.0, person=0.0), 1),
    bad("probabilities sum to 2", "sum to 2", probs(woman=1.0, man=1.0, person=0.0), 1),
    bad("seed in words", "not a record", one(seed="one"), 19),
    bad("seen in words", "not a record", one(seen="yes"), 19),
    bad("states a list", "not a record", one(states=["woman"]), 19),
    bad("appended to itself", "stands twice", records(lambda x: x + x), 2),
    good("none", records(lambda _: b""), images(0), 5),
    good("empty lines", records(lambda x: x.replace(b"\n", b"\n\n")), images(12)),
    good(
        "a class that nobody knows is said", one(states={"gender": "female"}), said("'female'"), 5
    ),
    good(
        "all say a class",
        run(
            lambda f: text_of(
                "records.jsonl",
                lambda x: x.replace(b'"states": {}', b'"states": {"gender": "man"}'),
            )(f)
        ),
        said("Every prompt says a class"),
        5,
    ),
    good("an image beside the run", run(secret), shown(11), 46),
    good("images that are gone", run(without_images), shown(0)),
    good("unfinished", run(unfinished), images(12)),
    bad("a damaged part", "not a record", run(damaged_part), 19),
    good(
        "a prompt like a tag",
        run(row(lambda r: {**r, "prompt": "[/bold] $\\x$", "split": "[red]"})),
        images(12),
        12,
    ),
]
COMPARE = [
    bad("not there", "is no run directory", {}, command=C),
    bad("one alone", "is no run directory", run(), command=C),
    Case("with itself", "compare run run --out c", None, run(), said("0.00")),
    Case("two runs", C, None, BOTH, images(12, "c/report.json") if False else said("gap")),
    bad(
        "another judge",
        "the judges .* differ",
        {
            **BOTH,
            "other": copied(
                "other", json_of("run.json", settings__judge={"name": "x", "digest": "y"})
            ),
        },
        command=C,
    ),
    bad(
        "another attribute",
        "the gap of .gender. is taken between",
        {
            **BOTH,
            "other": copied(
                "other",
                json_of(
                    "run.json",
                    settings__attributes={"gender": {"classes": ["person", "woman", "man"]}},
                ),
            ),
        },
        command=C,
    ),
    bad(
        "no image in common",
        "share no image",
        {
            **BOTH,
            "other": copied(
                "other", text_of("records.jsonl", lambda x: x.replace(b'"seed": ', b'"seed": 1'))
            ),
        },
        command=C,
    ),
    Case(
        "another target",
        C,
        None,
        {
            **BOTH,
            "other": copied(
                "other", json_of("run.json", settings__target={"gender": {"man": 1.0}})
            ),
        },
        said("the first had another or none"),
        14,
    ),
    Case(
        "another split",
        C,
        None,
        {
            **BOTH,
            "other": copied(
                "other",
                text_of("records.jsonl", lambda x: x.replace(b'"split": "test"', b'"split": "x"')),
            ),
        },
        said("another split"),
        14,
    ),
    Case(
        "another family",
        C,
        None,
        {
            **BOTH,
            "other": copied(
                "other",
                text_of("records.jsonl", lambda x: x.replace(b'"family": "', b'"family": "x')),
            ),
        },
        said("another family"),
        14,
    ),
    Case(
        "states in one alone",
        C,
        None,
        {**BOTH, "other": copied("other", row(lambda r: {**r, "states": {"gender": "man"}}))},
        said("another class in one run"),
        14,
    ),
    bad("into a run", "holds another report", BOTH, 26, "compare run other --out run"),
    bad("into somebody's report", "holds another report", {**BOTH, "c/report.html": "mine"}, 26, C),
    bad("reference without features", "say with --features", BOTH, command=f"{C} --reference run"),
    bad("features of an unknown kind", "features: kind", BOTH, command=f"{C} --features clop"),
    bad("pixels of a model", "takes no model", BOTH, 7, f"{C} --features pixels=x"),
    bad("features twice", "named twice", BOTH, 7, f"{C} --features pixels --features pixels"),
    bad(
        "features nobody can fetch",
        "cannot be loaded",
        BOTH,
        command=f"{C} --features clip=nobody/nothing",
    ),
    bad(
        "images that are gone",
        "no such file",
        {**BOTH, "run": copied("run", without_images)},
        command=f"{C} --features pixels",
    ),
    bad(
        "reference in pixels",
        "no distance is computed",
        BOTH,
        command=f"{C} --features pixels --reference run",
    ),
    bad(
        "reference without images",
        "holds no image|torchmetrics",
        {**BOTH, "x/a": ""},
        command=f"{C} --features classifier --reference x",
    ),
    Case("again into the same folder", C, None, BOTH, said("gap"), then=lambda f: None),
]
CASES = [*RUN_JSON, *RECORDS, *COMPARE]
