"""What was accepted and not used, or counted wrongly: refused, or said, where it is first known."""

import json
import os
import pathlib
import subprocess
import sys

import pipelines
import pytest
import torch
import yaml
from PIL import Image
from test_reports import record, run_of

from evenhand.cli import _check_words
from evenhand.cli.measure_settings import configured, parse_target
from evenhand.cli.options import keys_once
from evenhand.cli.show import progress
from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError
from evenhand.core.files import whole, write_json
from evenhand.core.prompts import PromptSet, load_prompts
from evenhand.core.resources import locate, one_spelling
from evenhand.core.schema import check, parse_yaml
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.diffusion.tokens import cut_short
from evenhand.images.folders import survey
from evenhand.images.io import Unreadable, read_image
from evenhand.images.labelled import labelled, readable
from evenhand.measure.plan import plan
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.features import Feature
from evenhand.recipes.judge import JudgeConfig
from evenhand.recipes.labels import Labels
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import Model, Settings, load_model
from evenhand.reports.html import may_hold_comparison, write_comparison
from evenhand.training.run_directory import open_run

SET = {
    "version": 1,
    "source": "me",
    "licence": "CC0",
    "family": "f",
    "templates": ["an emoji of {a} {concept}"],
    "concepts": {"test": ["judge"]},
}
A = {"a": {"classes": ["b", "c"]}}
EMOJI = Measure(
    model="emoji", prompts=["emoji-occupations"], attributes=["gender"], splits=["test"]
)


def planned(**changes):
    return plan(EMOJI.model_copy(update=changes))


@pytest.mark.parametrize(
    "texts, message",
    [
        (["gender=man:.5,man:.5"], "a class is named twice"),
        (["gender=man:1", "gender=woman:1"], "the attribute is named twice"),
        (["gender"], "write ATTRIBUTE=CLASS:SHARE"),
    ],
)
def test_a_target_says_each_thing_once(texts, message):
    with pytest.raises(Exception, match=message):
        parse_target(texts)


def test_a_class_with_a_colon_has_a_share():
    assert parse_target(["race=asian: east:.5,other:.5"]) == {
        "race": {"asian: east": 0.5, "other": 0.5}
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": {"tone": {"dark": 1.0}}}, "'tone': it is not among the attributes measured"),
        ({"joint": True}, "'gender' is measured alone"),
        ({"images": 10**7}, "more than one run takes"),
    ],
)
def test_what_would_not_be_used_is_refused_before_anything_is_loaded(changes, message):
    with pytest.raises(UserError, match=message):
        planned(**changes)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model": "emoji", "prompts": ["a", "a"]}, "prompts: 'a' is given twice"),
        ({"model": "emoji", "prompts": ["a"], "adapter_scale": 0.5}, "strength of an adapter"),
        ({"model": "emoji", "prompts": ["a"], "until": 1e-9}, "greater than or equal to 0.005"),
        ({"images_from": "x", "images": 4}, "no number of images"),
        ({"images_from": "x", "adapter_scale": float("nan")}, "finite"),
    ],
)
def test_settings_that_say_nothing_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        check(Measure, values, where="m")


def test_a_key_is_given_once():
    with pytest.raises(UserError, match=r"a\.b is given twice"):
        keys_once(["a.b=1", "c=3", "a.b=2"])


@pytest.mark.parametrize(
    "model, values, message",
    [
        (Settings, {"guidance_scale": float("inf")}, "finite"),
        (Settings, {"options": {"eta": float("nan")}}, "no finite number"),
        (Settings, {"options": {"num_inference_steps": 2}}, "has its own place"),
        (Feature, {"kind": "pixels", "model": "x"}, "takes no model"),
        (Feature, {"kind": "dino", "weights": "x"}, "takes no weights"),
        (Labels, {"column": "c", "bins": {"a": (0, 9), "b": (1, 20)}}, "two bins overlap"),
        (Labels, {"column": "c", "bins": {"a": (9, 9)}}, "a bin is empty"),
        (
            JudgeConfig,
            {"kind": "emoji", "path": "x", "attributes": A, "faces": {}},
            "faces: a judge of kind emoji takes none",
        ),
        (PromptSet, {**SET, "templates": []}, "no wording"),
        (PromptSet, {**SET, "concepts": {"test": [" "]}}, "a concept is empty"),
    ],
)  # fmt: skip
def test_schemas_refuse_what_makes_no_sense(model, values, message):
    with pytest.raises(UserError, match=message):
        check(model, values, where="x")


@pytest.mark.parametrize("change", ["seed=-1", "seed=99999999999999999999", "lora.modules=[]"])
def test_recipes_refuse_what_would_end_a_training_later(change):
    with pytest.raises(UserError, match="emoji-gender.yaml: (seed|lora.modules)"):
        load_recipe("dft/emoji-gender", [change])


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdef", "bcdefg", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    with pytest.raises(UserError, match="aliases"):
        parse_yaml("\n".join(lines), where="x")
    assert parse_yaml("a: &a [1]\nb: *a", where="x") == {"a": [1], "b": [1]}


# Prompts


def write_set(path: pathlib.Path, **changes) -> str:
    path.write_text(yaml.safe_dump({**SET, **changes}))
    return str(path)


def test_sets_that_lead_back_to_themselves_are_refused(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    write_set(a, concepts=str(b)), write_set(b, concepts=str(a))
    with pytest.raises(UserError, match="leads back to this file"):
        load_prompts(str(a))


def test_a_prompt_of_two_sets_counts_in_the_first_and_that_is_said(tmp_path):
    names = [write_set(tmp_path / f"{f}.yaml", family=f) for f in "fg"]
    found = planned(prompts=names, splits=[], images=3, explicit_images=0)
    assert len(found.rows) == 3 and {p.family for p, _ in found.rows} == {"f"}
    assert found.settings["shared"] == ["an emoji of a judge"]


def test_lines_of_a_text_are_ended_by_line_feeds_alone(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffa judge\u2028at work\r\na pilot\n\n".encode())
    assert [p.text for p in load_prompts(str(path)).prompts()] == [
        "a judge\u2028at work",
        "a pilot",
    ]


@pytest.mark.parametrize(
    "concept, article",
    [
        ("FBI agent", "an"),
        ("NASA engineer", "a"),
        ("MRI technician", "an"),
        ("UN officer", "a"),
        ("X-ray technician", "an"),
        ("honest banker", "an"),
        ("DJ", "a"),
        ("EU official", "an"),
        ("Egyptian cook", "an"),
    ],
)
def test_articles_of_what_is_spelt(concept, article):
    (prompt,) = PromptSet(**{**SET, "concepts": {"test": [concept]}}).prompts()
    assert prompt.text == f"an emoji of {article} {concept}"


def test_prompts_that_no_encoder_reads_to_the_end_are_named(emoji):
    long = "an emoji of a judge " * 9
    assert cut_short(emoji, [long, "an emoji of a judge", long]) == [long]


def test_a_prompt_that_one_encoder_reads_is_not_cut_short():
    flux = pipelines.make("flux", frozen=True)
    words = "a " * (flux.pipe.tokenizer.model_max_length + 3)
    assert cut_short(flux, [words]) == []


# Names and places


def test_a_file_has_one_spelling(tmp_path, monkeypatch):
    (tmp_path / "emoji").mkdir()
    (tmp_path / "p.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert one_spelling("./emoji") == one_spelling("emoji/../emoji") == str(tmp_path / "emoji")
    assert one_spelling("p.txt") == str(tmp_path / "p.txt")
    assert [one_spelling(x) for x in ("emoji", "owner/model", "none.txt")] == [
        "emoji",
        "owner/model",
        "none.txt",
    ]


def test_a_plan_does_not_depend_on_how_its_files_are_spelled(tmp_path, monkeypatch):
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pics" / "a.png")
    (tmp_path / "t.csv").write_text("image,prompt\na.png,x\n")
    monkeypatch.chdir(tmp_path)
    relative, absolute = (
        plan(Measure(images_from=f"{p}pics", prompts=[f"{p}t.csv"], judge="emoji-judge")).settings
        for p in ("", f"{tmp_path}/")
    )
    assert relative == absolute


def test_a_folder_that_means_the_working_directory_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = dict.fromkeys([*Measure.model_fields, *OPTIONS])
    _, folder = configured({**given, "images_from": "."})
    assert folder == pathlib.Path("runs/measure") / tmp_path.name


OPTIONS = ("protocol", "split", "setting", "out", "executor", "executor_option", "shard")


def test_a_single_file_says_how_it_becomes_a_folder():
    with pytest.raises(UserError, match="from_single_file"):
        load_model("model.safetensors")


def test_an_adapter_may_be_named_by_its_file(tmp_path):
    shipped = find_adapter("emoji-gender")
    assert find_adapter(str(shipped.weights)).source == shipped.source
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(UserError, match="is cut short, or no safetensors file"):
        find_adapter(str(tmp_path / "other.safetensors"))


def test_a_data_set_that_is_gone_is_not_found_in_a_cache():
    with pytest.raises(UserError, match="no such file or folder"):
        labelled("labelled-that-is-gone")


@pytest.mark.parametrize(
    "words, message",
    [(["report", ""], "an argument after 'report' is empty"), (["caf\udce9"], "is not UTF-8")],
)
def test_words_that_cannot_be_meant_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        _check_words(words)


def test_a_models_folder_is_found_beside_its_yaml(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m.yaml").write_text("path: m")
    assert load_model(str(tmp_path / "m.yaml")).path == str(tmp_path / "m")
    with pytest.raises(UserError, match="there is no such folder"):
        load_model("./none")


# What may be replaced


def test_a_comparison_replaces_no_other_report(tmp_path):
    run = run_of(tmp_path / "run", [record()])
    with pytest.raises(UserError, match="holds another report"):
        write_comparison(run, run, run)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    with pytest.raises(UserError, match="holds another report"):
        may_hold_comparison(tmp_path / "mine")
    for _ in range(2):  # its own it does
        write_comparison(run, run, tmp_path / "out")


def test_gaps_between_other_classes_are_not_compared(tmp_path):
    classes = ["woman", "man", "person"]
    first, second = (
        run_of(
            tmp_path / name,
            [record(classes=classes)],
            attributes={"gender": {"classes": classes, "contrast": contrast}},
        )
        for name, contrast in (("a", ["woman", "man"]), ("b", []))
    )
    with pytest.raises(UserError, match="the gap of 'gender' is taken between woman, man in one"):
        write_comparison(first, second, tmp_path / "out")


def test_a_training_does_not_replace_a_measurement(tmp_path):
    run = run_of(tmp_path / "run", [record()])
    before = (run / "run.json").read_text()
    with pytest.raises(UserError, match="other settings|an older evenhand"):
        open_run(run, {"model": "emoji", "prompts": "x"})
    assert (run / "run.json").read_text() == before


def test_a_training_that_never_came_to_a_checkpoint_is_replaced(tmp_path):
    open_run(tmp_path / "t", {"recipe": 1, "data": "x"})
    open_run(tmp_path / "t", {"recipe": 2, "data": "x"})
    assert json.loads((tmp_path / "t" / "run.json").read_text())["settings"]["recipe"] == 2


# Pictures


def test_a_folder_is_surveyed(tmp_path):
    folder = tmp_path / "pics"
    folder.mkdir()
    image = Image.new("RGB", (9, 9))
    image.save(folder / "a.png")
    image.save(folder / "b", format="JPEG")  # by its content
    for name in ("notes.txt", "c.nef", "d.svg"):
        (folder / name).write_text("x")
    (folder / "e").symlink_to(tmp_path / "gone")
    (tmp_path / "more").mkdir()
    (folder / "f").symlink_to(tmp_path / "more")
    (folder / "g.png").mkdir()
    found, left_out = survey(folder)
    assert [p.name for p in found] == ["a.png", "b"]
    why = {pathlib.Path(x["skipped"]).name: x["why"] for x in left_out}
    assert why.keys() == {"c.nef", "d.svg", "e", "f"}
    assert "raw" in why["c.nef"] and why["e"] == "a link to nothing" and "link" in why["f"]


def test_a_picture_counts_once_whatever_links_to_it(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "b.png")
    found, left_out = survey(tmp_path)
    assert found == [tmp_path / "b.png"]
    assert [x["why"] for x in left_out] == ["a link to b.png, which counts by itself"] * 2


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.mkdir()])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "x.png")
    with pytest.raises(Unreadable, match="no file"):
        read_image(tmp_path / "x.png")


def test_labelled_images_are_read_past_a_broken_one(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"x")
    rows = [{"image": {"path": str(p), "bytes": None}} for p in sorted(tmp_path.iterdir())]
    with pytest.warns(UserWarning, match=r"x: 1 of 3 images could not .*b\.png \(no image\)"):
        assert [i for i, _ in readable(rows, "x")] == [0, 2]


# Pipelines


def test_a_pipeline_that_changes_images_is_refused(tmp_path):
    import shutil

    folder = shutil.copytree(locate("package:emoji/model"), tmp_path / "m")
    index = json.loads((folder / "model_index.json").read_text())
    write_json(
        folder / "model_index.json", {**index, "_class_name": "StableDiffusionInpaintPipeline"}
    )
    with pytest.raises(UserError, match="changes images that it is given"):
        load_diffusion(Model(path=str(folder)))


def test_files_of_one_variant_alone_are_read(tmp_path, emoji):
    import shutil

    folder = shutil.copytree(locate("package:emoji/model"), tmp_path / "m")
    for path in [*folder.rglob("*.safetensors")]:
        path.rename(path.with_suffix(".fp16.safetensors"))
    drawn = load_diffusion(Model(path=str(folder)), device="cpu")
    assert drawn.source.startswith("m@")
    ask = (["an emoji of a judge"], [1])
    torch.testing.assert_close(
        drawn.sample(*ask, num_inference_steps=2),
        emoji.sample(*ask, num_inference_steps=2, guidance_scale=7.5),
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"options": {"num_images_per_prompt": 2}}, "evenhand sets it"),
        ({"options": {"prompt_embeds": [1]}}, "evenhand sets it"),
        ({"options": {"eta": 0.5}}, "DPMSolverMultistepScheduler has none"),
        ({"num_inference_steps": 2000}, "more than the 1000"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "cannot be driven by"),
    ],
)
def test_settings_that_a_pipeline_would_drop_or_break_on_are_refused(emoji, settings, message):
    with pytest.raises(UserError, match=message):
        Diffusion(emoji.pipe, settings=Settings(**settings))


# What is written and printed


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_names_the_file_whoever_wrote_it(tmp_path, error):
    with pytest.raises(OSError) as found, whole(tmp_path / "x.bin"):
        raise error
    assert found.value.filename == str(tmp_path / "x.bin") and found.value.errno == 28


def test_progress_in_a_file_is_lines(capsys, monkeypatch):
    monkeypatch.setattr("evenhand.cli.show.EVERY", 0.0)
    with progress("training") as update:
        update(1, 2, "loss 1")
        update(2, 2, "loss 0")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["training: 1 of 2", "training: 2 of 2"]
    assert lines[0].endswith("loss 1")


def test_an_ascii_terminal_shows_what_it_can(tmp_path):
    run = run_of(tmp_path / "run", [record(prompt="caf\u00e9", split="\u2013")])
    done = subprocess.run(
        [sys.executable, "-m", "evenhand", "report", str(run)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert not done.returncode and b"\\u2013" in done.stdout
