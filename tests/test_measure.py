"""Measuring the embedded model.

Images of their own, runs that can be cut, reports from files alone.
"""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from evenhand.core.errors import UserError
from evenhand.core.records import image_seed, read, read_run
from evenhand.core.resources import locate
from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.reports.html import write_comparison, write_report

SMALL = Measure(
    model="emoji",
    prompts=["emoji-occupations"],
    attributes=["gender"],
    splits=["test"],
    images=3,
    explicit_images=1,
    batch=8,
    settings={"num_inference_steps": 3},
    target={"gender": {"woman": 0.45, "man": 0.45, "person": 0.1}},
)


class Cut(Exception):
    pass


def cut_after(images):
    def progress(done, total):
        if done >= images:
            raise Cut

    return progress


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, measure(SMALL, folder)


def test_an_image_does_not_depend_on_its_batch(emoji):
    prompts, seeds = (
        ["an emoji of a judge", "an emoji of a woman cook", "an emoji of a pilot"],
        [5, 6, 7],
    )
    together = emoji.sample(prompts, seeds, num_inference_steps=3)
    alone = torch.cat(
        [emoji.sample([p], [s], num_inference_steps=3) for p, s in zip(prompts, seeds, strict=True)]
    )
    assert together.shape == (3, 3, 64, 64) and together.min() >= 0 and together.max() <= 1
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together[0] - emoji.sample(prompts[:1], [8], num_inference_steps=3)).abs().max() > 0.1


def test_a_cut_run_goes_on_and_gives_the_same_records(run, tmp_path):
    folder = tmp_path / "cut"
    with pytest.raises(Cut):
        measure(SMALL, folder, progress=cut_after(16))
    assert 0 < len(read_run(folder)[1]) < 36
    measure(SMALL, folder)
    assert (folder / "records.jsonl").read_bytes() == (run[0] / "records.jsonl").read_bytes()
    assert (folder / "report.json").read_text() == (run[0] / "report.json").read_text()
    assert not list(folder.rglob("*.tmp"))


def test_another_configuration_is_refused_by_the_key_that_differs(run):
    with pytest.raises(UserError, match="images was 3, is 4"):
        measure(SMALL.model_copy(update={"images": 4}), run[0])


def test_records_hold_what_was_asked_and_perceived(run):
    records = read(run[0] / "records.jsonl")
    assert len(records) == 6 * 3 + 6 * 3 * 1
    for r in records:
        assert (run[0] / r.image).is_file() and r.source.startswith("package:emoji/model@")
        assert set(r.probs) == {"gender", "occupation"} and sum(
            r.probs["gender"].values()
        ) == pytest.approx(1, abs=1e-3)
        assert not r.states or r.states["gender"] in ("woman", "man", "person")
    assert records[0].seed == image_seed("measure", 0, records[0].prompt, 0)


def test_a_report_counts_what_the_records_say(run):
    entry = run[1].attributes["gender"]
    rows = [r for r in read(run[0] / "records.jsonl") if not r.states]
    assert entry.splits["test"].images == len(rows) == 18
    first = entry.prompts[0]
    mine = [r for r in rows if r.prompt == first.prompt]
    seen = [r for r in mine if r.seen]
    assert first.images == 3 and first.seen == len(seen)
    men = sum(r.perceived["gender"] == "man" for r in seen)
    assert first.shares["man"].value == pytest.approx(men / len(seen) if seen else None)
    assert entry.target == [0.45, 0.45, 0.1]


def test_a_report_is_made_anew_without_torch(run):
    before = json.loads((run[0] / "report.json").read_text())
    (run[0] / "report.html").unlink()
    code = (
        f"import sys; from evenhand.reports.html import write_report; "
        f"write_report({str(run[0])!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert json.loads((run[0] / "report.json").read_text()) == before
    page = (run[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 36
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_a_run_compared_with_itself_has_not_changed(run, tmp_path):
    change = write_comparison(run[0], run[0], tmp_path).change.attributes["gender"].splits["test"]
    assert change.gap.value == 0 == change.distance.value
    assert change.gap.low < 0 < change.gap.high and change.distance.low < 0 < change.distance.high
    assert (tmp_path / "report.html").is_file()


def test_runs_without_common_images_are_not_compared(run, tmp_path):
    other = tmp_path / "other"
    measure(SMALL.model_copy(update={"seed": 1, "images": 1, "explicit_images": 0}), other)
    with pytest.raises(UserError, match="share no image"):
        write_comparison(run[0], other, tmp_path / "out")


def test_the_trainer_does_not_judge_its_adapter(tmp_path):
    config = SMALL.model_copy(
        update={
            "adapter": "emoji-gender",
            "judge": "emoji-trainer",
            "images": 1,
            "explicit_images": 0,
        }
    )
    with pytest.raises(UserError, match="trained the adapter"):
        measure(config, tmp_path / "run")
    report = measure(config, tmp_path / "run", judge_may_be_trainer=True)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["judge_is_trainer"] is True and "flatter" in report.notes[0]


def test_a_damaged_record_is_named(run, tmp_path):
    journal = tmp_path / "records.jsonl"
    lines = (run[0] / "records.jsonl").read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + "{broken\n" + lines[1])
    with pytest.raises(UserError, match=r"records\.jsonl:2: not a record"):
        read(journal)
    assert write_report(run[0])


def test_several_prompt_sets_and_joint_attributes_are_reported_each_and_together(tmp_path):
    tones = ["light", "medium-light", "medium", "medium-dark", "dark"]
    shares = {"gender": {"woman": 0.5, "man": 0.5}, "tone": dict.fromkeys(tones, 0.2)}
    config = SMALL.model_copy(
        update={
            "prompts": ["emoji-occupations", "emoji-portraits"],
            "attributes": ["gender", "tone"],
            "joint": True,
            "target": shares,
            "explicit_images": 0,
            "images": 2,
        }
    )
    report = measure(config, tmp_path / "run")
    joint = report.attributes["gender x tone"]
    assert list(joint.splits) == ["all", "occupations, test", "portraits, test"]
    assert len(joint.classes) == 15 and len(joint.contrast) == 10
    assert sum(joint.target) == pytest.approx(1) and max(joint.target) == pytest.approx(0.1)
    records = read(tmp_path / "run" / "records.jsonl")
    cells = [
        f"{r.perceived['gender']}/{r.perceived['tone']}"
        for r in records
        if r.prompt == "a portrait of a pilot"
    ]
    prompt = next(p for p in joint.prompts if p.prompt == "a portrait of a pilot")
    assert all(prompt.shares[c].value == cells.count(c) / 2 for c in joint.classes)
    assert "gender x tone" in (tmp_path / "run" / "report.html").read_text()


def test_runs_of_different_prompts_are_compared_on_what_both_drew(run, tmp_path):
    more = SMALL.model_copy(
        update={
            "prompts": ["emoji-occupations", "emoji-portraits"],
            "attributes": ["gender"],
            "images": 3,
        }
    )
    measure(more, tmp_path / "more")
    result = write_comparison(run[0], tmp_path / "more", tmp_path / "out")
    assert result.before.images == result.after.images == result.change.images
    split = result.change.attributes["gender"].splits["test"]
    assert split.gap.value == 0 and list(result.after.attributes["gender"].splits) == ["test"]


def test_an_edited_prompt_file_is_another_run_and_another_batch_is_not(tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("an emoji of a pilot\nan emoji of a nurse\n")
    config = Measure(
        model="emoji",
        prompts=[str(prompts)],
        attributes=["gender"],
        images=1,
        settings={"num_inference_steps": 1},
    )
    measure(config, tmp_path / "run")
    measure(config.model_copy(update={"batch": 1}), tmp_path / "run")
    prompts.write_text("an emoji of a chef\n")
    with pytest.raises(
        UserError, match=r"texts\..*mine\.txt was '[0-9a-f]{12}', is '[0-9a-f]{12}'"
    ):
        measure(config, tmp_path / "run")


def test_what_else_than_the_adapter_differs_is_said(run, tmp_path):
    measure(SMALL.model_copy(update={"settings": {"num_inference_steps": 2}}), tmp_path / "other")
    assert write_comparison(run[0], run[0], tmp_path / "same").change.notes == []
    (note,) = write_comparison(run[0], tmp_path / "other", tmp_path / "out").change.notes
    assert (
        note
        == "The change is not the adapter's alone: settings.num_inference_steps was 3 and is 2."
    )
    assert note.replace("'", "&#39;") in (tmp_path / "out" / "report.html").read_text()


def test_wordings_of_one_concept_count_as_one_in_intervals(tmp_path):
    report = measure(
        SMALL.model_copy(update={"prompts": ["emoji-occupations", "emoji-portraits"]}),
        tmp_path / "run",
    )
    entry = report.attributes["gender"]
    split = entry.splits["all"]
    assert (
        split.prompts == 12 and split.gap.n == split.shares["woman"].n == entry.explicit.all.n == 6
    )
    gaps: dict[str, list[float]] = {}
    for p in entry.prompts:
        gaps.setdefault(p.concept, []).append(p.gap)
    assert split.gap_found == pytest.approx(np.mean([np.mean(g) for g in gaps.values()]), abs=1e-5)


def test_classes_that_the_judge_does_not_know_are_not_asked_for(tmp_path):
    (tmp_path / "prompts.yaml").write_text("""
version: 1
source: test
licence: none
family: test
templates: ["an emoji of {a} {concept}"]
concepts: {test: [pilot]}
explicit: {gender: {woman: "a woman {concept}", giant: "a giant {concept}"}}
""")
    config = SMALL.model_copy(
        update={"prompts": [str(tmp_path / "prompts.yaml")], "target": {}, "images": 1}
    )
    report = measure(config, tmp_path / "run")
    assert (
        "1 explicit prompts were left out, such as 'a giant pilot': emoji-judge does not know"
        in report.notes[0]
    )
    assert report.images == 2 and report.attributes["gender"].explicit.all.n == 1


def test_a_model_without_settings_samples_as_its_pipeline_does():
    from evenhand.recipes.model import Settings, load_model

    assert Settings().call() == {} and load_model("someone/some-model").settings.call() == {}


def test_prompts_stop_when_they_are_known_and_a_cut_run_stops_alike(tmp_path):
    config = SMALL.model_copy(update={"until": 0.2, "images": 40, "explicit_images": 0})
    report = measure(config, tmp_path / "whole")
    prompts = report.attributes["gender"].prompts
    assert all(p.images % 8 == 0 for p in prompts) and min(p.images for p in prompts) < 40
    for p in prompts:
        known = all(e.high - e.low <= 0.4 for e in p.shares.values())
        assert known or p.images == 40, p
    drawn = sum(p.images for p in prompts)
    assert report.stopping.drawn == drawn and report.stopping.planned > drawn
    widths = [(e.high - e.low) / 2 for p in prompts for e in p.shares.values()]
    assert report.stopping.widest == pytest.approx(max(widths), abs=1e-5)
    with pytest.raises(Cut):
        measure(config, tmp_path / "cut", progress=cut_after(drawn - 20))
    measure(config, tmp_path / "cut")
    assert (tmp_path / "cut" / "records.jsonl").read_bytes() == (
        tmp_path / "whole" / "records.jsonl"
    ).read_bytes()


def test_a_calibration_of_another_classifier_is_refused(tmp_path):
    from evenhand.core.resources import locate
    from evenhand.stats.calibration import read_calibration

    other = read_calibration(locate("package:emoji/classifiers/trainer"))
    (tmp_path / "other.json").write_text(other.model_dump_json())
    with pytest.raises(
        UserError,
        match="the calibration is of classifier emoji-trainer@.*, the judge is emoji-judge@",
    ):
        measure(
            SMALL.model_copy(update={"calibration": str(tmp_path / "other.json")}), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("offended", [True, False])
def test_what_the_safety_checker_would_have_blackened_is_drawn_and_counted(tmp_path, offended):
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16)
    )
    checker.concept_embeds_weights.data.fill_(-2.0 if offended else 2.0)  # thresholds of a cosine
    pipe = StableDiffusionPipeline.from_pretrained(locate("package:emoji/model"))
    StableDiffusionPipeline(
        **{
            **pipe.components,
            "safety_checker": checker,
            "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        }
    ).save_pretrained(tmp_path / "model")
    report = measure(
        Measure(
            model=str(tmp_path / "model"),
            judge="emoji-judge",
            prompts=["emoji-occupations"],
            splits=["test"],
            attributes=["gender"],
            images=2,
            explicit_images=0,
            settings={"num_inference_steps": 2},
        ),
        tmp_path / "run",
    )
    assert (
        report.flagged["test"].value == offended
        and "images flagged, test" in (tmp_path / "run/report.html").read_text()
    )
    drawn = np.asarray(Image.open(tmp_path / "run" / read(tmp_path / "run/records.jsonl")[0].image))
    assert drawn.std() > 5
