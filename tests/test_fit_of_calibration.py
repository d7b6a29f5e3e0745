"""A calibration corrects images of its own kind, and no others."""

import json
import sys

import numpy as np
import pytest

from evenhand.core.attributes import Attribute
from evenhand.core.files import write_json
from evenhand.core.records import Record, lines_of
from evenhand.judges.calibrate import AnswerTable
from evenhand.reports.headlines import headlines
from evenhand.reports.html import write_report
from evenhand.stats.calibration import Calibration
from evenhand.stats.confusion import Confusion
from evenhand.stats.fit_of_calibration import fit_of

GENDER = Attribute(name="gender", classes=["woman", "man"])


def answers(truth, sharpness, rng, classes=2, noise=1.5):
    """Probabilities `[N, K]` of a judge; the sharper, the surer and the more often right."""
    logits = noise * rng.normal(size=(len(truth), classes))
    logits[np.arange(len(truth)), truth] += sharpness
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def calibration(sharpness, rng, labelled=1000, classes=2, noise=1.5):
    names = [str(k) for k in range(classes)]
    table, truth = AnswerTable(names), np.repeat(np.arange(classes), labelled)
    probs = answers(truth, sharpness, rng, classes, noise)
    table.add([names[k] for k in truth], probs, np.ones(len(truth), bool))
    values = {"classifier": "x", "digest": "1", "domain": "d", "data": "d", "date": "2026-01-01"}
    attribute = Attribute(name="a", classes=names)
    return Calibration(
        **values, attributes={"a": table.counts}, probabilities={"a": table.answers()}
    ).confusion(attribute)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("sharpness, noise", [(3, 1.5), (8, 2)])
def test_the_right_calibration_is_seldom_refused_and_another_nearly_always(
    classes, sharpness, noise
):
    rng = np.random.default_rng(0)
    right, other = [], []
    for _ in range(200):
        confusion = calibration(sharpness, rng, classes=classes, noise=noise)
        truth = rng.choice(classes, 1000, p=rng.dirichlet(np.ones(classes)))
        right.append(fit_of(answers(truth, sharpness, rng, classes, noise), confusion).holds)
        blurred = answers(truth, 0.7 * sharpness, rng, classes, noise)
        other.append(fit_of(blurred, confusion).holds)
    assert np.mean(right) >= 0.95 and np.mean(other) <= 0.05


def test_it_is_alike_whatever_the_shares():
    """A lopsided folder is no other domain."""
    rng = np.random.default_rng(1)
    confusion = calibration(3, rng, labelled=3000)
    for share in (0.02, 0.5, 0.98):
        truth = (np.arange(2000) >= share * 2000).astype(int)
        assert fit_of(answers(truth, 3, rng), confusion).holds


def test_few_doubtful_images_tell_of_a_judge_that_was_sure_of_all():
    rng = np.random.default_rng(2)
    confusion = calibration(14, rng)
    assert fit_of(answers(np.zeros(20, int), 14, rng), confusion).holds
    assert not fit_of(np.full((20, 2), 0.5), confusion).holds


def test_a_remainder_that_moves_no_share_is_no_misfit():
    """Surely another domain, in 10^5 images; but by a quarter of a percent of them."""
    rng = np.random.default_rng(3)
    confusion = calibration(14, rng, labelled=10_000)
    probs = np.tile([1.0, 0.0], (100_000, 1))
    probs[:250] = 0.5
    fit = fit_of(probs, confusion)
    assert fit.z > 5 and fit.holds


def test_where_nothing_is_left_over_nothing_is_checked():
    assert fit_of(np.full((5, 2), 0.5), Confusion(np.array([[90, 10], [10, 90], [0, 0]]))) is None
    rng = np.random.default_rng(4)
    assert fit_of(np.empty((0, 2)), calibration(3, rng)) is None


def run_of(folder, sharpness, rng, known, share=0.8):
    """A run directory of 1,200 photographs, measured with the calibration `known`."""
    folder.mkdir()
    truth = (np.arange(1200) >= share * 1200).astype(int)
    probs = answers(truth, sharpness, rng)
    records = [
        Record("pictures", "pictures", "images", "all", i, "folder:pictures", f"/p/{i}.jpg",
               {"gender": dict(zip(GENDER.classes, p.round(4).tolist(), strict=True))})
        for i, p in enumerate(probs)
    ]  # fmt: skip
    (folder / "records.jsonl").write_text(lines_of(records))
    settings = {
        "images_from": "/p",
        "source": "folder:pictures",
        "prompts": {},
        "splits": [],
        "judge": {"name": "head", "digest": "1"},
        "concept": None,
        "domain": "pictures",
        "attributes": {"gender": {"classes": GENDER.classes}},
        "calibration": known,
        "target": {},
    }
    write_json(folder / "run.json", {"schema": 2, "settings": settings, "versions": {}})
    return folder


def known_of(sharpness, rng):
    """The calibration of a judge of 3,000 labelled photographs of a street, as a run holds it."""
    table, truth = AnswerTable(GENDER.classes), np.repeat([0, 1], 1500)
    probs = answers(truth, sharpness, rng)
    table.add([GENDER.classes[k] for k in truth], probs, np.ones(len(truth), bool))
    return Calibration(
        classifier="head",
        digest="1",
        domain="street",
        data="street",
        date="2026-01-01",
        attributes={"gender": table.counts},
        probabilities={"gender": table.answers()},
    ).model_dump(mode="json")


def test_a_wide_corrected_interval_is_not_hidden_behind_a_narrow_raw_one(tmp_path):
    """At even shares correcting moves nothing but the ends."""
    rng = np.random.default_rng(6)
    run = run_of(tmp_path / "run", 1, rng, known_of(1, rng), share=0.5)
    report = write_report(run)
    lines = {line.what: line.found[0] for line in headlines([report])}
    raw, better = lines["share woman, as called"], lines["share woman, corrected"]
    assert abs(raw.value - better.value) < 0.05
    assert better.high - better.low > 1.5 * (raw.high - raw.low)


def test_no_corrected_number_is_printed_where_the_calibration_does_not_hold(
    tmp_path, monkeypatch, capsys
):
    from evenhand.cli import main

    rng = np.random.default_rng(5)
    known = known_of(3, rng)
    for name, sharpness, holds in (("right", 3, True), ("other", 1.5, False)):
        run = run_of(tmp_path / name, sharpness, rng, known)
        report = write_report(run)
        found = report.attributes["gender"]
        (said,) = [note for note in report.notes if note.startswith("gender is")]
        assert found.fit.holds is holds
        page = (run / "report.html").read_text()
        monkeypatch.setattr(sys, "argv", ["evenhand", "report", str(run)])
        with pytest.raises(SystemExit):
            main()
        printed = " ".join(capsys.readouterr().out.split())
        if holds:
            woman = found.prompts[0].corrected["woman"]
            assert woman.low <= 0.8 <= woman.high and "is corrected by head's" in said
            assert "share woman, corrected" in printed and "woman, corrected" in page
            assert "the judge's accuracy 9" in printed and printed.index(
                "corrected"
            ) < printed.index("as called")
        else:
            raw = json.loads((run / "report.json").read_text())["attributes"]["gender"]
            assert raw["calibrated"] is None and raw["prompts"][0]["corrected"] is None
            assert all(s["corrected"] is None for s in raw["splits"].values())
            assert "answers otherwise than in its calibration of 2026-01-01 on street" in said
            assert "answers otherwise" in printed and "answers otherwise" in page
            assert "woman, corrected" not in page + printed
