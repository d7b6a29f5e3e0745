"""Targets that differ by concept: the file, its faults, distances by hand, training."""

import json
import re

import numpy as np
import pytest
from test_reports import record, run_of

from evenhand.adapt.dft.batches import draw
from evenhand.adapt.dft.census import Census
from evenhand.adapt.dft.plan import plan as plan_training
from evenhand.cli.measure_settings import parse_target
from evenhand.core.attributes import Attribute, Target, intersection
from evenhand.core.concept_targets import load_targets
from evenhand.core.errors import UserError
from evenhand.core.schema import check
from evenhand.measure.plan import plan
from evenhand.recipes.dft import Dft, load_recipe
from evenhand.recipes.measure import Measure
from evenhand.reports.html import write_comparison, write_report
from evenhand.reports.models import Report
from evenhand.stats.confusion import Confusion
from evenhand.stats.floors import distance_floor
from evenhand.stats.moments import of_counts
from evenhand.stats.roots import change_of_roots, root
from evenhand.stats.squares import distance_from, squares

HEAD = "concept,class,share,source,year\n"
NURSE = "nurse,woman,.75,a count,2022\nnurse,man,.25,a count,2022\n"
PILOT = "pilot,woman,.25,a count,2022\npilot,man,.75,a count,2022\n"
OTHERS = "*,woman,.5,a count,2022\n*,man,.5,a count,2022\n"


@pytest.fixture
def table(tmp_path):
    """A file of two concepts, which names no attribute."""
    path = tmp_path / "counts.csv"
    path.write_text(HEAD + NURSE + PILOT)
    return str(path)


def test_both_forms_of_the_file_say_the_same(tmp_path, table):
    (tmp_path / "counts.yaml").write_text(
        "source: a count\nyear: 2022\nconcepts:\n"
        "  nurse: {woman: .75, man: .25}\n  pilot: {woman: .25, man: .75}\n"
    )
    found = [load_targets(table), load_targets(str(tmp_path / "counts.yaml"))]
    kept = [x.model_dump(exclude={"table"}) for x in found]
    assert kept[0] == kept[1]
    assert str(found[0]) == "table counts.csv (a count, 2022)"
    assert found[0].of("pilot") == {"woman": 0.25, "man": 0.75}


def test_published_shares_are_rounded_and_used_as_if_they_were_not(tmp_path):
    path = tmp_path / "thirds.csv"
    path.write_text(HEAD + "".join(f"cook,{c},.33,a count,2022\n" for c in "abc"))
    assert load_targets(str(path)).of("cook") == pytest.approx(dict.fromkeys("abc", 1 / 3))


@pytest.mark.parametrize(
    "text, said",
    [
        ("nurse,woman,.8,s,2022\nnurse,man,.1,s,2022\n", "'nurse': shares sum to 0.9 .woman 0.8"),
        ("nurse,woman,87.9,s,2022\nnurse,man,12.1,s,2022\n", "'nurse'.*divide percentages by 100"),
        ("nurse,woman,.5,s,2022\nnurse,woman,.5,s,2022\n", "row 2: 'nurse', 'woman' stands twice"),
        ("nurse,woman,many,s,2022\n", "row 1: share 'many' is no number from 0 to 1"),
        ("nurse,woman,nan,s,2022\n", "nurse.woman: Input should be a finite number"),
        (",woman,1,s,2022\n", "row 1 has no concept"),
        ("nurse,woman,1,,\n", "row 1 has no source and no year"),
        ("nurse,woman,1,s\n", "line 2: 4 values for 5 columns"),
        ("", "has no row"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_row(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_text(HEAD + text)
    with pytest.raises(UserError, match=f"t.csv.*{said}"):
        load_targets(str(path))


def test_all_rows_that_are_wrong_are_named_together(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("source: s\nyear: 1\nconcepts: {a: {x: .5}, b: {x: .7}, c: {x: 1}}\n")
    with pytest.raises(UserError, match="'a': shares sum to 0.5.*'b': shares sum to 0.7") as error:
        load_targets(str(path))
    assert "'c'" not in str(error.value)


@pytest.mark.parametrize(
    "text, said",
    [
        ("concept,class,share,source,year,sex\na,b,1,s,1,x\n", "unknown column 'sex'"),
        (
            HEAD.strip() + ",attribute\na,b,1,s,1,gender\na,b,1,s,1,age\n",
            "stands twice|of several attributes",
        ),
    ],
)
def test_columns_that_count_for_nothing_are_refused(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load_targets(str(path))


def test_a_name_in_a_recipe_or_protocol_stands_for_the_table(tmp_path, table):
    with pytest.raises(UserError, match="names no attribute; write ATTRIBUTE: "):
        check(Target, table, where="r")
    known = {"gender": Attribute(name="gender", classes=["woman", "man"])}
    target = check(Target, {"shares": {"gender": table}}, where="r")
    assert target.of("nurse").marginal(known["gender"], known) == [0.75, 0.25]
    assert check(Target, target.model_dump(mode="json"), where="r") == target  # as in run.json
    other = tmp_path / "ages.csv"
    other.write_text(HEAD.strip() + ",attribute\nnurse,old,1,s,2022,age\n")
    with pytest.raises(UserError, match="ages.csv: is of 'age', not of 'gender'"):
        check(Target, {"shares": {"gender": str(other)}}, where="r")
    assert check(Target, str(other), where="r").attributes == ["age"]
    with pytest.raises(UserError, match="unknown target 'nowhere'.*us-labour-2022"):
        check(Target, "nowhere", where="r")


def test_the_option_takes_a_table_beside_the_old_form(table):
    found = parse_target([f"gender={table}", "tone=dark:1", "race=a:.5,b:.5"])
    assert found["gender"].table == "counts.csv" and found["tone"] == {"dark": 1}
    assert parse_target(["us-labour-2022"])["gender"].year == "2022"
    with pytest.raises(UserError, match="names no attribute; write ATTRIBUTE="):
        parse_target([table])


def test_an_attribute_may_have_one_target_and_another_its_table(table):
    known = {
        "gender": Attribute(name="gender", classes=["woman", "man"]),
        "tone": Attribute(name="tone", classes=["light", "dark"]),
    }
    shares = {"gender": table, "tone": {"light": 0.5, "dark": 0.5}}
    target = check(Target, {"shares": shares}, where="r")
    both = intersection(list(known.values()))
    assert target.of("pilot").marginal(both, known) == [0.125, 0.125, 0.375, 0.375]
    target.check(known)
    with pytest.raises(UserError, match=r"'counts.csv', gender of 'nurse': unknown class 'woman'"):
        target.check({**known, "gender": Attribute(name="gender", classes=["female", "male"])})


def measured(folder, table, women, **settings):
    """A run of four images each of a nurse and a pilot, so many of each women."""
    rows = [
        record(f"a {concept}", seed, "woman" if seed < n else "man", concept=concept)
        for concept, n in women.items()
        for seed in range(4)
    ]
    target = check(Target, {"shares": {"gender": table}}, where="r").model_dump(mode="json")
    return run_of(folder, rows, target=target["shares"], **settings)


def test_each_prompt_is_held_against_its_own_concept(tmp_path, table):
    report = write_report(measured(tmp_path / "run", table, {"nurse": 3, "pilot": 3}))
    entry = report.attributes["gender"]
    nurse, pilot = entry.prompts
    assert (nurse.target, pilot.target) == ([0.75, 0.25], [0.25, 0.75])
    assert (nurse.distance, pilot.distance) == (0.0, 0.5)
    split = entry.splits["test"]
    assert split.distance_found == 0.25  # the mean of 0 and .5
    floor = distance_floor((0.75, 0.25), 4)  # the same for .25, .75 by symmetry
    assert split.distance_floor == pytest.approx(floor, abs=0.01)
    # squares without chance, (p - t)^2 - p (1 - p)/(n - 1): 0 - 1/16 and 1/4 - 1/16
    assert split.distance.value == pytest.approx(((-1 / 16 + 3 / 16) / 2) ** 0.5, abs=1e-6)
    assert entry.target is None
    assert entry.target_tables[0].model_dump() == {
        "table": "counts.csv",
        "attribute": "gender",
        "source": "a count",
        "year": "2022",
        "licence": "",
    }
    assert any("by concept, table counts.csv (a count, 2022)" in note for note in report.notes)
    saved = json.loads((tmp_path / "run" / "report.json").read_text())
    assert Report.model_validate(saved) == report
    page = (tmp_path / "run" / "report.html").read_text()
    assert "table counts.csv (a count, 2022)" in page
    assert "woman 0.75, man 0.25" in page and "dashed: target" in page


def test_a_change_is_of_each_concepts_own_distance(tmp_path, table):
    before = measured(tmp_path / "a", table, {"nurse": 1, "pilot": 3})
    after = measured(tmp_path / "b", table, {"nurse": 3, "pilot": 1})
    result = write_comparison(before, after, tmp_path / "c")
    ends = [r.attributes["gender"].splits["test"] for r in (result.before, result.after)]
    assert [e.distance_found for e in ends] == [0.5, 0.0]
    # before: 1/4 - 1/16 of both; after: -1/16, so 0
    assert ends[0].distance.value == pytest.approx((3 / 16) ** 0.5, abs=1e-6)
    change = result.change.attributes["gender"].splits["test"].distance
    assert change.value == pytest.approx(-((3 / 16) ** 0.5), abs=1e-6)


def test_concepts_without_a_row_have_the_default_and_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEAD + NURSE + OTHERS)
    report = write_report(measured(tmp_path / "run", str(path), {"nurse": 3, "pilot": 2}))
    assert report.attributes["gender"].prompts[1].target == [0.5, 0.5]
    (note,) = [note for note in report.notes if "by concept" in note]
    assert note.endswith("1 concepts that it lacks ('pilot') have its default: woman 0.5, man 0.5.")


@pytest.mark.parametrize("common", [[0.3, 0.7], [0.2, 0.3, 0.5]])
def test_one_target_said_once_or_of_every_prompt_is_one_number(common):
    counts = np.random.default_rng(0).multinomial(8, common, size=6)
    once, each = distance_from(common), distance_from([common] * 6)
    found = [root(squares(of_counts(counts), form)) for form in (once, each)]
    assert found[0] == found[1]
    after = np.roll(counts, 1, axis=1)
    changes = [change_of_roots(of_counts(counts), of_counts(after), f) for f in (once, each)]
    ends = [(e.value, e.low, e.high) for e in changes]
    assert ends[0] == pytest.approx(ends[1])


def test_the_same_holds_where_the_judge_errs():
    counts = np.random.default_rng(0).multinomial(20, [0.6, 0.4], size=6)
    labelled = np.array([[90, 20], [10, 80], [0, 0]])  # called, by truth; the last row unseen
    forms = [distance_from([0.3, 0.7]), distance_from([[0.3, 0.7]] * 6)]
    found = [root(squares(of_counts(counts), form, Confusion(labelled))) for form in forms]
    ends = [(e.value, e.low, e.high) for e in found]
    assert ends[0] == pytest.approx(ends[1])
    other = distance_from([[0.3, 0.7]] * 3 + [[0.7, 0.3]] * 3)
    mixed = root(squares(of_counts(counts), other, Confusion(labelled)))
    assert mixed.value < found[0].value and mixed.low <= mixed.value <= mixed.high


def test_intervals_hold_the_true_distance_where_targets_differ():
    rng = np.random.default_rng(1)
    held = {0.0: 0, 0.2: 0}
    for _ in range(150):
        for off in held:
            women = rng.uniform(0.05, 0.75, size=30)
            targets = np.stack([women, 1 - women], 1)
            truths = np.stack([women + off, 1 - women - off], 1)
            counts = np.stack([rng.multinomial(24, p) for p in truths])
            found = root(squares(of_counts(counts), distance_from(targets)))
            held[off] += found.low <= off <= found.high
    assert min(held.values()) >= 0.91 * 150


EMOJI = {"model": "emoji", "prompts": ["emoji-occupations"], "attributes": ["gender"]}


def test_a_measurement_refuses_a_concept_without_shares_before_it_begins(table, tmp_path):
    config = check(Measure, {**EMOJI, "target": {"gender": table}}, where="m")
    with pytest.raises(UserError, match="has no shares for .* concepts: 'student', .*default:"):
        plan(config)
    config = check(Measure, {**EMOJI, "target": "emoji-example", "splits": ["test"]}, where="m")
    settings = plan(config).settings
    assert settings["target"]["gender"]["source"].startswith("made up")
    assert json.loads(json.dumps(settings)) == settings
    wrong = tmp_path / "w.csv"
    wrong.write_text(HEAD + NURSE + "*,lady,1,s,2022\n")
    with pytest.raises(UserError, match="gender of 'default': unknown class 'lady'"):
        plan(check(Measure, {**EMOJI, "target": {"gender": str(wrong)}}, where="m"))


def recipe(**changes):
    values = load_recipe("dft/emoji-gender").model_dump(mode="json")
    return check(Dft, {**values, "targets": {}, "images": 6, **changes}, where="recipe")


def test_training_aligns_each_prompt_with_its_own_concept(tmp_path):
    given = recipe(target="emoji-example", preservation={"weight": 0})
    found = plan_training(given)
    judge, farmer = (
        next(p for p in found.neutral if p.concept == name) for name in ("judge", "farmer")
    )
    batch = draw(given, [judge, farmer], [], 0, np.random.default_rng(0))
    wished = [group.target.shares["gender"]["woman"] for group in batch.groups]
    assert wished == pytest.approx([0.5, 0.25])
    assert [group.rows.tolist() for group in batch.groups] == [[*range(6)], [*range(6, 12)]]
    together = recipe(target="emoji-example", alignment={"together": True})
    other = next(p for p in found.neutral if p.concept == "student")  # of the default
    batch = draw(together, [other, judge, other], [], 0, np.random.default_rng(0))
    assert [len(group.rows) for group in batch.groups] == [12, 6]


def test_training_refuses_a_concept_without_shares(table):
    with pytest.raises(UserError, match="target table 'counts.csv' has no shares"):
        plan_training(recipe(target={"shares": {"gender": table}}))


def test_the_census_expects_of_each_prompt_what_its_concept_asks_for(tmp_path, table, recwarn):
    known = {"gender": Attribute(name="gender", classes=["woman", "man"])}
    target = check(Target, {"shares": {"gender": table}}, where="r")
    wished = {f"a {c}": target.of(c) for c in ("nurse", "pilot")}
    census = Census(tmp_path / "log.jsonl")
    census.add({"classes": {"gender": [0, 30]}, "prompts": {"a pilot": [30, 30]}}, "here")
    census.warn(wished, known)  # 7.5 women were asked for: none may come by chance
    assert not recwarn.list
    census.add({"classes": {"gender": [0, 12]}, "prompts": {"a nurse": [12, 12]}}, "here")
    with pytest.warns(UserWarning, match="'woman' is asked for .* in none of 42 images"):
        census.warn(wished, known)


def test_the_shipped_table_holds_what_it_says():
    labour = load_targets("us-labour-2022")
    assert labour.of("registered nurse") == pytest.approx({"woman": 0.879, "man": 0.121})
    assert labour.of("surgeon") == pytest.approx({"woman": 0.468, "man": 0.532})
    assert re.search("Bureau of Labor Statistics.*Table 11", labour.source)
