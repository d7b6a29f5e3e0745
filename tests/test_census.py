"""What training says about images that show nothing to judge and about classes that never come."""

import json

import numpy as np
import pytest
import torch

from evenhand.adapt.dft.batches import Batch, Group
from evenhand.adapt.dft.census import BLIND_STEPS, Census, count
from evenhand.adapt.dft.losses import Perceived
from evenhand.core.attributes import Attribute, Target
from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt

KNOWN = {"gender": Attribute(name="gender", classes=["woman", "man", "person"])}
TARGET = Target(shares={"gender": {"woman": 0.5, "man": 0.4, "person": 0.1}})
PROBS = torch.tensor(
    [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8]]
)


def perceived(seen):
    """Two images each of a pilot and a tree, and one image of a prompt that says a class."""
    prompts = [Prompt(f"a {c}", c, "x", "train") for c in ("pilot", "pilot", "tree", "tree")]
    batch = Batch(
        [*prompts, Prompt("a person", "pilot", "x", "train", {"gender": "person"})],
        [0] * 5,
        4,
        [Group(np.arange(4), TARGET)],
    )
    return count(batch, Perceived({"gender": PROBS}, torch.tensor(seen)), KNOWN)


def test_counts_neutral_images_that_were_seen():
    found = perceived([True, True, False, True, True])
    assert found == {
        "classes": {"gender": [2, 1, 0]},
        "prompts": {"a pilot": [2, 2], "a tree": [2, 1]},
    }
    assert json.loads(json.dumps(found)) == found


def test_warns_of_prompts_without_anything_seen_and_of_classes_that_never_came(tmp_path):
    census = Census(tmp_path / "log.jsonl")
    for _ in range(50):
        census.add(perceived([True, True, False, False, True]), "here")
    with pytest.warns(UserWarning) as caught:
        census.warn(dict.fromkeys(["a pilot", "a tree"], TARGET), KNOWN)
    assert [str(w.message)[:60] for w in caught] == [
        "1 of 2 prompts showed nothing to judge in any of 100 images ('a"[:60],
        "gender: 'person' is asked for and was perceived in none of 100 "[:60],
    ]


def test_says_nothing_where_all_is_well(tmp_path, recwarn):
    census = Census(tmp_path / "log.jsonl")
    census.add(perceived([True] * 5), "here")
    even = Target(shares={"gender": {"woman": 0.5, "man": 0.5}})
    census.warn(dict.fromkeys(["a pilot", "a tree"], even), KNOWN)
    assert not recwarn.list


def test_stops_when_nothing_is_seen_for_long_and_a_log_counts_in(tmp_path):
    blind = perceived([False] * 5)
    (tmp_path / "log.jsonl").write_text(
        f"{json.dumps({'step': 0, 'perceived': blind})}\n" * (BLIND_STEPS - 1)
    )
    with pytest.raises(UserError, match="saw nothing to judge .* 'a pilot'"):
        Census(tmp_path / "log.jsonl").add(blind, "run: step 9")
