"""An adapter is what its card says: its file by plain diffusers, its numbers anew."""

import json
import shutil

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evenhand.adapt.dft.finetune import finetune
from evenhand.cli import main
from evenhand.core.adapters import LORA, find_adapter, shipped_adapters
from evenhand.core.errors import UserError
from evenhand.core.records import read_run
from evenhand.core.references import read_references
from evenhand.core.resources import ROOT
from evenhand.diffusion.trainable import attach
from evenhand.measure import measure
from evenhand.publish.file_checks import request_of, stock
from evenhand.publish.ready import refuse_unready
from evenhand.publish.verification import verification
from evenhand.publish.verify import verify
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.lora import Lora
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import Settings, load_model
from evenhand.reports.accept import held
from evenhand.reports.again import again
from evenhand.reports.card import cards, edited, write_card
from evenhand.reports.comparison import compare
from evenhand.reports.shipped import table
from evenhand.stats.moments import of_counts, over_wordings
from evenhand.stats.roots import change_of_roots
from evenhand.stats.squares import unevenness

QUICK = Settings(num_inference_steps=2, guidance_scale=1.0)
TINY = [
    "steps=1", "images=2", "prompts_per_step=1", "explicit_images=0", "num_inference_steps=[2]",
    "gradient.calls=1", "preservation.seeds=0", "runs=2",
]  # fmt: skip


TWO = """
version: 1
source: the tests
licence: CC0-1.0
family: occupations
templates: ["an emoji of {a} {concept}"]
concepts: {test: [pilot, firefighter]}
explicit:
  gender: {woman: "an emoji of a woman {concept}", man: "an emoji of a man {concept}"}
  tone: {dark: "an emoji of {a} {concept} with dark skin"}
"""


def lora(folder, state):
    folder.mkdir()
    save_file(state, folder / LORA)
    return find_adapter(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of two trainings and of their average, at toy length."""
    folder = tmp_path_factory.mktemp("training")
    quick = folder / "quick.yaml"
    quick.write_text("path: package:emoji/model\nsettings: {num_inference_steps: 2}\n")
    finetune(load_recipe("dft/emoji-gender", [*TINY, f"model={quick}"]), folder / "run")
    folder = folder / "run"
    return [folder / "seed-1" / "adapter", folder / "adapter"]


@pytest.fixture(scope="module")
def answers(trained, tmp_path_factory):
    """What plain diffusers says of many files, in one process, by name."""
    folder = tmp_path_factory.mktemp("stock")
    state = load_file(ROOT / "adapters" / "emoji-gender" / LORA)
    b = next(key for key in state if key.endswith("lora_B.weight"))
    diffusion = pipelines.make("sd", frozen=True)
    files = {
        "all zero": {k: v * ("lora_A" in k) for k, v in state.items()},
        "one zero": {**state, b: state[b] * 0},
        "renamed": {k.replace(".layers.1.", ".layers.91."): v for k, v in state.items()},
        "another base": attach(diffusion, Lora(part="both", rank=2), seed=0).state(),
    }
    adapters = {name: lora(folder / name, x) for name, x in files.items()}
    adapters |= {name: find_adapter(name) for name in shipped_adapters()}
    model = load_model("emoji")
    requests = {
        name: request_of(x, model, QUICK, [("an emoji of a pilot", 3)], folder / "out" / name)
        for name, x in adapters.items()
    }
    for place in trained:
        kept, name = read_references(place), str(place)
        rows = [(x.prompt, x.seed) for x in kept.images]
        how = Settings(**kept.settings)
        requests[name] = request_of(find_adapter(place), model, how, rows, folder / "out" / "t")
        requests[name]["out"] = str(folder / f"trained-{len(requests)}")
    found = dict(zip(requests, stock(list(requests.values())), strict=True))
    return {name: (answer, requests[name]["out"]) for name, answer in found.items()}


@pytest.mark.parametrize("name", shipped_adapters())
def test_every_adapter_that_ships_loads_by_plain_diffusers(answers, name):
    answer, _ = answers[name]
    assert answer["error"] is None and answer["unexpected"] == [] and answer["zero"] == []
    assert answer["changed"] == answer["images"] == 1 and not answer["evenhand"]


def test_plain_diffusers_says_what_is_wrong_with_a_file(answers):
    found = {name: answer for name, (answer, _) in answers.items()}
    assert found["all zero"]["changed"] == 0 and found["all zero"]["zero_matters"]
    assert found["one zero"]["changed"] == 1 and found["one zero"]["zero_matters"]
    assert any(".layers.91." in key for key in found["renamed"]["unexpected"])
    assert found["another base"]["error"] or found["another base"]["unexpected"]


def test_the_reference_images_of_a_training_are_drawn_again_from_its_file(answers, trained):
    for folder in trained:
        kept, (answer, out) = read_references(folder), answers[str(folder)]
        assert kept.drawn_from == "training" and kept.digest == find_adapter(folder).digest
        assert len(kept.images) == 4 and answer["error"] is None
        for i, image in enumerate(kept.images):
            a, b = (
                np.asarray(Image.open(p), int) for p in (folder / image.file, f"{out}/with-{i}.png")
            )
            assert a.shape == (64, 64, 3) and np.abs(a - b).max() <= 2


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """A copy of an adapter with a small card, verified, and what came of it."""
    top = tmp_path_factory.mktemp("verified")
    folder = shutil.copytree(ROOT / "adapters" / "emoji-gender", top / "mine")
    (top / "two.yaml").write_text(TWO)
    config = Measure(
        model="emoji",
        prompts=[str(top / "two.yaml")],
        splits=["test"],
        attributes=["gender"],
        target={"gender": {"woman": 0.5, "man": 0.5}},
        images=2,
        explicit_images=1,
        settings={"num_inference_steps": 2},
    )
    for name, adapter in (("before", None), ("after", str(folder))):
        measure(config.model_copy(update={"adapter": adapter}), top / name, pictures=False)
    found, _ = held(compare(top / "before", top / "after"), ["gap.gender.upper < 2"])
    write_card(folder, found)
    seen = []
    result = verify(
        verification(str(folder), runs=top / "runs"),
        write_references=True,
        progress=lambda *at: seen.append(at),
    )
    return folder, result, top, seen


@pytest.fixture
def adapter(verified, tmp_path):
    """A copy of the verified adapter, to be spoiled."""
    return shutil.copytree(verified[0], tmp_path / "mine")


def test_a_verified_adapter_says_so_and_shows_the_fresh_numbers(verified):
    folder, result, _, seen = verified
    described = find_adapter(folder).described
    assert result.passed, result.said
    assert described["verified"]["digest"] == find_adapter(folder).digest
    assert described["measured"]["seed"] == described["verified"]["seed"] == 1
    card = (folder / "README.md").read_text()
    assert "(made from 1, fresh: no setting was chosen on these images)" in card
    assert "### Not in the target" in card and "| tone, test: 2 prompts, 4 images" in card
    assert "`gap.gender.upper < 2`: met" in card and "--seed 1 " in card
    assert "by plain diffusers" not in card and "by diffusers 0." in card
    assert read_references(folder).drawn_from == "file"
    assert {label for label, *_ in seen} == {"without the adapter", "with the adapter"}
    assert edited(find_adapter(folder)) == []
    refuse_unready(folder)


def test_every_number_of_the_card_is_compared_and_the_base_model_too(verified):
    _, result, *_ = verified
    found = {(x.subject, x.what, x.run) for x in result.numbers}
    assert {
        ("gender, test", "gap woman / man", "before"),
        ("gender, test", "gap woman / man", "after"),
        ("gender, test", "distance to target", "after"),
        ("gender, test", "share woman", "after"),
        ("gender, test", "not seen", "after"),
        ("gender, explicit prompts", "keep the class they say", "after"),
        ("occupation", "as asked, test", "after"),
    } <= found and all(x.agrees for x in result.numbers)


def test_a_number_that_chance_does_not_explain_is_found(verified):
    _, result, top, _ = verified
    (run,) = (top / "runs").glob("mine-*/after-*")
    values = json.loads(result.comparison.model_dump_json(by_alias=True))
    entry = values["after"]["attributes"]["gender"]
    for prompt in entry["prompts"]:  # a hundred images of each, all of women
        prompt |= {"seen": 100, "images": 100}
        for c, share in prompt["shares"].items():
            share |= {"value": float(c == "woman")}
    entry["splits"]["test"]["shares"]["woman"]["value"] = 1.0
    other = type(result.comparison).model_validate(values)
    wrong = [x for x in again(other, result.comparison, read_run(run)[1]) if not x.agrees]
    assert {x.run for x in wrong} == {"after"} and "share woman" in {x.what for x in wrong}
    again_itself = again(result.comparison, result.comparison, read_run(run)[1])
    assert all(x.agrees and x.difference.value == 0 for x in again_itself)


def test_intervals_of_images_alone_cover_the_difference_of_two_measurements():
    """Two measurements of the same prompts, whatever these are: uneven, even, mixed."""
    rng, form, held = np.random.default_rng(0), unevenness(2), 0
    for world in range(600):
        p = rng.choice([[0.5] * 6, [0.9, 0.1, 0.8, 0.6, 0.5, 0.97], [0.97] * 6][world % 3], 6)
        pair = [rng.binomial(100, p) for _ in range(2)]
        one = [over_wordings([of_counts(np.stack([k, 100 - k], 1))]) for k in pair]
        found = change_of_roots(one[0], one[1], form)
        held += found.low <= 0 <= found.high
    assert held / 600 > 0.93


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def spoil_number(folder):
    described = json.loads((folder / "adapter.json").read_text())
    described["measured"]["numbers"][0]["after"]["value"] = 0.01
    (folder / "adapter.json").write_text(json.dumps(described))


def spoil_verdict(folder):
    described = json.loads((folder / "adapter.json").read_text())
    described["verified"]["numbers"][0]["second"] = 0.01
    (folder / "adapter.json").write_text(json.dumps(described))


EDITED = {
    "the card": (
        lambda f: change(f / "README.md", "| gap woman / man | ", "| gap woman / man | 9"),
        r"README.md, line \d+, is not what its numbers say",
    ),
    "the fairness card": (
        lambda f: change(f / "fairness_card.yaml", "value: 0", "value: 9"),
        "fairness_card.yaml, line",
    ),
    "adapter.json": (
        spoil_number,
        r"adapter.json says 0.01 for numbers.gender, test.*, gap woman / man.after.value, its rep",
    ),
    "what was verified": (spoil_verdict, "adapter.json was changed after it was written"),
    "the report": (
        lambda f: change(f / "report.json", '"seen": 2', '"seen": 3'),
        "report.json is another than the one that was measured",
    ),
    "no report": (lambda f: (f / "report.json").unlink(), "report.json is not there"),
    "other weights": (
        lambda f: save_file({"x": torch.ones(1)}, f / LORA),
        "it was verified with other weights",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), EDITED.values(), ids=EDITED)
def test_what_was_changed_is_refused_with_its_name(adapter, spoil, message):
    spoil(adapter)
    with pytest.raises(UserError, match=message):
        refuse_unready(adapter)


def test_cards_are_written_anew_from_the_report(adapter, monkeypatch):
    EDITED["the card"][0](adapter)
    assert code_of(monkeypatch, "verify", adapter, "--only-card") == 0
    assert (adapter / "README.md").read_text() == cards(find_adapter(adapter))["README.md"]
    refuse_unready(adapter)


def code_of(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["evenhand", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


def test_another_picture_than_the_reference_fails_and_is_not_pushed(
    adapter, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save(adapter / "references" / "0.png")
    assert code_of(monkeypatch, "verify", adapter) == 1
    assert "3 of 4 reference images" in capsys.readouterr().out
    assert find_adapter(adapter).described["verified"]["passed"] is False
    assert "**Not verified: it failed**" in (adapter / "README.md").read_text()
    with pytest.raises(UserError, match="its verification of .* failed"):
        refuse_unready(adapter)


def truncated(folder):
    (folder / LORA).write_bytes((folder / LORA).read_bytes()[:1000])


BAD = {
    "truncated": (truncated, "is cut short, or no safetensors file"),
    "empty": (lambda f: (f / LORA).write_bytes(b""), "is cut short, or no safetensors file"),
    "no tensor": (lambda f: save_file({}, f / LORA), "holds no tensor"),
    "renamed": (lambda f: (f / LORA).rename(f / "mine.safetensors"), "says with which model"),
    "a token that is no word": (
        lambda f: change(f / "adapter.json", '{\n', '{\n "token": "two words",\n'),
        "token",
    ),
    "damaged references": (
        lambda f: (f / "references.json").write_text("[]"),
        "references.json",
    ),
    "references elsewhere": (
        lambda f: change(f / "references.json", "references/0.png", "references/../../x.png"),
        "references.json",
    ),
    "the card's seed": (lambda f: None, "--seed 1: the card's numbers are of these images"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_nothing_is_written(
    adapter, spoil, message, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    spoil(adapter)
    before = (adapter / "adapter.json").read_bytes()
    more = ["--seed", 1] if "seed" in message else []
    assert code_of(monkeypatch, "verify", adapter, *more) == 2
    assert message in capsys.readouterr().err
    assert (adapter / "adapter.json").read_bytes() == before


def test_an_adapter_made_elsewhere_needs_a_model_prompts_and_a_judge(tmp_path):
    folder = lora(tmp_path / "a", load_file(ROOT / "adapters" / "emoji-gender" / LORA)).folder
    with pytest.raises(UserError, match="name --model"):
        verification(str(folder))
    with pytest.raises(UserError, match="name --prompts"):
        verification(str(folder), model="emoji")
    (tmp_path / "m.yaml").write_text("path: package:emoji/model\n")
    how = {"model": str(tmp_path / "m.yaml"), "prompts": ["emoji-occupations"]}
    with pytest.raises(UserError, match="names no judge; name a classifier with --judge"):
        verification(str(folder), **how)
    asked = verification(str(folder), **how, judge="emoji-judge")
    assert asked.card is None and asked.after.seed == 1


def test_the_table_of_shipped_adapters_is_written_from_their_folders():
    assert (ROOT / "adapters" / "README.md").read_text(encoding="utf-8") == table()
    for name in shipped_adapters():
        assert edited(find_adapter(name)) == []
