"""Contexts that a language model writes: a service with its faults, and a model of transformers."""

import pytest
import torch
from chat_server import Chat

from evenhand.core import services
from evenhand.core.errors import UserError
from evenhand.generate.plan import plan
from evenhand.generate.reference import reference
from evenhand.generate.writing import written
from evenhand.recipes.generate import Filter, Generate


def recipe(url: str | None, model: str = "some-model", **writer) -> Generate:
    return Generate.model_validate(
        {
            "model": "emoji",
            "cells": {"gender": ["woman", "man"]},
            "per_cell": 2,
            "wording": {"gender": {"woman": "woman", "man": "man"}},
            "prompt": "a picture of {a} {gender}, {context}",
            "contexts": {
                "vocabulary": {"place": ["a park", "a kitchen", "a street"]},
                "writer": {"model": model, "url": url, "key": "THE_KEY", **writer,
                           "ask": "Describe a scene in {place} in ten words."},
            },
        }
    )  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """No long pauses between tries."""
    monkeypatch.setattr(services, "PAUSE", 0.001)
    monkeypatch.setenv("THE_KEY", "sk-thekeyofthetests")


def test_a_service_writes_each_row_and_is_not_asked_twice(quick, tmp_path):
    answers = ['1. "On a bench under trees."\nMore.', "by the stove", "at a crossing"]
    with Chat(answers) as chat:
        config = recipe(chat.url)
        found = written(config, tmp_path)
        assert found.texts == ["On a bench under trees", "by the stove", "at a crossing"]
        asked = [x["messages"][0]["content"] for x in chat.asked]
        assert asked[1] == "Describe a scene in a kitchen in ten words."
        assert chat.keys[0] == "Bearer sk-thekeyofthetests"
        assert written(config, tmp_path).texts == found.texts and len(chat.asked) == 3
    texts = [p.text for p in plan(config, found.texts).streams[0].prompts]
    assert texts[1] == "a picture of a woman, by the stove"


def test_a_reference_set_of_written_contexts_leaves_the_class_out(quick, tmp_path, monkeypatch):
    import datasets

    changes = {"settings": {"num_inference_steps": 1}, "filter": Filter(confidence=0)}
    changes["neutral"] = {"gender": "person"}
    with Chat(["under trees", "by the stove", "at a crossing"]) as chat:
        config = recipe(chat.url).model_copy(update=changes)
        file = reference(config, tmp_path / "set")
        assert len(chat.asked) == 3
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = list(datasets.Dataset.from_parquet(str(file)))
    assert {row["gender"] for row in rows} == {"woman", "man"}
    for row in rows:
        assert row["said"].replace(row["gender"], "person") == row["text"]


def test_answers_are_validated_and_refusals_counted(quick, tmp_path):
    answers = ["two women on a bench", "nonsense", "empty", "", "under trees", "Under trees",
               "by the stove", "at a crossing"]  # fmt: skip
    with Chat(answers) as chat:
        found = written(recipe(chat.url), tmp_path)
    assert found.texts == ["under trees", "by the stove", "at a crossing"]
    assert found.refused == {
        "tells a class": 1, "no answer": 2, "no sentence": 1, "said before": 1,
    }  # fmt: skip


def test_limits_and_late_answers_are_tried_again(quick, tmp_path):
    with Chat([429, 503, "slow", "under trees", "by the stove", "at a crossing"]) as chat:
        found = written(recipe(chat.url, timeout=0.3), tmp_path)
        assert found.texts[0] == "under trees" and len(chat.asked) == 6


def test_what_was_answered_before_a_service_gave_up_is_kept(quick, tmp_path):
    with Chat(["under trees", 402, "by the stove", "at a crossing"]) as chat:
        with pytest.raises(UserError, match="402"):
            written(recipe(chat.url), tmp_path)
        assert written(recipe(chat.url), tmp_path).texts[1:] == ["by the stove", "at a crossing"]
        assert len(chat.asked) == 4


@pytest.mark.parametrize(
    "answer, match",
    [
        (402, "answers 402: .*wants to be paid"),
        (401, "answers 401: .*THE_KEY"),
        (404, "answers 404: .*name of the model"),
        (429, "answers 429: .*, 5 times; the same command goes on"),
        ("slow", "no answer within 0.1 s, 5 times"),
        ("nonsense", "row 2: none of 2 answers of some-model can be used; the last: no JSON"),
        ("under trees", "row 2: .*'under trees' has been said before"),
    ],
)
def test_what_does_not_end_is_one_line_without_the_key(quick, tmp_path, answer, match):
    with Chat(["under trees", answer]) as chat:
        config = recipe(chat.url, timeout=0.1, tries=2)
        with pytest.raises(UserError, match=match) as error:
            written(config, tmp_path)
    assert "sk-the" not in str(error.value) and "\n" not in str(error.value)


def test_a_service_that_is_not_there(quick, tmp_path):
    with pytest.raises(UserError, match="cannot be reached"):
        written(recipe("http://127.0.0.1:9/v1"), tmp_path)
    with pytest.raises(UserError, match="is no address of a service"):
        written(recipe("nowhere/v1"), tmp_path)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A language model of transformers that knows eleven words and has learnt nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<end>", "tree", "sea", "road", "house", "lamp", "cloud", "hill", "wall", "of", "by"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", unk_token="<end>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=11, n_positions=64, n_embd=8, n_layer=1, n_head=1,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_local_model_writes_the_same_again(language_model, tmp_path):
    config = recipe(None, model=str(language_model), tokens=8, tries=20)
    before = torch.random.get_rng_state()
    first = written(config, tmp_path / "a").texts
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == written(config, tmp_path / "b").texts and len(set(first)) == 3
    with pytest.raises(UserError, match="language model nowhere cannot be loaded"):
        written(recipe(None, model="nowhere"), tmp_path / "c")
