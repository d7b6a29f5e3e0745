"""The card of an adapter: its header is what the Hub reads, its tables say what was measured."""

import json
import shlex
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard
from test_reports import record, run_of
from typer.main import get_command

from evenhand.cli import app
from evenhand.cli.measure_settings import configured
from evenhand.core.adapters import find_adapter
from evenhand.core.concept_targets import load_targets
from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.resources import ROOT
from evenhand.measure.plan import plan
from evenhand.reports.card import card_of, write_card
from evenhand.reports.changes import Comparison
from evenhand.reports.rendering import code, commands, literal, markdown


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(ROOT / "adapters" / "emoji-gender", tmp_path / "emoji-gender")


@pytest.fixture(scope="module")
def comparison():
    found = json.loads((ROOT / "eval" / "results" / "emoji-gender.json").read_text())
    return Comparison.model_validate({k: v for k, v in found.items() if k != "recipe"})


def with_settings(comparison, **settings):
    """The comparison as if it had been made with other settings."""
    values = comparison.model_dump()
    values["after"]["run"]["settings"] |= settings
    return Comparison.model_validate(values)


def described(folder, **entries):
    """Writes entries into the adapter's description."""
    path = folder / "adapter.json"
    write_json(path, {**json.loads(path.read_text()), **entries})


def card(folder):
    return (folder / "README.md").read_text()


def test_a_card_says_what_was_measured(folder, comparison):
    write_card(folder, comparison)
    card = ModelCard.load(folder / "README.md")
    result, tone = card.data.eval_results
    assert (result.metric_type, tone.metric_type) == ("gap-gender", "gap-tone")
    after = comparison.after.attributes["gender"].splits["test"]
    assert result.metric_value == after.gap.value
    (row,) = [line for line in card.text.splitlines() if "| gap woman / man |" in line]
    assert row.count("|") == 8 and f" {after.gap} " in row
    assert "share woman" in card.text
    numbers = {x["what"]: x for x in find_adapter(folder).described["measured"]["numbers"]}
    assert numbers["gap woman / man"]["after"]["value"] == after.gap.value
    assert numbers["gap as found"]["change"] is None


def test_a_card_names_the_table_of_a_target_by_concept(folder, comparison):
    table = load_targets("us-labour-2022").model_dump(mode="json")
    settings = json.loads((folder / "adapter.json").read_text())["settings"]
    described(folder, settings={**settings, "target": {"shares": {"gender": table}}})
    write_card(folder, comparison)
    said = " ".join(card(folder).split())
    assert r"gender: by concept, table us-labour-2022.yaml (US Bureau of Labor Statistics," in said
    assert r"bls.gov/cps/aa2022/cpsaat11.htm), 2022). Weights" in said


def test_a_fairness_card_holds_what_the_report_says(folder, comparison):
    write_card(folder, comparison)
    found = yaml.safe_load((folder / "fairness_card.yaml").read_text())
    (gap,) = [x for x in found["metrics"] if x["what"] == "gap woman / man"]
    after = comparison.after.attributes["gender"].splits["test"].gap
    assert gap["after"] == {
        "value": after.value, "low": after.low, "high": after.high, "n": 6, "level": 0.95
    }  # fmt: skip
    assert found["scorer"]["name"] == "emoji-judge" and found["scorer"]["licence"] == "apache-2.0"
    assert found["reproducibility"]["total_samples"] == 2 * comparison.after.images
    assert found["protected_attributes"] == {
        "gender": ["woman", "man", "person"],
        "tone": ["light", "medium-light", "medium", "medium-dark", "dark"],
    }
    assert {"intended_use", "decision_rules", "prompt_suite", "decoding"} <= found.keys()


def test_the_commands_of_a_card_are_the_measurement(folder, comparison):
    """They give the settings that the card's report has."""
    settings = comparison.after.run.settings
    _, line, _ = commands({"folder": "adapters/emoji-gender"}, settings)
    words = shlex.split(line)
    assert words[:3] == ["evenhand", "measure", "emoji"]
    given = get_command(app).commands["measure"].make_context("measure", words[2:]).params
    config, _ = configured({**dict.fromkeys(given), **given})
    asked = plan(config).settings
    assert {k: asked[k] for k in ("texts", "splits", "images", "seed", "target", "settings")} == {
        k: settings[k] for k in ("texts", "splits", "images", "seed", "target", "settings")
    }


@pytest.mark.parametrize(
    "model, licence, said",
    [
        ("emoji", "apache-2.0", "that of the base model, `apache-2.0`"),
        ("sd15", "creativeml-openrail-m", "`creativeml-openrail-m`"),
        ("sd3-medium", "other", "`other/stabilityai-ai-community`"),
        ("someone/some-model", None, "so this card states none"),
    ],
)
def test_the_licence_is_that_of_the_base_model(folder, comparison, model, licence, said):
    write_card(folder, with_settings(comparison, model=model))
    header = ModelCard.load(folder / "README.md").data
    assert header.license == licence and said in card(folder)
    assert header.get("license_name") == (
        "stabilityai-ai-community" if licence == "other" else None
    )


def test_the_version_that_trained_is_named_where_it_is_known(folder, comparison):
    write_card(folder, comparison)
    assert "evenhand, version not recorded." in card(folder)
    described(folder, versions={"evenhand": "0.9.1"})
    write_card(folder, comparison)
    assert "evenhand, version 0.9.1." in card(folder)


def test_a_card_knows_whether_the_judge_trained_the_adapter(folder, comparison):
    write_card(folder, comparison)
    assert "which is not the classifier trained against (`emoji-trainer`)" in card(folder)
    judge = comparison.after.run.settings["judge"]
    described(folder, classifier=judge)
    write_card(folder, with_settings(comparison, judge_is_trainer=True))
    assert "which is the classifier trained against: these numbers flatter" in card(folder)
    assert find_adapter(folder).described["measured"]["judge_is_trainer"] is True
    described(folder, classifier={})
    write_card(folder, comparison)
    assert "does not say which classifier was trained against" in card(folder)


def test_prompts_and_names_are_text_in_a_card(folder, comparison):
    prompt = 'a "nurse" |\n```\n<b>$x$</b>'
    values = comparison.model_dump()
    values["after"]["attributes"]["gender"]["prompts"][0]["prompt"] = prompt
    for run in (values["before"], values["after"], values["change"]):
        splits = run["attributes"]["gender"]["splits"]
        splits["a|b_*c*"] = splits.pop("test")
    write_card(folder, Comparison.model_validate(values))
    python = card(folder).split("```python\n")[1].split("\n```")[0]
    calls = []
    scope = {"pipe": lambda text, **_: calls.append(text)}
    line = python.splitlines()[-1].replace(".images[0]", "")
    exec(line, scope)
    assert calls == [prompt]
    rows = [x for x in card(folder).splitlines() if x.startswith("| gender, a\\|b\\_\\*c\\*: ")]
    assert rows and all(row.replace("\\|", "").count("|") == 8 for row in rows)


def test_escapes():
    assert markdown("a_b <i> $x$\n`|`") == "a\\_b &#60;i&#62; &#36;x&#36; \\`\\|\\`"
    assert code("plain") == "`plain`" and code("a ``b") == "``` a ``b ```"
    assert literal('say "hi"\n') == '"say \\"hi\\"\\n"'


def test_a_comparison_is_the_card_of_the_adapter_that_it_measured_and_of_no_other(folder, tmp_path):
    digest = find_adapter(str(folder)).digest
    runs = {
        name: run_of(tmp_path / name, [record(seed=i) for i in range(4)], **settings)
        for name, settings in {
            "without": {"adapter": None},
            "with": {"adapter": f"here@{digest}", "adapter_scale": 1.0},
            "half": {"adapter": f"here@{digest}", "adapter_scale": 0.5},
            "other": {"adapter": "here@0123456789ab", "adapter_scale": 1.0},
        }.items()
    }
    assert card_of(folder, runs["without"], runs["with"]) == folder
    for pair, message in {
        ("with", "with"): "must be without an adapter",
        ("without", "other"): f"with this one .digest {digest}.",
        ("without", "without"): "they have none and none",
        ("without", "half"): "at strength 0.5, not 1",
    }.items():
        with pytest.raises(UserError, match=message):
            card_of(folder, *(runs[name] for name in pair))
