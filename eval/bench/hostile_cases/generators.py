"""Bad options of `measure` (names, numbers, targets, settings, places), and all its cases."""

from hostile_cases import judges, models, texts
from hostile_cases.case import Case, copied
from hostile_cases.measuring import LINES, TXT, G, images

SET = "measure emoji --prompts emoji-occupations --split test --attributes gender"


def setting(text: str) -> str:
    return f"measure emoji {TXT} --images 2 --explicit-images 0 --out r --setting {text}"


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
    Case("adapter twice", f"{SET} --adapter emoji-gender --adapter emoji-gender=.5", "given twice"),
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
    Case(
        "strength of several adapters",
        f"{SET} --adapter emoji-gender --adapter emoji-tone-75-25 --adapter-scale .5",
        "write --adapter NAME=STRENGTH for each",
        fault=7,
    ),
    Case("strengths for a sweep", f"{SET} --adapter emoji-gender=0,.5", "has several strengths"),
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
CASES = [
    *NAMES,
    *NUMBERS,
    *TARGETS,
    *SETTINGS,
    *judges.JUDGES,
    *models.MODELS,
    *models.ADAPTERS,
    *texts.TEXTS,
    *judges.CALIBRATIONS,
    *PLACES,
]
