"""The card of an adapter: its header is what the Hub reads, its tables say what was measured."""

import copy
import json
import shutil

from huggingface_hub import ModelCard

from evenhand.core.adapters import find_adapter
from evenhand.core.resources import ROOT
from evenhand.reports.card import write_card


def test_a_card_says_what_was_measured_at_every_strength(tmp_path):
    comparison = json.loads((ROOT / "eval" / "results" / "emoji-gender.json").read_text())
    folder = shutil.copytree(ROOT / "adapters" / "emoji-gender", tmp_path / "emoji-gender")
    half = copy.deepcopy(comparison["before"])
    split = half["attributes"]["gender"]["splits"]["test"]
    split["gap"]["value"] = 0.4321
    split["corrected"] = {
        c: {**e, "value": e["value"] + 0.05} for c, e in split["shares"].items()
    }  # a line that the others lack
    write_card(folder, comparison, sweep={"0.5": half})
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    after = comparison["after"]["attributes"]["gender"]["splits"]["test"]
    assert card.data.license == "apache-2.0" and result.metric_value == after["gap"]["value"]
    (row,) = [
        line
        for line in card.text.splitlines()
        if line.startswith("| gender, test | gap woman / man ")
    ]
    assert row.count("|") == 6 and " 0.43 " in row
    assert "share woman" in card.text and "corrected |" not in card.text.split("By strength")[1]
    numbers = find_adapter(folder).described["measured"]["numbers"]
    assert {"gap woman / man", "share person"} <= {x["what"] for x in numbers}
