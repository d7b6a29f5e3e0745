"""Bad prompts and prompt sets to measure."""

import itertools

import yaml

from hostile_cases.case import Case
from hostile_cases.measuring import QUICK, G, images, report

PROMPTS = {
    "version": 1,
    "source": "me",
    "licence": "CC0",
    "family": "f",
    "templates": ["an emoji of {a} {concept}"],
    "concepts": {"test": ["judge"]},
}


def prompts(**changes) -> dict:
    return {"q.yaml": yaml.safe_dump({**PROMPTS, **changes})}


def noted(words: str):
    return lambda folder, out: any(words in note for note in report(folder)["notes"])


def bomb() -> str:
    """Aliases of aliases: nine lines that stand for 9 to the power of nine values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


LONG = "an emoji of a judge " * 20
TEXTS = [
    Case("empty", G, "holds no prompt", {"p.txt": "\n \n"}),
    Case("not there", G, "cannot be read"),
    Case("no UTF-8", G, "cannot be read", {"p.txt": b"caf\xe9\n"}),
    Case(
        "a byte order mark is no prompt",
        G,
        None,
        {"p.txt": b"\xef\xbb\xbfa judge\n"},
        lambda folder, out: "\ufeff" not in (folder / "r" / "records.jsonl").read_text(),
        21,
    ),
    Case(
        "rare line breaks end no prompt",
        G,
        None,
        {"p.txt": "a judge\u2028at work\na pilot\x0bof old\n"},
        images(4),
        22,
    ),
    Case(
        "longer than the encoder reads",
        G,
        None,
        {"p.txt": f"{LONG}one\n{LONG}two\n"},
        noted("longer than the model's text encoder reads"),
        8,
    ),
    Case(
        "a set that contains itself",
        "measure emoji --prompts ./q.yaml",
        "leads back to this file",
        prompts(concepts="./q.yaml"),
        fault=20,
    ),
    Case(
        "two sets that contain each other",
        "measure emoji --prompts ./q.yaml",
        "leads back to this file",
        {
            **prompts(concepts="./s.yaml"),
            "s.yaml": yaml.safe_dump({**PROMPTS, "concepts": "./q.yaml"}),
        },
        fault=20,
    ),
    Case(
        "two sets that share a prompt",
        f"measure emoji --prompts ./q.yaml --prompts ./s.yaml --attributes gender {QUICK}",
        None,
        {**prompts(), "s.yaml": yaml.safe_dump({**PROMPTS, "family": "g"})},
        noted("stand in several of the prompt sets"),
        52,
    ),
    Case(
        "a concept in two splits",
        "measure emoji --prompts ./q.yaml",
        "stands in test and train",
        prompts(concepts={"train": ["judge"], "test": ["judge"]}),
    ),
    Case("no concept", "measure emoji --prompts ./q.yaml", "no concept", prompts(concepts={})),
    Case(
        "an empty concept",
        "measure emoji --prompts ./q.yaml",
        "a concept is empty",
        prompts(concepts={"test": [" "]}),
    ),
    Case("no wording", "measure emoji --prompts ./q.yaml", "no wording", prompts(templates=[])),
    Case(
        "a wording without a place",
        "measure emoji --prompts ./q.yaml",
        "has no {concept}",
        prompts(templates=["a judge"]),
    ),
    Case(
        "a wording with another place",
        "measure emoji --prompts ./q.yaml",
        "cannot be filled in",
        prompts(templates=["{mood} {concept}"]),
    ),
    Case(
        "nothing but explicit prompts, and none of these",
        "measure emoji --prompts ./q.yaml --explicit-images 0",
        "nothing to draw",
        prompts(templates=[], explicit={"gender": {"woman": "a woman {concept}"}}),
    ),
    Case(
        "aliases without end",
        "measure emoji --prompts ./q.yaml",
        "aliases",
        {
            "q.yaml": bomb(),
        },
    ),
    Case(
        "a YAML a thousand levels deep",
        "measure emoji --prompts ./q.yaml",
        "cannot be read as YAML",
        {"q.yaml": "a: " + "[" * 3000},
    ),
]
