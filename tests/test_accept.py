"""Rules that a report must meet: what passes, what does not, and what is no rule."""

import json

import pytest
from test_reports import built, record, run_of
from test_sentence import images

from evenhand.cli import main
from evenhand.core.errors import UserError
from evenhand.reports.accept import verdict
from evenhand.reports.models import Report


def read_report(run):
    return Report.model_validate(json.loads((run / "report.json").read_text()))


PROMPTS = [f"a {x}" for x in ("nurse", "cook", "guard", "judge", "pilot", "farmer")]
SKEWED = [0.05, 0.95, 0.0, 0.1, 0.9, 1.0]


def test_a_rule_holds_only_where_the_whole_interval_does():
    report = built(images(SKEWED, PROMPTS))
    gap = report.attributes["gender"].splits["test"].gap
    assert verdict(f"gap.gender.upper < {gap.high + 0.01}", report).passed
    assert not verdict(f"gap.gender.upper < {(gap.value + gap.high) / 2}", report).passed
    assert verdict("gap.gender.lower > .3", report).passed
    found = verdict("attributes.gender.splits.test.gap.upper<=1", report)
    assert found.passed and found.found == pytest.approx(gap.high)
    assert verdict("shares.woman.gender.lower > .1", report).found == pytest.approx(
        report.attributes["gender"].splits["test"].shares["woman"].low
    )
    assert verdict("images >= 240", report).passed


def test_what_the_report_does_not_know_is_no_pass():
    alone = built(images([0.5], each=1))
    assert alone.attributes["gender"].splits["test"].gap.high is None
    assert not verdict("gap.gender.upper < 1", alone).passed


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("gap.gender.upper", "write a number of the report, < or >, and a number"),
        ("gap.gender.upper < many", "write a number of the report, < or >, and a number"),
        ("gap.gender.upper < nan", "write a number of the report, < or >, and a number"),
        ("gap.gender.lower < .3", "with < write .upper"),
        ("gap.gender.value > .3", "with > write .lower"),
        ("gap.gender < .3", "an interval's ends are .upper and .lower"),
        ("gap.gendre.upper < .3", "gap"),
        ("gpa.gender.upper < .3", "did you mean 'gap'"),
        ("gap.gender.tset.upper < .3", "did you mean 'test'"),
        ("shares.girl.gender.upper < .3", "girl"),
        ("gap.gender.upper.more < .3", "more"),
    ],
)
def test_what_is_no_rule_is_said(rule, message):
    with pytest.raises(UserError, match="rule") as error:
        verdict(rule, built([record(seed=i, cls=("woman", "man")[i % 2]) for i in range(8)]))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("rule", "code"), [("gap.gender.lower > .3", 0), ("images < 9", 1)])
def test_the_command_says_it_and_exits_with_1_where_a_rule_fails(
    tmp_path, monkeypatch, capsys, rule, code
):
    run = run_of(tmp_path / "run", images(SKEWED, PROMPTS, each=4))
    monkeypatch.setattr("sys.argv", ["evenhand", "report", str(run), "--accept", rule])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code or 0) == code
    said = capsys.readouterr().out
    assert f"{'NOT accepted' if code else 'accepted'}: {rule} (found: " in said
    (found,) = read_report(run).accepted
    assert found.rule == rule and found.passed == (not code)
    page = (run / "report.html").read_text()
    assert f"</code>: {'NOT met' if code else 'met'} (found: " in page


def test_a_rule_that_names_no_number_does_not_cost_the_report(tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", images(SKEWED, PROMPTS, each=4))
    rules = ["--accept", "images > 1", "--accept", "gap.colour.upper < 1"]
    monkeypatch.setattr("sys.argv", ["evenhand", "report", str(run), *rules])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and [x.rule for x in read_report(run).accepted] == ["images > 1"]


def test_a_rule_that_cannot_be_read_is_said_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    arguments = ["measure", "emoji", "--prompts", "emoji-occupations", "--accept", "gap < small"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evenhand", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and not list(tmp_path.iterdir())
    assert "write a number of the report, < or >, and a number" in capsys.readouterr().err
