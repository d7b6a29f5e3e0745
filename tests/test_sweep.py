"""Sweeps: the rule by hand, and a sweep of the embedded model at toy size."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image
from test_card import comparison, folder  # noqa: F401 -- fixtures
from typer.testing import CliRunner

from evenhand.cli import app
from evenhand.core.adapters import find_adapter, find_mix
from evenhand.core.errors import UserError
from evenhand.core.records import read_run
from evenhand.core.schema import check
from evenhand.publish.sweep import put, sweep
from evenhand.recipes.measure import Measure
from evenhand.recipes.sweep import Sweep, defaults_of, strengths_for
from evenhand.reports.card import write_card
from evenhand.reports.comparison import compare
from evenhand.reports.sweep.models import Point, PointAttribute, SweepReport, sweep_of
from evenhand.reports.sweep.plot import sweep_figure
from evenhand.reports.sweep.points import level_of
from evenhand.reports.sweep.suggestion import in_words, rule_in_words, suggest
from evenhand.reports.sweep.table import table_of
from evenhand.stats.shares import Estimate


def about(value, half):
    return Estimate(value, value - half, value + half, 6)


def point(strength, off, lost=0.0, half=0.02, guidance=1.0, **more):
    """A made-up point: how far off at most, and what it loses with half the interval's width."""
    found = {"gap": about(off - 0.1, 0.1), "distance": about(off - 0.1, 0.1)}
    if strength:
        found["explicit_change"] = about(-lost, half)
        found["distance_change"] = about(-0.3, 0.1)
    return Point(
        strengths={"a": strength},
        guidance_scale=guidance,
        folder=f"{strength}-{guidance}",
        images=24,
        attributes={"gender": PointAttribute(**found), **more},
    )


def test_the_rule_on_points_worked_out_by_hand():
    points = [
        point(0, 0.1),  # nearest, but no adapter is loaded
        point(0.25, 0.9),
        point(0.5, 0.604, lost=0.0299),  # may lose .0499 at most
        point(0.75, 0.5, lost=0.04),  # may lose .06
        point(1, 0.6, lost=0.0),
        point(1.5, 0.2, lost=0.2),  # is shown to lose more
    ]
    assert suggest(points, 0.05) == 2  # .60 like strength 1, with less strength
    assert suggest(points, 0.06) == 3
    assert suggest(points, 0.01) is None
    (said,) = in_words(points, None, [], 0.01)
    assert "none of 5 is shown to lose at most 0.01." in said
    assert "Shown to lose more: 2 points." in said and "Of 3 points these images" in said
    assert "at all 5 points together (95 %; each interval is of 99 %)" in rule_in_words(
        points, 0.05, level_of(5)
    )


def test_the_attribute_that_is_farthest_off_decides_and_a_target_goes_before_none():
    off = {"tone": PointAttribute(gap=about(0.1, 0), distance=about(0.8, 0.1))}
    free = {"age": PointAttribute(gap=about(0.9, 0.1))}
    assert suggest([point(0.5, 0.3, **off), point(1, 0.5)], 0.05) == 1
    assert suggest([point(0.5, 0.3, **free), point(1, 0.5)], 0.05) == 0


def test_what_costs_nothing_known_and_is_not_shown_to_help_says_so():
    chosen, fresh = (
        Point(
            strengths={"a": 1.0},
            folder="x",
            images=24,
            attributes={"age": PointAttribute(gap=about(0.4, 0.1), gap_change=change)},
        )
        for change in (about(-0.4, 0.1), about(-0.1, 0.2))
    )
    said = " ".join(in_words([chosen], suggest([chosen], 0.05), [chosen, fresh], 0.05))
    assert "24 images from seeds that chose nothing: gap of age 0.40 [0.30, 0.50]; without" in said
    assert "not shown to be nearer" in said and "what this costs is not known" in said
    assert "chosen among" not in said


SMALL = {
    "model": "emoji",
    "prompts": ["emoji-occupations"],
    "splits": ["test"],
    "attributes": ["gender"],
    "target": {"gender": {"woman": 0.5, "man": 0.5}},
    "images": 2,
    "explicit_images": 1,
    "batch": 40,
    "settings": {"num_inference_steps": 2},
}


def config(adapters, **more):
    return check(Sweep, {"measure": SMALL, "adapters": adapters, **more}, where="s")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two guidance scales, whose margin lets every point pass."""
    where = tmp_path_factory.mktemp("sweep")
    seen = []
    report = sweep(
        config({"emoji-gender": [0, 1]}, guidance=[1, 2], margin=1.0),
        where,
        progress=lambda done, most: seen.append((done, most)),
    )
    return where, report, seen


def test_a_sweep_says_at_every_point_what_a_comparison_says(swept):
    where, report, seen = swept
    names = ["strength-0-guidance-1", "strength-1-guidance-1"]
    assert [p.folder for p in report.points][:2] == names
    assert [(p.alone, p.guidance_scale) for p in report.points] == [
        (True, 1),
        (False, 1),
        (True, 2),
        (False, 2),
    ]
    assert report.level == 0.975 and seen[-1] == (6 * 30, 6 * 30)
    change = compare(*(where / name for name in names)).change.attributes["gender"]
    found = report.points[1].attributes["gender"]
    assert found.gap_change.value == change.splits["test"].gap.value
    assert found.distance_change.value == change.splits["test"].distance.value
    assert found.explicit_change.value == change.explicit.value
    assert found.explicit_change.level == 0.975
    assert found.gap_change.low <= change.splits["test"].gap.low  # it holds for both points
    assert set(report.points[1].closeness) == {"classifier"} and not report.points[0].closeness
    assert 0 < report.points[1].closeness["classifier"].value < 1


def test_the_suggested_point_is_measured_again_at_other_seeds(swept):
    where, report, _ = swept
    before, after = report.fresh
    chosen = report.points[report.suggested]
    assert before.alone and after.sampler == chosen.sampler == before.sampler
    seeds = [
        {r.seed for r in read_run(where / p.folder)[1]} for p in (*report.points, before, after)
    ]
    assert seeds[0] == seeds[1] == seeds[3] and seeds[4] == seeds[5]
    assert not seeds[0] & seeds[4]
    assert after.attributes["gender"].gap.level == 0.95
    assert str(after.attributes["gender"].distance) in " ".join(report.said)


def test_a_sweep_is_read_again_and_goes_on(swept):
    where, report, _ = swept
    values = json.loads((where / "sweep.json").read_text())
    assert SweepReport.model_validate(values) == report and values["schema"] == 1
    times = {p: p.stat().st_mtime_ns for p in where.rglob("parts/*")}
    again = sweep(config({"emoji-gender": [0, 1]}, guidance=[1, 2], margin=1.0), where)
    assert again == report
    assert {p: p.stat().st_mtime_ns for p in where.rglob("parts/*")} == times


def test_table_picture_and_page_hold_every_point(swept, sound):
    where, report, _ = swept
    headings, rows = table_of(report.points, report.suggested)
    assert headings[:3] == ["strength", "guidance", "steps"] and headings[-1] == ""
    assert "near in classifier" in headings and "attribute" not in headings
    assert len(rows) == 4 and [row[-1] for row in rows].count("suggested") == 1
    with Image.open(where / "sweep.png") as image:
        assert image.width > 600
    page = (where / "sweep.html").read_text()
    for p in report.points:
        assert str(p.attributes["gender"].gap) in page and f'href="{p.folder}/report.html"' in page
        assert (where / p.folder / "report.html").is_file()
    assert page.count("data:image/png;base64,") == 1 and "At fresh seeds" in page
    sound(where / "sweep.html")
    left, *others = sweep_figure(report).axes
    assert left.get_xlabel() == "guidance" and len(others) == 2
    assert [t.get_text() for t in left.get_xticklabels()] == ["1", "2"]
    alone = report.model_copy(update={"points": report.points[:2], "suggested": None})
    assert sweep_figure(alone).axes[0].get_xlabel() == "strength"


def test_strength_0_is_the_model_without_the_adapter(swept, tmp_path):
    where, _, _ = swept
    base, zero = read_run(where / "strength-0-guidance-1")[1], tmp_path / "zero"
    from evenhand.measure import measure

    settings = {**SMALL["settings"], "guidance_scale": 1.0}
    measure(
        Measure(**{**SMALL, "settings": settings}, adapter="emoji-gender=0"), zero, pictures=False
    )
    for a, b in zip(base, read_run(zero)[1], strict=True):
        assert a.probs == b.probs
    first = base[0].image
    assert (zero / first).read_bytes() == (where / "strength-0-guidance-1" / first).read_bytes()


def test_the_card_shows_the_sweep_of_its_own_weights_alone(swept, folder, comparison):  # noqa: F811
    where, report, _ = swept
    adapter = find_adapter(str(folder))
    put(adapter, report)
    assert sweep_of(find_adapter(str(folder))) == report and (folder / "sweep.png").is_file()
    write_card(folder, comparison)
    card = (folder / "README.md").read_text()
    (row,) = [x for x in card.splitlines() if x.startswith("| 1 | 1 | 2 |")]
    assert str(report.points[1].attributes["gender"].gap) in row.replace("\\", "")
    assert "](sweep.png)" in card and "The number to quote" in card
    measured = json.loads((folder / "adapter.json").read_text())["measured"]
    assert measured["seed"] == comparison.after.run.settings["seed"]
    put(find_adapter(str(folder)), report.model_copy(update={"adapters": {"a": "0" * 12}}))
    write_card(folder, comparison)
    assert "sweep.png" not in (folder / "README.md").read_text()


def test_several_adapters_are_measured_in_every_combination():
    one = check(Measure, {k: v for k, v in SMALL.items() if k != "settings"}, where="m")
    points = Sweep(measure=one, adapters={"a": [0, 0.5], "b": [0, 1]}, steps=[2, 4]).points()
    assert [(name, p.strengths) for name, p in points.items()][:5] == [
        ("strength-0-steps-2", {}),
        ("strength-0-1-steps-2", {"b": 1}),
        ("strength-0.5-0-steps-2", {"a": 0.5}),
        ("strength-0.5-1-steps-2", {"a": 0.5, "b": 1}),
        ("strength-0-steps-4", {}),
    ]
    assert len(points) == 8
    assert points["strength-0.5-0-steps-4"].settings == {"num_inference_steps": 4}


BAD = {
    "beyond what was trained": (["emoji-gender=2"], "emoji-gender.0: .*less than or equal to 1.5"),
    "below 0": (["emoji-gender=-1,1"], "emoji-gender.0: .*greater than or equal to 0"),
    "nothing but 0": (["emoji-gender=0"], "give a strength above 0"),
    "no number": (["emoji-gender", "--strength", "a,1"], "--strength 'a,1': write numbers"),
    "no guidance": (["emoji-gender", "--guidance", "x"], "--guidance 'x': write numbers"),
    "twice": (["emoji-gender", "emoji-gender=1"], "'emoji-gender' is given twice"),
    "a strength twice": (["emoji-gender=1,1"], "1 is given twice"),
    "half of soft tokens": (["emoji-gender-tokens=0,.5"], "soft tokens have no strength"),
    "two targets": (["emoji-gender-tone", "emoji-gender"], "different targets of gender"),
    "unknown": (["emoji-gendre"], "unknown adapter"),
    "a margin": (["emoji-gender", "--margin", "2"], "margin: .*less than or equal to 1"),
    "set and swept": (
        ["emoji-gender", "--guidance", "2", "--setting", "guidance_scale=3"],
        "given as a setting and swept",
    ),
    "features that are not there": (["emoji-gender", "--features", "clip=./none"], "clip ./none"),
    "the trainer": (["emoji-gender", "--judge", "emoji-trainer", "--steps", "1"], "trained the"),
}


@pytest.mark.parametrize("words, message", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_before_anything_is_drawn(words, message, tmp_path):
    result = CliRunner().invoke(app, ["sweep", *words, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UserError), result.output
    with pytest.raises(UserError, match=message):
        raise result.exception
    assert not list(tmp_path.rglob("*.png")) and len(str(result.exception).splitlines()) == 1


def test_an_adapter_that_says_nothing_needs_a_model_and_prompts(tmp_path):
    gender = find_adapter("emoji-gender").folder
    shutil.copytree(gender, tmp_path / "bare", ignore=shutil.ignore_patterns("adapter.json"))
    (bare,) = (a for a, _ in find_mix({str(tmp_path / "bare"): 1.0}).parts)
    for given, missing in (({}, "model"), ({"model": "emoji"}, "prompts")):
        with pytest.raises(UserError, match=f"no adapter.json that says its {missing}; name"):
            defaults_of([bare], given)
    found = defaults_of([bare], {"model": "emoji", "prompts": ["emoji-occupations"]})
    assert found["target"] == {} and found["attributes"] == []
    assert strengths_for([bare], {}) == {bare.name: [0, 0.25, 0.5, 0.75, 1]}
    values = json.loads((gender / "adapter.json").read_text())
    values["settings"]["model"] = "sd15"
    (tmp_path / "bare" / "adapter.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="adapters of different models are not loaded together"):
        defaults_of([find_adapter("emoji-tone-75-25"), find_adapter(tmp_path / "bare")], {})


def test_an_adapter_of_a_reference_set_is_swept_over_what_its_captions_may_not_name():
    made = {"model": "emoji", "held_out": "emoji-occupations", "images": {"path": "x"}}
    one = dataclasses.replace(find_adapter("emoji-gender"), described={"settings": made})
    assert defaults_of([one], {})["prompts"] == ["emoji-occupations"]


def test_the_plan_names_every_point_and_draws_nothing(tmp_path):
    words = ["emoji-gender=1", "emoji-tone-75-25=.5,1", "--steps", "1", "--explicit", "0"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["sweep", *words, "--images", "1", "--dry-run", "--out", out])
    assert result.exit_code == 0, result.output
    assert "strength-1-0.5-steps-1: 6 images" in result.output and not out.exists()
    assert "# 18 images at 3 points" in result.output
