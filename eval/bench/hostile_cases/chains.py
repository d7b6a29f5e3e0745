"""Bad inputs of `evenhand chain`: stages twice, in an impossible order, of other settings."""

import yaml

from hostile_cases.case import Case, text_of

HOW = {
    "model": "emoji",
    "prompts": ["emoji-occupations"],
    "splits": ["test"],
    "attributes": ["gender"],
    "images": 2,
    "explicit_images": 0,
    "settings": {"num_inference_steps": 2},
}
BEFORE, DFT = {"measure": HOW}, {"train": "dft/emoji-gender"}
MINE = "chain ./c.yaml --out c"


def chain(**stages) -> dict:
    return {"c.yaml": yaml.safe_dump({"stages": stages}, sort_keys=False)}


def bad(name: str, says: str, **stages) -> Case:
    """A chain that is refused before anything is loaded."""
    return Case(name, MINE, says, chain(**stages))


def twice() -> dict:
    text = yaml.safe_dump({"stages": {"before": BEFORE}})
    return {"c.yaml": text + text.partition("\n")[2]}


CASES = [
    Case("stage named twice", MINE, "key 'before' stands twice", twice()),
    bad("stage before what it builds on", "put 'dft' before it",
        after={**BEFORE, "adapter": "dft"}, dft=DFT),
    bad("stage that builds on itself", "in the same place", a={**BEFORE, "adapter": "a"}),
    bad("stage that nobody knows", "unknown stage 'dtf'; did you mean 'dft'", dft=DFT,
        after={**BEFORE, "adapter": "dtf"}),
    bad("adapter of a measurement", "'a' does measure", a=BEFORE, b={**BEFORE, "adapter": "a"}),
    bad("two verbs", "one verb of", a={**BEFORE, **DFT}),
    bad("no verb", "given: none", a={}),
    bad("name that is no folder's", "pattern", **{"../a": BEFORE}),
    bad("classifiers without real images", "needs real images", c={"classify": "emoji-chain"}),
    bad("recipe that is not there", "stages.dft: unknown recipe", dft={"train": "dft/nobody"}),
    bad("setting that there is not", "images: ", a={**BEFORE, "set": ["images=0"]}),
    bad("set that is no pair", "write key=value", a={**BEFORE, "set": ["images"]}),
    bad("another model than the adapter's", "trains an adapter of the model 'emoji'", dft=DFT,
        after={"measure": {**HOW, "model": "sd15", "judge": "emoji-judge"}, "adapter": "dft"}),
    Case("chain that is not there", "chain emojy", "did you mean"),
    Case("chain without stages", MINE, "at least 1", {"c.yaml": "stages: {}"}),
    Case("key that there is not", MINE, "stage: Extra inputs", {"c.yaml": "stage: {}\nstages: {a: "
         "{train: dft/emoji-gender}}"}, lines=1),
    Case("real images that are not there", MINE, "nowhere.csv: no such file",
         {"c.yaml": yaml.safe_dump({"data": "nowhere.csv", "stages": {"a": BEFORE}})}),
    Case("from a stage that there is not", f"{MINE} --from nowhere", "unknown stage 'nowhere'",
         chain(before=BEFORE)),
    Case("stage of other settings", MINE, "stage 'before' was done .*images was 2, is 3",
         chain(before=BEFORE), then=lambda folder: None,
         again=f"{MINE} stages.before.set=[images=3]"),
    Case("record of a stage that is none", MINE, "before.json: cannot be read",
         chain(before=BEFORE),
         then=lambda folder: text_of("before.json", lambda text: b"[]")(folder / "c" / "stages")),
    Case("folder of another verb's run", MINE, "holds a run of another verb",
         {**chain(before=BEFORE), "c/run.json": {"settings": {}}}),
    Case("several processes", MINE, "run by one process", chain(before=BEFORE),
         process={"WORLD_SIZE": "2", "RANK": "0"}),
    Case("adapters and no training", "demo --chain --quick", "leave one out"),
]  # fmt: skip
