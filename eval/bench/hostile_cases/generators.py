"""Bad inputs of `evenhand measure MODEL`: names, numbers, settings, files."""

import itertools
import json
import pathlib

import yaml

from hostile_cases.case import Case, adapter, copied, json_of, judge, model, tensors, text_of

LINES = {"p.txt": "an emoji of a judge\nan emoji of a pilot\n"}
SET = "measure emoji --prompts emoji-occupations --split test --attributes gender"
QUICK = "--images 2 --explicit-images 0 --setting num_inference_steps=2 --out r"
TXT = "--prompts p.txt --attributes gender"
G = f"measure emoji {TXT} {QUICK}"
ADAPTED = f"{G} --adapter ./a"
JUDGED = f"{G} --judge ./j.yaml"
OTHER = f"measure ./m {TXT} --judge emoji-judge {QUICK}"
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
PROMPTS = {
    "version": 1,
    "source": "me",
    "licence": "CC0",
    "family": "f",
    "templates": ["an emoji of {a} {concept}"],
    "concepts": {"test": ["judge"]},
}


def judged_by(**changes) -> dict:
    return {**LINES, "j.yaml": yaml.safe_dump({**JUDGE, **changes})}


def clip(**changes) -> dict:
    return {**LINES, "j.yaml": yaml.safe_dump({**CLIP, **changes})}


def prompts(**changes) -> dict:
    return {"q.yaml": yaml.safe_dump({**PROMPTS, **changes})}


def calibrated(**changes) -> dict:
    return {**LINES, "c.json": {**CALIBRATION, **changes}}


def table(**changes) -> dict:
    rows = CALIBRATION["attributes"]["gender"]
    return calibrated(attributes={"gender": {**rows, "woman": {**CALLED, **changes}}})


def report(folder: pathlib.Path) -> dict:
    return json.loads((folder / "r" / "report.json").read_text())


def images(n: int):
    return lambda folder, out: report(folder)["images"] == n


def noted(words: str):
    return lambda folder, out: any(words in note for note in report(folder)["notes"])


def setting(text: str) -> str:
    return f"measure emoji {TXT} --images 2 --explicit-images 0 --out r --setting {text}"


def fp16(folder: pathlib.Path) -> None:
    for part in ("unet", "vae"):
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        weights.rename(folder / part / "diffusion_pytorch_model.fp16.safetensors")
    weights = folder / "text_encoder" / "model.safetensors"
    weights.rename(folder / "text_encoder" / "model.fp16.safetensors")


def nan(state: dict) -> dict:
    return {k: v * float("nan") if v.is_floating_point() else v for k, v in state.items()}


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def bomb() -> str:
    """Aliases of aliases: nine lines that stand for 9 to the power of nine values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


LORA, TOKENS = "pytorch_lora_weights.safetensors", "soft_tokens.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
NAMES = [
    Case("model misspelt", f"measure emojo {TXT}", "unknown model 'emojo'; did you mean", LINES),
    Case("prompt set misspelt", "measure emoji --prompts jobs", "unknown prompt set 'jobs'"),
    Case("attribute misspelt", f"{SET},tones", "unknown attribute 'tones'; did you mean 'tone'"),
    Case("attribute twice", f"{SET},gender", "attributes: 'gender' is given twice", fault=7),
    Case("attribute without a name", f"{SET},", "unknown attribute ''"),
    Case("split misspelt", f"{SET} --split tset", "unknown split 'tset'; did you mean 'test'"),
    Case("split twice", f"{SET} --split test", "splits: 'test' is given twice", fault=7),
    Case("prompts twice", f"{SET} --prompts emoji-occupations", "is given twice", fault=7),
    Case("judge misspelt", f"{SET} --judge emoji-juge", "unknown judge 'emoji-juge'; did you mean"),
    Case("adapter misspelt", f"{SET} --adapter emoji-gendr", "unknown adapter"),
    Case("protocol misspelt", f"{SET} --protocol quik", "unknown protocol 'quik'; did you mean"),
    Case("no prompts", "measure emoji", "name a prompt set with --prompts"),
    Case("no model", "measure --judge emoji-judge", "name either a model or"),
    Case("model and images", "measure emoji --images-from x", "name either a model or"),
    Case("an option misspelt", f"{SET} --imags 3", "No such option: --imags.*--images"),
    Case("an option without a value", f"{SET} --images", "requires an argument"),
    Case("one argument too many", f"{SET} more", "unexpected extra argument.*more"),
    Case("a verb misspelt", "mesure emoji", "No such command 'mesure'.*measure"),
]
NUMBERS = [
    Case("no images", f"{SET} --images 0", "images: Input should be greater than or equal to 1"),
    Case("images below zero", f"{SET} --images -3", "images: Input should be greater"),
    Case("images in words", f"{SET} --images many", "'--images'.*valid integer"),
    Case("more images than there is time", f"{SET} --images 99999999", "more than one run takes"),
    Case("batch of none", f"{SET} --batch 0", "batch: Input should be greater"),
    Case("explicit images below zero", f"{SET} --explicit-images -1", "explicit_images: Input"),
    Case("strength nan", f"{SET} --adapter emoji-gender --adapter-scale nan", "finite", fault=26),
    Case("strength without an adapter", f"{SET} --adapter-scale .5", "strength of an ad", fault=7),
    Case(
        "strength of soft tokens",
        f"{G} --adapter emoji-gender-tokens --adapter-scale .5",
        "soft tokens have no strength",
        LINES,
    ),
    Case("until 1e-9", f"{SET} --until 1e-9", "until: Input should be greater than", fault=16),
    Case("until 0", f"{SET} --until 0", "until: Input should be greater than"),
    Case("until nan", f"{SET} --until nan", "until: Input should be a finite number"),
    Case("until .7", f"{SET} --until .7", "until: Input should be less than 0.5"),
    Case("until with a shard", f"{SET} --until .2 --shard 0/2", "--until decides by the images"),
    Case("shard beyond the last", f"{SET} --shard 2/2", "the first number is 0 to 1"),
    Case("shard of none", f"{SET} --shard 0/0", "write i/n"),
    Case("shard in words", f"{SET} --shard first", "write i/n"),
    Case("executor misspelt", f"{SET} --executor slrm", "unknown executor 'slrm'; did you mean"),
    Case("option of no executor", f"{SET} --executor-option a=1", "name one, --executor", fault=7),
    Case("joint alone", f"{SET} --joint", "--joint counts the combinations", fault=7),
    Case("seed in words", f"{SET} --seed one", "'--seed'.*valid integer"),
]
TARGETS = [
    Case("shares over 1", f"{SET} --target gender=woman:.6,man:.6", "sums to 1.2"),
    Case("shares below 0", f"{SET} --target gender=woman:1.5,man:-.5", "at least 0"),
    Case("share nan", f"{SET} --target gender=woman:nan,man:.5", "finite"),
    Case("class misspelt", f"{SET} --target gender=womn:.5,man:.5", "unknown class 'womn'"),
    Case("attribute misspelt", f"{SET} --target gendr=woman:.5,man:.5", "unknown attribute"),
    Case("class twice", f"{SET} --target gender=man:.5,man:.5,woman:.5", "named twice", fault=7),
    Case(
        "attribute twice",
        f"{SET} --target gender=man:.5,woman:.5 --target gender=man:1",
        "the attribute is named twice",
        fault=7,
    ),
    Case("not measured", f"{SET} --target tone=dark:1", "not among the attributes", fault=7),
    Case("no shares", f"{SET} --target gender", "write ATTRIBUTE=CLASS:SHARE"),
    Case("no numbers", f"{SET} --target gender=woman:half", "write ATTRIBUTE=CLASS:SHARE"),
]
SETTINGS = [
    Case("unknown", setting("steps=3"), "settings: steps: Extra inputs", LINES),
    Case("without a value", setting("num_inference_steps"), "write key=value", LINES),
    Case("twice", f"{G} --setting num_inference_steps=3", "given twice", LINES, fault=7),
    Case("no steps", setting("num_inference_steps=0"), "greater than or equal to 1", LINES),
    Case(
        "steps beyond the schedule",
        setting("num_inference_steps=99999"),
        "more than the 1000",
        LINES,
    ),
    Case("guidance nan", setting("guidance_scale=.nan"), "finite", LINES, fault=26),
    Case("guidance inf", setting("guidance_scale=.inf"), "finite", LINES, fault=26),
    Case("guidance below 0", setting("guidance_scale=-1"), "greater than or equal to 0", LINES),
    Case("height alone", setting("height=64"), "give both height and width", LINES, fault=7),
    Case("height 63", f"{setting('height=63')} --setting width=63", "divisible by", LINES, fault=7),
    Case(
        "height 0",
        f"{setting('height=0')} --setting width=0",
        "greater than",
        LINES,
        fault=7,
        lines=2,
    ),
    Case(
        "height -64",
        f"{setting('height=-64')} --setting width=-64",
        "greater",
        LINES,
        fault=7,
        lines=2,
    ),
    Case("scheduler misspelt", setting("scheduler=Eule"), "no scheduler 'Eule'", LINES, fault=20),
    Case("a pipeline as scheduler", setting("scheduler=DDIMPipeline"), "no sch", LINES, fault=20),
    Case(
        "a scheduler of another kind",
        setting("scheduler=FlowMatchEulerDiscreteScheduler"),
        "cannot be driven by",
        LINES,
        fault=20,
    ),
    Case(
        "algorithm misspelt",
        setting("scheduler_options.algorithm_type=foo"),
        "cannot be loaded: .*foo",
        LINES,
        fault=20,
    ),
    Case(
        "option without a scheduler is used",
        f"{setting('scheduler_options.use_karras_sigmas=true')} --setting num_inference_steps=2",
        None,
        LINES,
        images(4),
        fault=7,
    ),
    Case("scheduler's option", setting("scheduler_options.bogus=1"), "unknown op", LINES, fault=7),
    Case(
        "pipeline's option", setting("options.bogus=1"), "unknown setting 'bogus'", LINES, fault=7
    ),
    Case("option of ours", setting("options.output_type=pil"), "evenhand sets", LINES, fault=17),
    Case(
        "generator of theirs", setting("options.generator=1"), "evenhand sets it", LINES, fault=20
    ),
    Case("prompt of theirs", setting("options.prompt=x"), "evenhand sets it", LINES, fault=20),
    Case("two images a prompt", setting("options.num_images_per_prompt=2"), "evenhand s", LINES),
    Case("latents of theirs", setting("options.latents=[1]"), "evenhand sets it", LINES),
    Case("embeddings of theirs", setting("options.prompt_embeds=[1]"), "evenhand sets", LINES),
    Case("steps as an option", setting("options.num_inference_steps=2"), "own place", LINES),
    Case("infinite option", setting("options.eta=.inf"), "no finite number", LINES),
    Case("an option that would be dropped", setting("options.eta=1"), "has none", LINES),
    Case("options as a word", setting("options=fast"), "options: Input should be a valid d", LINES),
]
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
MODELS = [
    Case("folder not there", OTHER, "", LINES),
    Case("folder without a model", OTHER, "cannot be loaded", {**LINES, "m/x.txt": "x"}),
    Case(
        "index cut",
        OTHER,
        "cannot be loaded",
        {**LINES, "m": model(text_of("model_index.json", half))},
    ),
    Case("weights cut", OTHER, "cannot be loaded", {**LINES, "m": model(text_of(UNET, half))}),
    Case("weights nan", OTHER, "not finite", {**LINES, "m": model(tensors(UNET, nan))}, fault=1),
    Case(
        "a part missing",
        OTHER,
        "cannot be loaded",
        {**LINES, "m": model(lambda m: (m / UNET).unlink())},
    ),
    Case(
        "another class of pipeline",
        OTHER,
        "StableDiffusionInpaintPipeline",
        {
            **LINES,
            "m": model(json_of("model_index.json", _class_name="StableDiffusionInpaintPipeline")),
        },
        fault=26,
    ),
    Case(
        "a pipeline of no text",
        OTHER,
        "",
        {**LINES, "m": model(json_of("model_index.json", _class_name="DDPMPipeline"))},
        fault=20,
    ),
    Case(
        "a single file",
        f"measure model.safetensors {TXT} {QUICK}",
        "from_single_file",
        {**LINES, "model.safetensors": b"x"},
        fault=26,
    ),
    Case("files of fp16 alone are read", OTHER, None, {**LINES, "m": model(fp16)}, images(4), 26),
    Case(
        "a folder named as what ships does not hide it",
        G,
        None,
        {**LINES, "emoji/x.txt": "x"},
        images(4),
        24,
    ),
]
ADAPTERS = [
    Case("no weights", ADAPTED, "holds neither", {**LINES, "a/x.txt": "x"}),
    *(
        Case(
            f"adapter.json {x}",
            ADAPTED,
            "adapter.json",
            {**LINES, "a": adapter(change=change)},
            None,
            19,
        )
        for x, change in {
            "a list": text_of("adapter.json", lambda _: b"[]"),
            "null": text_of("adapter.json", lambda _: b"null"),
            "cut": text_of("adapter.json", half),
            "bytes": text_of("adapter.json", lambda _: b"\xff"),
            "deep": text_of("adapter.json", lambda _: b"[" * 99999),
            "of a later version": json_of("adapter.json", schema=99),
            "schema in words": json_of("adapter.json", schema="two"),
            "trainer a word": json_of("adapter.json", classifier="emoji-trainer"),
            "settings a list": json_of("adapter.json", settings=[]),
        }.items()
    ),
    Case(
        "token empty",
        ADAPTED,
        "token",
        {**LINES, "a": adapter("emoji-gender-tokens", json_of("adapter.json", token=""))},
        fault=26,
    ),
    Case(
        "the file instead of the folder is found",
        f"{G} --adapter ./a/{LORA}",
        None,
        {**LINES, "a": adapter()},
        images(4),
        26,
    ),
    Case(
        "a file of another name",
        f"{G} --adapter lora.safetensors",
        "an adapter is a folder",
        {**LINES, "lora.safetensors": b"x"},
        fault=26,
    ),
    Case(
        "half of its modules unknown",
        ADAPTED,
        "not loaded all of|cannot be loaded",
        {
            **LINES,
            "a": adapter(
                change=tensors(
                    LORA, lambda s: {k.replace("layers.1.", "layers.91."): v for k, v in s.items()}
                )
            ),
        },
        fault=3,
    ),
    *(
        Case(
            f"keys of another method: {ending}",
            ADAPTED,
            "not loaded all of|cannot be loaded",
            {
                **LINES,
                "a": adapter(
                    change=tensors(
                        LORA,
                        lambda s, ending=ending: {
                            **s,
                            next(iter(s)).split(".lora_")[0] + ending: next(
                                iter(s.values())
                            ).clone(),
                        },
                    )
                ),
            },
            fault=3,
        )
        for ending in (".dora_scale", ".lora_magnitude_vector", ".hada_w1_a")
    ),
    Case(
        "weights nan",
        ADAPTED,
        "not finite",
        {**LINES, "a": adapter(change=tensors(LORA, nan))},
        fault=1,
    ),
    Case(
        "weights of 1e38",
        ADAPTED,
        "not finite",
        {
            **LINES,
            "a": adapter(change=tensors(LORA, lambda s: {k: v * 1e38 for k, v in s.items()})),
        },
        fault=1,
    ),
    Case(
        "of another model",
        ADAPTED,
        "cannot be loaded",
        {
            **LINES,
            "a": adapter(
                change=tensors(
                    LORA,
                    lambda s: {k: v[:, :3].clone() if "lora_A" in k else v for k, v in s.items()},
                )
            ),
        },
    ),
    Case("cut", ADAPTED, "cannot be loaded", {**LINES, "a": adapter(change=text_of(LORA, half))}),
    Case(
        "the judge trained it",
        f"{G} --adapter emoji-gender --judge emoji-trainer",
        "would flatter",
        LINES,
    ),
]
LONG = "an emoji of a judge " * 20
TEXTS = [
    Case("empty", G, "holds no prompt", {"p.txt": "\n \n"}),
    Case("not there", G, "cannot be read"),
    Case("no UTF-8", G, "cannot be read", {"p.txt": b"caf\xe9\n"}),
    Case(
        "a byte order mark is no prompt",
        G,
        None,
        {"p.txt": b"\xef\xbb\xbfa judge\n"},
        lambda folder, out: "\ufeff" not in (folder / "r" / "records.jsonl").read_text(),
        21,
    ),
    Case(
        "rare line breaks end no prompt",
        G,
        None,
        {"p.txt": "a judge\u2028at work\na pilot\x0bof old\n"},
        images(4),
        22,
    ),
    Case(
        "longer than the encoder reads",
        G,
        None,
        {"p.txt": f"{LONG}one\n{LONG}two\n"},
        noted("longer than the model's text encoder reads"),
        8,
    ),
    Case(
        "a set that contains itself",
        "measure emoji --prompts ./q.yaml",
        "leads back to this file",
        prompts(concepts="./q.yaml"),
        fault=20,
    ),
    Case(
        "two sets that contain each other",
        "measure emoji --prompts ./q.yaml",
        "leads back to this file",
        {
            **prompts(concepts="./s.yaml"),
            "s.yaml": yaml.safe_dump({**PROMPTS, "concepts": "./q.yaml"}),
        },
        fault=20,
    ),
    Case(
        "two sets that share a prompt",
        f"measure emoji --prompts ./q.yaml --prompts ./s.yaml --attributes gender {QUICK}",
        None,
        {**prompts(), "s.yaml": yaml.safe_dump({**PROMPTS, "family": "g"})},
        noted("stand in several of the prompt sets"),
        52,
    ),
    Case(
        "a concept in two splits",
        "measure emoji --prompts ./q.yaml",
        "stands in test and train",
        prompts(concepts={"train": ["judge"], "test": ["judge"]}),
    ),
    Case("no concept", "measure emoji --prompts ./q.yaml", "no concept", prompts(concepts={})),
    Case(
        "an empty concept",
        "measure emoji --prompts ./q.yaml",
        "a concept is empty",
        prompts(concepts={"test": [" "]}),
    ),
    Case("no wording", "measure emoji --prompts ./q.yaml", "no wording", prompts(templates=[])),
    Case(
        "a wording without a place",
        "measure emoji --prompts ./q.yaml",
        "has no {concept}",
        prompts(templates=["a judge"]),
    ),
    Case(
        "a wording with another place",
        "measure emoji --prompts ./q.yaml",
        "cannot be filled in",
        prompts(templates=["{mood} {concept}"]),
    ),
    Case(
        "nothing but explicit prompts, and none of these",
        "measure emoji --prompts ./q.yaml --explicit-images 0",
        "nothing to draw",
        prompts(templates=[], explicit={"gender": {"woman": "a woman {concept}"}}),
    ),
    Case(
        "aliases without end",
        "measure emoji --prompts ./q.yaml",
        "aliases",
        {
            "q.yaml": bomb(),
        },
    ),
    Case(
        "a YAML a thousand levels deep",
        "measure emoji --prompts ./q.yaml",
        "cannot be read as YAML",
        {"q.yaml": "a: " + "[" * 3000},
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
PLACES = [
    Case("a file", f"{SET} --out x", "is a file", {"x": "mine"}),
    Case("somebody's folder", f"{SET} --out x", "holds files but no run.json", {"x/a.txt": "mine"}),
    Case(
        "another run's",
        f"{G.replace('--out r', '--out run')}",
        "other settings",
        {**LINES, "run": copied("run")},
    ),
    Case(
        "a training's",
        f"{G.replace('--out r', '--out t')}",
        "other settings",
        {**LINES, "t": copied("training")},
    ),
    Case("below a file", f"{SET} --images 1 --out x/y", "x", {"x": "mine"}),
    Case("where nobody may write", f"{G.replace('--out r', '--out /proc/r')}", "/proc", LINES),
    Case("a full disk", G, "r/.*(too large|space)", LINES, limit=4000, fault=26),
    Case("an ASCII terminal", G, None, LINES, images(4), 26, process={"PYTHONIOENCODING": "ascii"}),
]
CASES = NAMES + NUMBERS + TARGETS + SETTINGS + JUDGES + MODELS + ADAPTERS + TEXTS
CASES += CALIBRATIONS + PLACES
