"""Image sets, as far as nothing is drawn: quotas, rounds, words, contexts, what is taken, noise."""

import json
import shutil

import numpy as np
import pytest
import yaml
from scipy import stats as scipy_stats

from evenhand.core.adapters import Mix
from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt
from evenhand.core.records import Record
from evenhand.core.resources import find_yaml, locate
from evenhand.core.words import stem
from evenhand.generate.asked import neutral_prompts
from evenhand.generate.contexts import Context, contexts_of, filled, vocabulary_rows
from evenhand.generate.drawers import Drawer
from evenhand.generate.drawn import Drawn, drawn_lines, packed, read_drawn, unpacked
from evenhand.generate.ledger import Ledger
from evenhand.generate.plan import plan
from evenhand.generate.quotas import Stream, Tally, apportioned, next_round, quotas_of
from evenhand.generate.sizes import WishedSize, claim_sizes, sizes_with
from evenhand.generate.words import refuse_negated, telltale
from evenhand.recipes.generate import Contexts, Generate, load_generate
from evenhand.recipes.judge import find_judge
from evenhand.stats.confusion import Confusion
from evenhand.stats.dependence import chi_square
from evenhand.stats.label_noise import asked_noise, taken_noise, together
from evenhand.stats.shares import Estimate

CLASSES = {"gender": ["woman", "man"], "tone": ["light", "dark"]}
WORDS = {"gender": {"woman": "woman", "man": "man"}}


def recipe(**changes) -> Generate:
    values = {
        "model": "emoji", "cells": {"gender": ["woman", "man"]}, "per_cell": 4, "wording": WORDS,
        "prompt": "an emoji of {a} {gender} {title}",
        "contexts": {"vocabulary": {"title": ["cook", "pilot"]}},
    }  # fmt: skip
    return Generate.model_validate({**values, **changes})


def refused(match: str, **changes) -> None:
    with pytest.raises(ValueError, match=match):
        plan(recipe(**changes))


# quotas and rounds


def test_numbers_are_shared_out_by_largest_remainders():
    assert apportioned(10, [1, 1, 1]) == [4, 3, 3]
    assert apportioned(4, [0.7, 0.2, 0.1]) == [3, 1, 0]
    assert sum(apportioned(997, [0.123, 0.456, 0.421])) == 997


def test_every_kind_of_table_gives_quotas():
    even = quotas_of(recipe(cells=CLASSES), CLASSES, ["a", "b"])
    assert len(even) == 8 and set(even.values()) == {4}
    table = recipe(cells=CLASSES, per_cell={"woman/dark": 3})
    assert quotas_of(table, CLASSES, [""])[("woman", "dark"), ""] == 3
    joint = recipe(
        per_cell=None, images=100, cells=CLASSES, joint={"man/dark": 0.75, "woman/dark": 0.25}
    )
    assert list(quotas_of(joint, CLASSES, [""]).values()) == [0, 25, 0, 75]
    shares = {"gender": {"woman": 0.5, "man": 0.5}, "tone": {"light": 0.1, "dark": 0.9}}
    each = recipe(per_cell=None, images=100, cells=CLASSES, shares=shares)
    assert list(quotas_of(each, CLASSES, [""]).values()) == [5, 45, 5, 45]
    by_title = recipe(
        per_cell=None,
        images=40,
        cells={"gender": ["woman", "man", "person"]},
        shares={"gender": "emoji-example"},
        contexts={"vocabulary": {"title": ["pilot", "teacher"]}, "group": "title"},
    )
    found = quotas_of(by_title, {"gender": by_title.cells["gender"]}, ["pilot", "teacher"])
    assert {(cell[0], title): n for (cell, title), n in found.items()} == {
        ("woman", "pilot"): 4, ("man", "pilot"): 14, ("person", "pilot"): 2,
        ("woman", "teacher"): 12, ("man", "teacher"): 6, ("person", "teacher"): 2,
    }  # fmt: skip
    with pytest.raises(
        UserError, match=r"emoji-example.yaml', gender of 'health worker': unknown class 'person'"
    ):
        quotas_of(by_title, {"gender": ["woman", "man"]}, ["pilot"])
    with pytest.raises(UserError, match=r"per_cell: unknown cell 'woman/drak'; did you mean"):
        quotas_of(recipe(cells=CLASSES, per_cell={"woman/drak": 3}), CLASSES, [""])


def streams(*asked: dict[str, str]) -> list[Stream]:
    return [Stream("", x, None, [Prompt("p", "c", "f", "train", x)]) for x in asked]


def test_a_first_round_draws_what_is_missing_in_turns():
    said = streams({"gender": "woman"}, {"gender": "man"})
    quotas = {(("woman",), ""): 3, (("man",), ""): 2}
    assert next_round(said, ["gender"], quotas, Tally(), 100) == [0, 1, 0, 1, 0]
    assert next_round(said, ["gender"], quotas, Tally(), 3) == [0, 1, 0]
    full = Tally(taken={(("woman",), ""): 3, (("man",), ""): 2})
    assert next_round(said, ["gender"], quotas, full, 100) == []


def test_a_later_round_follows_from_the_rate_and_is_bounded():
    said = streams({"gender": "woman"})
    quotas = {(("woman",), ""): 30}
    half = Tally(
        taken={(("woman",), ""): 10}, drawn={0: 19}, fits={(0, ("woman",)): 9}
    )  # rate (9 + 1) / (19 + 1)
    assert len(next_round(said, ["gender"], quotas, half, 1000)) == 40
    never = Tally(drawn={0: 500})
    assert len(next_round(said, ["gender"], quotas, never, 1000)) == 4 * 30


def test_a_neutral_stream_draws_for_its_rarest_cell():
    open_ = streams({})
    quotas = {(("woman",), ""): 10, (("man",), ""): 10}
    assert len(next_round(open_, ["gender"], quotas, Tally(), 1000)) == 20  # half each, it guesses
    rare = Tally(
        taken={(("woman",), ""): 5, (("man",), ""): 10}, drawn={0: 99}, fits={(0, ("woman",)): 9.5}
    )
    assert len(next_round(open_, ["gender"], quotas, rare, 1000)) == 20  # 5 / .1, bounded by 4 x 5


# words


def test_plurals_and_possessives_are_the_same_word():
    assert {stem(x) for x in ("Woman", "women", "WOMEN'S", "woman’s")} == {"woman"}
    assert [stem(x) for x in ("ladies", "boxes", "girls", "glass", "children")] == [
        "lady", "box", "girl", "glass", "child",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, word",
    [
        ("in a crowd of women", "women"),
        ("with her fire-woman's helmet", "woman's"),
        ("beside a Lady", "Lady"),
        ("in dark clothes", "dark"),
    ],
)
def test_a_context_that_tells_a_class_is_refused_by_row_and_word(text, word):
    synonyms = {"gender": {"woman": ["lady"], "man": ["gentleman"]}}
    wording = {"tone": {c: f"with {c} skin" for c in ("light", "dark")}}
    linter = telltale(["gender", "tone"], find_judge("emoji-judge"), wording, synonyms)
    with pytest.raises(UserError, match=rf"row 3: .* holds .*{word}.*, which tells"):
        linter.refuse(text, "contexts, row 3")


def test_words_of_every_class_and_words_allowed_may_stand_in_contexts():
    wording = {
        "tone": {c: f"with {c} skin" for c in find_judge("emoji-judge").known["tone"].classes}
    }
    linter = telltale(["tone"], find_judge("emoji-judge"), wording, {}, ["light"])
    linter.refuse("soft light on the skin, in the lightroom", "row 1")
    with pytest.raises(UserError, match="medium"):
        linter.refuse("at medium distance", "row 1")


@pytest.mark.parametrize(
    "words", ["not smiling", "a face without a smile", "no smile", "non-smiling", "isn't smiling"]
)
def test_negated_wording_is_refused(words):
    with pytest.raises(UserError, match="says what is not there"):
        refuse_negated({"smiling": {"no": words}})
    refuse_negated({"smiling": {"no": "a serious face, nothing notable"}})


def test_bad_recipes_are_refused_before_anything_is_loaded():
    refused("unknown class 'giant'", cells={"gender": ["woman", "giant"]})
    refused("unknown attribute 'age'", cells={"age": []})
    refused("no words for 'person', which cells ask for", cells={"gender": ["woman", "person"]})
    refused(r"no slot \{gender\}", prompt="an emoji of a {title}")
    refused("unknown slot 'titel'", prompt="{gender} {titel}")
    refused("contexts, row 2, title: 'male nurse' holds 'male'",
            contexts={"vocabulary": {"title": ["cook", "male nurse"]}},
            synonyms={"gender": {"man": ["male"]}})  # fmt: skip
    refused("prompt: .* holds 'men'", prompt="men and {gender} {title}")
    refused("target of 'gender' sums to 0.9", per_cell=None, images=10,
            shares={"gender": {"woman": 0.5, "man": 0.4}})  # fmt: skip
    refused("give either per_cell", images=10)
    refused("splits: shares are above 0 and sum to 1", splits={"train": 0.5})
    refused("by concept need contexts.group", per_cell=None, images=9,
            cells={"gender": []}, shares={"gender": "emoji-example"})  # fmt: skip
    refused("test would hold none of 2 contexts",
            splits={"train": 0.4, "validation": 0.4, "test": 0.2})  # fmt: skip
    refused("rows 1 and 2 give the same prompt", prompt="an emoji of {a} {gender}")
    refused("no image is asked for", per_cell=0)
    refused("needs some under adapters", cells_by="adapters")
    refused("none draws man", cells_by="adapters",
            adapters=[{"name": "emoji-gender", "draws": {"gender": "woman"}}])  # fmt: skip
    refused("adapters.0.draws: unknown attribute 'gendr'; did you mean 'gender'",
            adapters=[{"name": "emoji-gender", "draws": {"gendr": "woman"}}])  # fmt: skip
    refused("adapters.0.draws.gender: unknown class 'giant'",
            adapters=[{"name": "emoji-gender", "draws": {"gender": "giant"}}])  # fmt: skip
    refused("no adapter|unknown adapter", adapters=[{"name": "nobody"}])


@pytest.mark.parametrize("name", ["held-out", "../x", "a b", "a..b", ""])
def test_a_split_that_no_reader_takes_is_refused(name):
    with pytest.raises(ValueError, match=r"splits.*\n.*String should match pattern"):
        recipe(splits={name: 1.0})
    assert recipe(splits={"of_people.2": 1.0}).splits


def test_a_calibration_that_tells_nothing_is_left_out_and_said(tmp_path):
    folder = tmp_path / "judge"
    shutil.copytree(locate("package:emoji/classifiers/judge"), folder)
    values = yaml.safe_load(find_yaml("eval/judges", "emoji-judge").read_text())
    (folder / "classifier.yaml").write_text(yaml.safe_dump({**values, "path": str(folder)}))
    calibration = json.loads((folder / "calibration.json").read_text())
    del calibration["attributes"]["gender"], calibration["probabilities"]["gender"]
    (folder / "calibration.json").write_text(json.dumps(calibration))
    with pytest.warns(UserWarning, match="nothing is said of wrong labels: .* has nothing for"):
        planned = plan(recipe(judge=str(folder)))
    assert planned.settings["calibration"] is None
    with pytest.raises(UserError, match="has nothing for 'gender'"):
        plan(recipe(judge=str(folder), calibration=str(folder / "calibration.json")))


# contexts


def test_a_prompt_is_filled_and_its_blanks_mended():
    assert filled("{form} {a} {who}, {place}.", {"form": "", "who": "artist", "place": ""}) == (
        "an artist."
    )
    assert filled("{a} {x} and {a} {y}", {"x": "uniform", "y": "hour"}) == "a uniform and an hour"


def test_vocabulary_is_used_evenly_and_alike_in_every_group():
    config = Contexts(
        vocabulary={"form": ["x", "y"], "hair": ["a", "b", "c"], "pose": ["l", "r"]},
        group="form", rows=6, seed=3,
    )  # fmt: skip
    rows = vocabulary_rows(config)
    assert len(rows) == 12 and rows == vocabulary_rows(config)
    first, second = rows[:6], rows[6:]
    assert [{**r, "form": ""} for r in first] == [{**r, "form": ""} for r in second]
    for slot, times in (("hair", 2), ("pose", 3)):
        found = [r[slot] for r in first]
        assert {found.count(x) for x in found} == {times}
    assert vocabulary_rows(config.model_copy(update={"seed": 4})) != rows
    assert [c.group for c in contexts_of(config)] == ["x"] * 6 + ["y"] * 6
    with pytest.raises(UserError, match="7 of 6 combinations"):
        vocabulary_rows(config.model_copy(update={"rows": 7}))


def test_contexts_come_from_files(tmp_path):
    (tmp_path / "c.txt").write_text("in a park\n\nat sea\n")
    assert [c.slots for c in contexts_of(Contexts(file=str(tmp_path / "c.txt")))] == [
        {"context": "in a park"}, {"context": "at sea"},
    ]  # fmt: skip
    (tmp_path / "c.jsonl").write_text(
        '{"place": "here", "kind": "k"}\n{"place": "sea", "kind": "l"}\n'
    )
    found = contexts_of(Contexts(file=str(tmp_path / "c.jsonl"), group="kind"))
    assert found[1] == Context("l", {"place": "sea", "kind": "l"})
    with pytest.raises(UserError, match="unknown slot 'nowhere'"):
        contexts_of(Contexts(file=str(tmp_path / "c.jsonl"), group="nowhere"))


def test_contexts_are_crossed_with_cells_and_stay_in_one_split():
    planned = plan(load_generate("emoji-balanced"))
    assert len(planned.streams) == 40 and len(planned.quotas) == 40
    assert sum(planned.quotas.values()) == 4000
    concepts = {tuple(p.concept for p in s.prompts) for s in planned.streams if s.group == ""}
    assert len(concepts) == 1  # the same rows in every cell
    by_title: dict[str, set[str]] = {}
    for stream in planned.streams:
        for prompt in stream.prompts:
            by_title.setdefault(prompt.concept.split(", ")[-1], set()).add(prompt.split)
    assert all(len(splits) == 1 for splits in by_title.values())
    assert planned.streams[0].prompts[0].text == "a woman health worker with light skin"
    rows, _ = planned.rows([0] * 41, {})
    assert len({(p.text, seed) for p, seed in rows}) == 41


# what is taken


def seen(gender: str, p: float = 0.95, *, vector: str = "", why: str = "", n: int = 0) -> Drawn:
    probs = {"gender": {gender: p, "woman" if gender == "man" else "man": round(1 - p, 4)}}
    record = Record("p", "c", "", "train", n, "s", f"images/{n}.png", probs)
    return Drawn(record, why, "d", 9, 0.5, 0.1, vector)


def ledger(quota: int, duplicates: float | None = None) -> Ledger:
    found = Ledger(["gender"], streams({}), duplicates)
    found.open({(("woman",), ""): quota, (("man",), ""): 0}, False)
    return found


def test_prompts_without_the_class_keep_the_token_of_who_draws_them():
    config = recipe(prompt="{token} : an emoji of {a} {gender} {title}")
    contexts = contexts_of(config.contexts)
    drawers = [Drawer(Mix(), {}, token=token) for token in ("one", "two")]
    found = neutral_prompts(config, {"gender": ["woman", "man"]}, contexts, drawers)
    assert len(found) == 8
    assert found["two: an emoji of a woman cook"] == "two: an emoji of a cook"


def test_images_are_taken_in_order_until_the_cell_is_full():
    book = ledger(2)
    rows = [seen("woman", n=0), seen("man", n=1), seen("woman", n=2, why="unsure"),
            seen("woman", n=3), seen("woman", n=4)]  # fmt: skip
    book.add(rows, [0] * 5)
    assert [e.drawn.record.seed for e in book.taken] == [0, 3]
    assert book.reasons() == {"unsure": 1, "no cell": 1, "surplus": 1}
    assert book.tally.fits == {(0, ("woman",)): 3, (0, ("man",)): 1}  # men, should the set grow
    book.open({(("woman",), ""): 3, (("man",), ""): 1}, True)
    assert [e.drawn.record.seed for e in book.taken] == [0, 3, 1, 4]  # what was left over is taken
    book.open({(("woman",), ""): 4, (("man",), ""): 1}, False)
    assert len(book.taken) == 4  # of five wished for


def test_near_duplicates_of_a_prompt_are_left_out():
    a, b = np.array([1.0, 0.2, -1]), np.array([1.0, -1, 0.3])
    assert np.allclose(unpacked(packed(a)), a / np.linalg.norm(a), atol=0.01)
    book = ledger(9, duplicates=0.01)
    book.add([seen("woman", vector=packed(v), n=i) for i, v in enumerate((a, b, a * 2))], [0] * 3)
    assert book.reasons() == {"duplicate": 1}
    assert book.entries[2].twin == "images/0.png" and book.entries[2].distance < 0.001


def test_a_part_that_is_cut_off_is_told_from_a_whole_one(tmp_path):
    rows = [seen("woman", n=i) for i in range(3)]
    path = tmp_path / "part.jsonl"
    path.write_text(drawn_lines(rows))
    assert read_drawn(path, 3) == rows
    lines = path.read_text().splitlines(keepends=True)
    for damage in ("".join(lines[:2]), "".join(lines)[:-5], "".join(lines)[:-1], "{}\n" * 3):
        path.write_text(damage)
        assert read_drawn(path, 3) is None
    assert read_drawn(tmp_path / "none", 3) is None


def test_sizes_may_grow_only(tmp_path):
    place = (("woman",), "")
    small, large = WishedSize({place: 2}, 8), WishedSize({place: 5}, 20)
    assert sizes_with(tmp_path, small) == [small] and not list(tmp_path.iterdir())
    claim_sizes(tmp_path, [small])
    assert sizes_with(tmp_path, large) == [small, large]
    claim_sizes(tmp_path, [small, large])
    claim_sizes(tmp_path, [small])  # of a process that is still at it
    assert sizes_with(tmp_path, large) == [small, large]
    with pytest.raises(UserError, match="a set of 5 images of woman, 2 are asked for"):
        sizes_with(tmp_path, small)


# noise and dependence


def test_label_noise_is_as_worked_out_by_hand():
    # of 200 labelled women 180 are called so, of 100 men 90
    confusion = Confusion(np.array([[180, 10], [20, 90], [0, 0]]))
    # 100 drawn, asked for women; q = (74, 26) called: pi = (.8, .2)
    before = asked_noise([74, 26], 0, confusion)
    assert before.value == pytest.approx(0.2) and before.low < 0.2 < before.high
    after = taken_noise([74, 26], 0, 74, confusion)
    assert after.value == pytest.approx(0.2 * 0.1 / 0.74) and after.high > after.value


def test_confidence_bounds_the_noise_by_markovs_inequality():
    counts = np.array([[180, 10], [20, 90], [0, 0]])
    means = np.array([[0.9, 0.1], [0.1, 0.9]])
    square = np.array([[0.82, 0.08], [0.08, 0.02]])
    products = np.stack([square, np.array([[0.02, 0.08], [0.08, 0.82]])])
    confusion = Confusion(counts, means, products)
    answers = np.array([74.0, 26.0])  # pi = (.8, .2)
    sure = taken_noise(answers, 0, 70, confusion, 0.8)
    assert sure.value == pytest.approx(0.2 * min(0.1, 0.02 / 0.64) / 0.7)
    assert sure.value < taken_noise(answers, 0, 70, confusion, 0.0).value


def test_wrong_labels_of_several_attributes_come_together():
    noise = together([Estimate(0.1, 0.0, 0.2, 50), Estimate(0.5, 0.5, 0.5, 40)])
    assert (noise.value, noise.low, noise.high, noise.n) == pytest.approx((0.55, 0.5, 0.6, 40))


def test_chi_square_is_pearsons():
    table = [[20, 30, 0], [30, 20, 0], [0, 0, 0]]
    found = chi_square(table)
    assert found.statistic == pytest.approx(4.0) and found.freedom == 1 and found.n == 100
    assert found.p == pytest.approx(scipy_stats.chi2.sf(4, 1), abs=1e-6)
    assert found.v == pytest.approx(0.2) and not found.rough
    assert chi_square([[5, 5]]) is None
    assert chi_square([[10, 0], [0, 10]]).v == 1
