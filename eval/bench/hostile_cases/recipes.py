"""Bad inputs of `evenhand train`: recipes, settings, run directories."""

import pathlib

import yaml

from hostile_cases.case import Case, copied, json_of, text_of

T = "train dft/emoji-gender"
SHORT = (
    f"{T} steps=1 images=2 prompts_per_step=1 explicit_images=0 num_inference_steps=[2] "
    "gradient.calls=1 preservation.seeds=0 --out t"
)
AGAIN = {"t": copied("training")}
MINE = "train ./r.yaml --out t"
RECIPE = {
    "model": "emoji",
    "prompts": "emoji-occupations",
    "classifier": "emoji-trainer",
    "target": {"shares": {"gender": {"woman": 0.5, "man": 0.5}}},
}


PROMPTS = """
version: 1
source: me
licence: CC0
family: f
templates: ["{{concept}}"]
concepts: {{{}: [judge]}}
"""


def recipe(**changes) -> dict:
    return {"r.yaml": yaml.safe_dump({**RECIPE, **changes})}


def bad(name: str, changes: str, says: str, fault: int | None = None) -> Case:
    """A setting of a recipe that ships."""
    return Case(name, f"{T} {changes} --out t", says, fault=fault)


def finished(folder: pathlib.Path, out: str) -> bool:
    return (folder / "t" / "adapter" / "adapter.json").exists()


NAMES = [
    Case("a recipe misspelt", "train dft/emoji-gendre", "unknown recipe.*did you mean"),
    Case("a recipe of judges", "train classifiers/utkface --out t", "Field required", lines=14),
    Case("no YAML", MINE, "cannot be read as YAML", {"r.yaml": "{"}),
    Case("an empty YAML", MINE, "holds no mapping", {"r.yaml": ""}),
    Case("nothing in it", MINE, "Field required", {"r.yaml": "{}"}, lines=4),
    Case("a key twice", MINE, "stands twice", {"r.yaml": "model: a\nmodel: b\n"}),
    bad("model misspelt", "model=emojo", "unknown model 'emojo'"),
    bad("prompts misspelt", "prompts=emoji-occupation", "unknown prompt set"),
    bad("classifier misspelt", "classifier=emoji-trainr", "unknown judge"),
    bad(
        "class misspelt",
        "'target={shares: {gender: {womn: .5, man: .5}}}'",
        "unknown class 'womn'",
        17,
    ),
    bad(
        "attribute misspelt",
        "'target={shares: {gendr: {woman: .5, man: .5}}}'",
        "unknown attribute",
    ),
    bad(
        "family misspelt",
        "'targets={x: {shares: {gender: {man: 1}}}}'",
        "unknown prompt family 'x'",
    ),
    bad("a part misspelt", "lora.part=text_encodr", "lora.part: Input should be"),
    bad("a key misspelt", "lr=1", "lr: Extra inputs"),
    bad("where it stood before", "learning_rate=1", "learning_rate is now optimisation.learning"),
    bad("no value", "steps", "write key=value"),
    bad("twice", "steps=3 steps=4", "given twice", 7),
    bad("a value as a group", "steps.a=3", "is a value, not a group|steps"),
]
VALUES = [
    bad("no steps", "steps=0", "steps: Input should be greater"),
    bad("steps in words", "steps=many", "steps: Input should be a valid integer"),
    bad("one image", "images=1", "images: Input should be greater"),
    bad("rank below 1", "lora.rank=-1", "lora.rank: Input should be greater"),
    bad("no modules", "lora.modules=[]", "lora.modules: ", 7),
    bad("shares over 1", "'target={shares: {gender: {woman: .9, man: .9}}}'", "sums to 1.8"),
    bad("share nan", "'target={shares: {gender: {woman: .nan, man: .5}}}'", "finite", 1),
    bad("no share", "'target={shares: {}}'", "either shares or a joint table"),
    bad("seed below 0", "seed=-1", "seed: Input should be greater"),
    bad("seed beyond 63 bits", "seed=99999999999999999999", "seed: Input should be less"),
    bad("rate 0", "optimisation.learning_rate=0", "learning_rate: Input should be greater"),
    bad("rate nan", "optimisation.learning_rate=.nan", "learning_rate", 1),
    bad("rate inf", "optimisation.learning_rate=.inf", "learning_rate", 1),
    bad("weight inf", "preservation.weight=.inf", "finite", 1),
    bad("sampling steps of none", "num_inference_steps=[]", "num_inference_steps: "),
    bad("sampling steps 0", "num_inference_steps=[0]", "num_inference_steps.0: "),
    Case("no prompt set", f"{T} prompts={{}} --out t", "at least 1 item", lines=2),
    Case("weight 0", f"{T} 'prompts={{emoji-occupations: 0}}' --out t", "greater than 0", lines=2),
    bad("both kinds", "soft_tokens.count=2", "trains lora or soft_tokens, not both"),
    bad("confidence of another", "'alignment.confidence={tone: .3}'", "alignment.confidence is of"),
    bad("fewer seeds than images", "preservation.seeds=1", "fewer than the"),
    bad("warm-up of 1.5 steps", "optimisation.warmup=1.5", "give whole steps"),
    bad(
        "a pattern that is none",
        "'optimisation.groups=[{match: (, learning_rate: 1}]'",
        "no regular",
    ),
    bad("dtype misspelt", "dtype=float16x", "dtype: Input should be"),
    bad(
        "features of a model",
        "'preservation.features=[{kind: pixels, model: x}]'",
        "takes no model",
        7,
    ),
    bad("token empty", "lora=null soft_tokens.token=''", "soft_tokens.token", 26),
    bad("token of two words", "lora=null soft_tokens.token='a b'", "soft_tokens.token", 26),
    Case(
        "mistakes are named together",
        f"{T} steps=0 lora.rank=0 images=x --out t",
        "steps: ",
        lines=3,
    ),
]
RUNS = [
    Case("modules that are none", f"{SHORT} lora.modules=[nothing]", "lora.modules of the text_en"),
    Case(
        "a pattern for nothing",
        f"{SHORT} 'optimisation.groups=[{{match: x9, learning_rate: 1}}]'",
        "matches no",
    ),
    Case("a rate of 1e30", f"{SHORT} optimisation.learning_rate=1e30", "finite", fault=1),
    Case(
        "features nobody can fetch",
        f"{SHORT} 'preservation.features=[{{kind: dino, model: a/b}}]'",
        "cannot be l",
    ),
    Case(
        "a bank that is gone", f"{SHORT} 'realism={{weight: 1, network: classifier, bank: x}}'", "x"
    ),
    Case(
        "explicit prompts of none",
        f"{SHORT.replace('explicit_images=0', 'explicit_images=2')} prompts=./q.yaml",
        "have no prompts that say",
        {"q.yaml": PROMPTS.format("train")},
    ),
    Case(
        "no training prompts",
        f"{SHORT} prompts=./q.yaml",
        "unknown split 'train'",
        {"q.yaml": PROMPTS.format("test")},
    ),
    Case("out is a file", f"{T} --out t", "t", {"t": "mine"}),
    Case("out is somebody's", f"{T} --out t", "holds files but no run.json", {"t/a.txt": "mine"}),
    Case("out is a measurement", f"{T} --out t", "other settings", {"t": copied("run")}, fault=17),
    Case(
        "out is a measurement without images",
        f"{T} --out t",
        "other settings",
        {"t": copied("folder")},
        fault=17,
    ),
    Case("out is another training", f"{T} --out t", "other settings", AGAIN),
    Case("a finished training again", SHORT, None, AGAIN, finished, changed=("t/*",)),
    Case(
        "a checkpoint cut",
        SHORT,
        "cannot be read as a checkpoint",
        {"t": copied("training", text_of("checkpoint.pt", lambda x: x[:99]))},
    ),
    Case(
        "a checkpoint of another judge",
        SHORT,
        "was trained against",
        {"t": copied("training", json_of("nothing.json"))},
    )
    if False
    else Case(
        "run.json a list",
        SHORT,
        "cannot be read as a run",
        {"t": copied("training", text_of("run.json", lambda _: b"[]"))},
        fault=19,
    ),
    Case(
        "a log of something else",
        SHORT,
        "is no log of this training",
        {"t": copied("training", text_of("log.jsonl", lambda _: b'{"step": 0}\n'))},
        changed=("t/*",),
    ),
    Case("a model of NaN", f"{SHORT} model=./m", "not finite", {"m": copied("nan-model")}, fault=1),
    Case("two processes that are not there", SHORT, None, {}, finished),
    Case("dry run of a bad recipe", f"{T} steps=0 --dry-run", "steps: Input"),
]
CASES = [*NAMES, *VALUES, *RUNS]
