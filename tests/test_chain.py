"""`evenhand chain`: stages that build on each other, skipped where done, refused where changed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from PIL import Image

from evenhand.chain import chain
from evenhand.chain.cost import costs
from evenhand.chain.models import read_chain
from evenhand.chain.plan import plan, with_sets
from evenhand.chain.records import read_record
from evenhand.cli import main
from evenhand.core.errors import UserError
from evenhand.core.schema import check
from evenhand.recipes.chain import Chain, load_chain
from evenhand.recipes.classify import load_classify

HOW = {
    "model": "emoji",
    "prompts": ["emoji-occupations"],
    "splits": ["test"],
    "attributes": ["gender"],
    "images": 2,
    "explicit_images": 0,
    "settings": {"num_inference_steps": 2},
}
TRAINED = [
    "steps=1",
    "images=2",
    "prompts_per_step=1",
    "explicit_images=0",
    "preservation.seeds=2",
    "num_inference_steps=[2]",
    "gradient.calls=1",
]
TITLES = "contexts.vocabulary={title: [singer, farmer]}"
DRAWN = [TITLES, "per_cell=1", "filter.confidence=0", "budget=16", "settings.num_inference_steps=2"]
CLASSIFIED = [
    "bias={ratio: .75, images: 16}",
    "size=16",
    "config.widths=[4, 4]",
    "config.strides=[2, 2]",
    "synthetic.images=4",
    "schedule={real: {epochs: 1}, synthetic: {epochs: 1}, tune_real: {epochs: 1}}",
]
STAGES = {
    "before": {"measure": HOW},
    "dft": {"train": "dft/emoji-gender", "set": TRAINED},
    "after-dft": {"measure": HOW, "adapter": "dft"},
    "set-words": {"reference": "emoji-chain-words", "set": DRAWN},
    "set-dft": {"generate": "emoji-chain-words", "set": [*DRAWN, "seed=1"], "adapter": "dft"},
    "classifiers": {
        "classify": "emoji-chain",
        "set": CLASSIFIED,
        "sets": {"words": "set-words", "dft": "set-dft"},
    },
}
DATA = {"drawings": ["singer", "farmer"], "splits": {"train": 8, "validation": 2, "test": 4}}


def small(**stages) -> Chain:
    return check(Chain, {"data": DATA, "stages": {**STAGES, **stages}}, where="small")


def of(*names, **changes) -> Chain:
    stages = {name: {**STAGES[name], **changes.get(name, {})} for name in names}
    return check(Chain, {"data": DATA, "stages": stages}, where="small")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A chain of all verbs, done once."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    folder = tmp_path_factory.mktemp("chain") / "small"
    report = chain(small(), folder, name="small")
    datasets.config.HF_DATASETS_CACHE = before
    return report, folder


def test_the_page_tells_the_story_of_all_stages(done):
    report, folder = done
    assert [stage.name for stage in report.stages] == list(STAGES)
    before, after = report.measurements
    assert (after.adapter, after.against) == ("dft", "before") and before.against is None
    assert after.images == 12
    words, dft = report.routes
    assert (words.name, dft.name) == ("words", "dft")
    assert dft.gap == after.gap and dft.gap.change and not before.gap.change
    assert words.gap is None and [arm.set for arm in words.arms] == ["set-words"]
    assert [arm.name for arm in report.classifiers[0].arms] == [
        "erm",
        "ffr+resampling, words",
        "ffr+resampling, dft",
    ]
    assert report.classifiers[0].arms[0].worst_change is None
    assert read_chain(folder / "chain.json") == report
    page = (folder / "chain.html").read_text()
    for link in re.findall(r'href="([^"]+)"', page):
        assert (folder / link).is_file(), link
    assert "ffr+resampling, dft" in page and "Who is drawn after" in page


def words_of(config: Chain, folder) -> dict[str, str]:
    return {cost.name: cost.words for cost in costs(config, folder)}


def test_what_is_not_there_yet_has_no_cost_and_says_what_it_waits_for(tmp_path):
    alone = of("classifiers", classifiers={"sets": {}, "set": [*CLASSIFIED, "variants={erm: {}}"]})
    assert words_of(alone, tmp_path) == {
        "classifiers": "the cost is known when the drawings are there"
    }
    path = "synthetic.path={set-words}"
    named = of("set-words", "classifiers", classifiers={"sets": {}, "set": [*CLASSIFIED, path]})
    waits = "the cost is known when set-words and the drawings are there"
    assert words_of(named, tmp_path)["classifiers"] == waits
    portraits = {"train": "dreambooth/emoji", "set": ["images.path={data}"]}
    assert words_of(small(portraits=portraits), tmp_path)["portraits"].endswith(
        "drawings are there"
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    from_folder = {"generate": "emoji-small", "set": [f"from_images={tmp_path}"]}
    found = check(Chain, {"stages": {"s": from_folder}}, where="small")
    assert words_of(found, tmp_path / "c")["s"].endswith("cells, of those of a folder")


def test_a_set_is_made_again_by_the_chain_that_gave_its_adapters_and_folders(tmp_path):
    drawn = {**STAGES["set-words"], "set": [*DRAWN, "seed=2"]}
    config = check(Chain, {"stages": {"set": drawn}}, where="small")
    chain(config, tmp_path / "c", name="small", command="evenhand chain small.yaml x=1")
    again = "evenhand chain small.yaml x=1 --from set"
    assert f"\n{again}\n" in (tmp_path / "c" / "set" / "README.md").read_text()
    assert json.loads((tmp_path / "c" / "set" / "reference.json").read_text())["command"] == again


def test_every_page_of_its_stages_is_sound(done, sound):
    pages = sorted(done[1].rglob("*.html"))
    assert {page.name for page in pages} == {"chain.html", "dataset.html", "report.html"}
    for page in pages:
        sound(page)


def test_what_is_done_is_not_done_again(done, monkeypatch):
    report, folder = done
    seen = []
    again = chain(small(), folder, name="small", progress=lambda words: seen.append(words))
    assert not seen and again == report
    assert {cost.words for cost in costs(small(), folder)} == {"done"}


def test_other_settings_are_refused_and_named(done):
    _, folder = done
    other = {**STAGES["set-words"], "set": [*DRAWN, "seed=5"]}
    with pytest.raises(UserError, match=r"'set-words' was done .*seed was 0, is 5.*--from set-w"):
        chain(small(**{"set-words": other}), folder)
    other = {**STAGES["classifiers"], "set": [*CLASSIFIED, "seed=9"]}
    with pytest.raises(UserError, match="stage 'classifiers' was done with other settings: seed"):
        chain(small(classifiers=other), folder)


def test_a_run_of_the_verb_itself_is_taken_as_it_is_and_another_refused(done, tmp_path):
    _, folder = done
    part = of("before")
    (tmp_path / "c").mkdir()
    os.symlink(folder / "before", tmp_path / "c" / "before")
    report = chain(part, tmp_path / "c")
    assert report.measurements[0].lines == done[0].measurements[0].lines
    other = of("before", before={"measure": {**HOW, "images": 3}})
    (tmp_path / "d").mkdir()
    os.symlink(folder / "before", tmp_path / "d" / "before")
    with pytest.raises(UserError, match="images was 2, is 3"):
        chain(other, tmp_path / "d")


def test_from_makes_a_stage_and_what_builds_on_it_anew(tmp_path):
    config = of("before", "set-words")
    first = chain(config, tmp_path / "c")
    marks = [tmp_path / "c" / name / "mark" for name in ("before", "set-words")]
    for mark in marks:
        mark.write_text("")
    again = chain(config, tmp_path / "c", start="set-words")
    assert [mark.exists() for mark in marks] == [True, False]
    assert again.numbers() == first.numbers()
    assert small().after("dft") == ["dft", "after-dft", "set-dft", "classifiers"]
    with pytest.raises(UserError, match="unknown stage 'nowhere'.*Known: before, set-words"):
        chain(config, tmp_path / "c", start="nowhere")


def test_a_stage_that_is_made_otherwise_by_hand_stops_what_builds_on_it(done):
    _, folder = done
    config = small()
    weights = folder / "dft" / "adapter" / "pytorch_lora_weights.safetensors"
    record = folder / "stages" / "after-dft.json"
    kept = record.read_text()
    values = json.loads(kept)
    values["needs"]["dft"] = "0" * 12
    record.write_text(json.dumps(values))
    try:
        with pytest.raises(UserError, match="what stage 'dft' made was '0{12}'.*--from after-dft"):
            chain(config, folder)
    finally:
        record.write_text(kept)
    assert weights.is_file()


@pytest.mark.parametrize(
    "stages, says",
    [
        ({"a": {"measure": HOW, "adapter": "b"}, "b": STAGES["dft"]}, "stands after it"),
        ({"a": {"measure": HOW, "adapter": "a"}}, "in the same place"),
        ({"a": {"measure": HOW, "adapter": "b"}}, "unknown stage 'b'"),
        ({"a": {"measure": HOW}, "b": {"measure": HOW, "adapter": "a"}}, "'a' does measure"),
        ({"a": {"measure": HOW, "train": "dft/emoji-gender"}}, "one verb of"),
        ({"a": {}}, "given: none"),
        ({"a": {"train": "dft/emoji-gender", "adapter": "b"}}, "adapter is no key"),
        ({"a": {"generate": "emoji-small", "sets": {"x": "b"}}}, "sets is no key"),
        ({"../a": {"measure": HOW}}, "pattern"),
        ({"a": {"measure": {**HOW, "prompts": ["nowhere"]}}}, "unknown prompt set 'nowhere'"),
        ({"a": {"measure": HOW, "set": ["images=0"]}}, "images: "),
        ({"a": {"train": "dft/nobody"}}, "unknown recipe 'dft/nobody'"),
        ({"a": {"generate": "nobody"}}, "unknown"),
        ({"a": {"measure": {**HOW, "model": "nobody"}}}, "stages.a: "),
        (
            {"a": STAGES["dft"], "b": {"measure": {**HOW, "model": "sd15"}, "adapter": "a"}},
            "trains an adapter of the model 'emoji'",
        ),
        (
            {"s": {"generate": "emoji-balanced"}, "c": {"classify": "utkface", "sets": {"x": "s"}}},
            "stages.c",
        ),
        (
            {
                "s": {"generate": "emoji-chain-words", "set": ["per_cell=10"]},
                "c": {"classify": "emoji-chain", "sets": {"x": "s"}},
            },
            "the arms take 224 images, and the set of 's' shall have 160",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_done(tmp_path, stages, says):
    with pytest.raises(UserError, match=says):
        chain(check(Chain, {"data": DATA, "stages": stages}, where="bad"), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_chain_without_real_images_trains_no_classifiers():
    with pytest.raises(UserError, match="needs real images"):
        check(Chain, {"stages": {"c": {"classify": "emoji-chain"}}}, where="bad")


def told(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["evenhand", "chain", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def test_a_stage_named_twice_is_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "c.yaml"
    text = yaml.safe_dump({"stages": {"before": {"measure": HOW}}})
    path.write_text(text + text.partition("\n")[2])
    code, _, errors = told(monkeypatch, capsys, path, "--out", tmp_path / "c")
    assert code == 2 and errors.count("\n") == 1 and "key 'before' stands twice" in errors


def test_drawings_of_nobody_and_folders_of_other_things_are_refused(tmp_path, done):
    config = check(
        Chain,
        {"data": {**DATA, "drawings": ["wizard"]}, "stages": {"a": {"measure": HOW}}},
        where="bad",
    )
    with pytest.raises(UserError, match="unknown occupation 'wizard'"):
        chain(config, tmp_path / "c")
    with pytest.raises(UserError, match="holds a run of another verb"):
        chain(of("before"), done[1] / "before")
    with pytest.raises(UserError, match="nowhere.csv: no such file"):
        plan(Chain(data="nowhere.csv", stages=of("before").stages), tmp_path)


def test_every_variant_that_needs_images_is_trained_with_each_set():
    recipe = load_classify("emoji-chain")
    one, two = with_sets(recipe, {"a": "x"}), with_sets(recipe, {"a": "x", "b": "y"})
    assert list(one.variants) == ["erm", "ffr+resampling"]
    assert list(two.variants) == ["erm", "ffr+resampling, a", "ffr+resampling, b"]
    assert two.each()["ffr+resampling, b"].synthetic.path == "y"
    assert two.each()["erm"].synthetic is None
    assert two.each()["ffr+resampling, b"].synthetic.protected.column == "context"


def test_the_chain_for_photographs_has_no_unknown_name(tmp_path):
    (tmp_path / "people.csv").write_text("file_name,smiling,gender,split\n")
    found = load_chain("smiling-sd15", [f"data={tmp_path / 'people.csv'}"])
    stages = plan(found, tmp_path)
    assert [s.name for s in stages] == list(found.stages)
    assert [s.wished for s in stages if s.stage.verb == "generate"] == [2000, 2000, 0]


def test_a_route_of_adapters_for_subgroups(tmp_path):
    trained = {
        "train": "dreambooth/emoji",
        "set": [
            "images={path: '{data}', caption: '{token} : an emoji of a {gender}', split: train}",
            "groups=[gender]",
            "clusters={features: {kind: pixels}, k: 2, floor: 1}",
            "steps=4",
            "batch=2",
            "num_inference_steps=2",
        ],
    }
    drawn = {
        "generate": "emoji-chain-words",
        "set": [*DRAWN, "cells_by=adapters", "prompt='{token} : an emoji of {a} {title}'"],
        "adapter": "clusters",
    }
    report = chain(
        check(
            Chain,
            {
                "data": DATA,
                "stages": {
                    "clusters": trained,
                    "set-clusters": drawn,
                    "classifiers": {
                        "classify": "emoji-chain",
                        "set": CLASSIFIED,
                        "sets": {"clusters": "set-clusters"},
                    },
                },
            },
            where="small",
        ),
        tmp_path / "chain",
    )
    (route,) = report.routes
    assert route.name == "clusters" and route.set.images > 0 and route.gap is None
    assert [arm.set for arm in route.arms] == ["set-clusters"]


def test_settings_may_name_the_folders_of_other_stages(tmp_path):
    pairs = ["images.path={set-words}/reference.parquet", "steps=1"]
    config = small(
        fairtl={"train": "fairtl/emoji", "set": pairs}, again={"measure": HOW, "adapter": "fairtl"}
    )
    planned = {p.name: p for p in plan(config, tmp_path)}
    where = str(tmp_path / "set-words" / "reference.parquet")
    assert planned["fairtl"].config.images.path == where
    assert planned["fairtl"].settings["images"]["path"] == "{set-words}/reference.parquet"
    assert planned["fairtl"].needs == {"set-words": "reference"}
    assert config.after("set-words")[-2:] == ["fairtl", "again"]


def test_a_killed_chain_gives_the_same_numbers(done, tmp_path):
    """Smaller than eval/bench/chain.py: two kills, at moments that its records show."""
    names = ["before", "dft", "after-dft"]
    path = tmp_path / "c.yaml"
    values = {"data": DATA, "stages": {name: STAGES[name] for name in names}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    folder = tmp_path / "c"
    command = [sys.executable, "-m", "evenhand", "chain", str(path), "--out", str(folder)]

    def killed(when) -> None:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not when():
            time.sleep(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()

    killed(lambda: any((folder / "before").glob("images/*")))
    killed(lambda: (folder / "dft" / "run.json").exists())
    assert read_record(folder, "before").made and read_record(folder, "dft") is None
    report = chain(load_chain(str(path)), folder)
    whole = {m.stage: m for m in done[0].measurements}
    assert [m.model_dump() for m in report.measurements] == [
        whole[m.stage].model_dump() for m in report.measurements
    ]
    made = {stage.name: stage.made for stage in done[0].stages}
    assert {s.name: s.made for s in report.stages} == {name: made[name] for name in names}
