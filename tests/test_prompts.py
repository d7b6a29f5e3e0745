"""The prompt sets for models of photographs.

Sizes, splits that hold nothing trained, neutral wordings.
"""

import functools
import re

import pytest

from evenhand.core import resources
from evenhand.core.prompts import load_prompts

SETS = {name: load_prompts(name) for name in resources.names("prompts")}
OCCUPATION_SET = SETS["occupations"]
OCCUPATIONS, CONTEXT = SETS["occupations"].concepts, SETS["occupations-in-context"].concepts
HELD_OUT = ("validation", "test")
GENDERED = re.compile(
    r"\b(m[ae]n|(?!humans?\b)\w+m[ae]n|(fe)?males?|girls?|boys?|lad(y|ies)|guys?|he|him|his|she|hers?|(him|her)self|mothers?|"
    r"fathers?|sons?|daughters?|brothers?|sisters?|\w*(wife|wives)|husbands?|mrs?|ms|sir|madam|kings?|queens?|nuns?|monks?|"
    r"maids?|(waitr|actr|host|steward|seamstr)ess(es)?)\b",
    re.I,
)


def occupation(phrase: str) -> str:
    """The "baker" of "a baker kneading dough ..."."""
    match = re.match(r"an? (.+?) \w+ing\b", phrase)
    assert match, f"{phrase!r} is not 'a <occupation> <verb>ing ...'"
    return match[1]


@functools.cache
def words(text: str) -> str:
    return f" {' '.join(re.findall('[a-z]+', text.lower()))} "


def contains(text: str, phrase: str) -> bool:
    text, phrase = words(text), words(phrase)
    return phrase in text or f"{phrase[:-1]}s " in text


@pytest.mark.parametrize(
    "name, train, validation, test",
    [
        ("occupations", 1000, 10, 50),
        ("occupations-in-context", 100, 10, 20),
        ("descriptors", 100, 10, 20),
        ("sports", 100, 10, 20),
    ],
)
def test_sizes(name, train, validation, test):
    concepts = SETS[name].concepts
    assert len(concepts["train"]) >= train
    assert (len(concepts["validation"]), len(concepts["test"])) == (validation, test)


@pytest.mark.parametrize("name", ["loaded-words", "things"])
def test_sets_for_measuring_alone(name):
    assert list(SETS[name].concepts) == ["test"] and len(SETS[name].concepts["test"]) >= 40


def test_no_held_out_occupation_is_trained_on_in_any_family():
    """As a whole phrase, singular or plural, in either direction.

    "nurse" against "registered nurse" would fail.
    """
    held_out = {c for s in HELD_OUT for c in OCCUPATIONS[s]} | {
        occupation(c) for s in HELD_OUT for c in CONTEXT[s]
    }
    trained = [
        (name, c)
        for name, prompt_set in SETS.items()
        if not name.startswith("emoji-")
        for c in prompt_set.concepts.get("train", [])
    ]
    found = [(h, *t) for h in held_out for t in trained if contains(t[1], h) or contains(h, t[1])]
    assert found == []


def test_occupations_in_context_are_trained_without_context():
    assert {occupation(c) for c in CONTEXT["train"]} <= set(OCCUPATIONS["train"])


def test_no_sport_stands_in_two_splits():
    generic = {"a", "an", "person", "playing", "practicing", "player", "racer", "thrower"}
    train, validation, test = (
        {w for c in SETS["sports"].concepts[s] for w in words(c).split()} - generic
        for s in ("train", *HELD_OUT)
    )
    assert train & validation | train & test | validation & test == set()


@pytest.mark.parametrize("name", SETS)
def test_neutral_prompts_name_no_gender(name):
    assert [p.text for p in SETS[name].prompts() if GENDERED.search(p.text)] == []


def test_every_prompt_is_unique():
    texts = [
        p.text.lower()
        for s in SETS.values()
        for p in s.prompts() + s.explicit_prompts(list(s.explicit))
    ]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    "concept, article",
    [
        ("actor", "an"),
        ("nurse", "a"),
        ("university professor", "a"),
        ("urologist", "a"),
        ("umpire", "an"),
        ("usher", "an"),
        ("heir", "an"),
        ("hairdresser", "a"),
    ],
)
def test_articles(concept, article):
    prompts = OCCUPATION_SET.model_copy(update={"concepts": {"train": [concept]}}).prompts()
    assert prompts[0].text == f"a photo of the face of {article} {concept}, a person"
