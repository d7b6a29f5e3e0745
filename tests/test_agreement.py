"""Two judges of the same images: how far they agree."""

import numpy as np
import pytest

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.records import Record, lines_of
from evenhand.reports.comparison import compare
from evenhand.reports.html import write_comparison
from evenhand.stats.agreement import agreement


def test_kappa_by_hand():
    """Cohen (1960) of [[45, 15], [25, 15]]: o = .6, e = .7 * .6 + .3 * .4 = .54."""
    same, kappa = agreement([[[45, 15], [25, 15]]])
    assert same.value == pytest.approx(0.6)
    assert kappa.value == pytest.approx(0.06 / 0.46)
    assert kappa.low < 0 < kappa.high


def test_the_ends():
    same, kappa = agreement([[[30, 0], [0, 20]]])
    assert (same.value, kappa.value, kappa.high) == (1, 1, 1) and 0.7 < kappa.low < 1
    _, kappa = agreement([[[0, 50], [0, 0]]])  # one says always this, the other always that
    assert kappa.value == 0 and kappa.high > 0
    _, kappa = agreement([[[50, 0], [0, 0]]])  # both always this: by chance they would agree too
    assert kappa.value is None
    assert agreement([])[0].value is None and agreement([np.zeros((2, 2))])[1].value is None


@pytest.mark.parametrize("groups", [1, 20])
def test_the_interval_covers(groups):
    truth = np.array([[0.5, 0.08], [0.12, 0.3]])
    o, e = np.trace(truth), truth.sum(1) @ truth.sum(0)
    kappa, rng, inside = (o - e) / (1 - e), np.random.default_rng(0), 0
    for _ in range(400):
        tables = rng.multinomial(400 // groups, truth.ravel(), size=groups).reshape(-1, 2, 2)
        found = agreement(tables)[1]
        inside += found.low <= kappa <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def run_of(folder, judge, called, classes=("woman", "man"), source="folder:p", calibration=None):
    folder.mkdir()
    records = [
        Record("p", "p", "images", "all", i, source, f"/p/{i}.jpg",
               {"gender": {c: 0.9 if c == (cls or classes[1]) else 0.1 for c in classes}},
               seen=bool(cls))
        for i, cls in enumerate(called)
    ]  # fmt: skip
    (folder / "records.jsonl").write_text(lines_of(records))
    settings = {
        "images_from": "/p",
        "source": source,
        "prompts": {},
        "splits": [],
        "judge": {"name": judge, "digest": judge},
        "concept": None,
        "domain": "p",
        "attributes": {"gender": {"classes": list(classes)}},
        "calibration": calibration,
        "target": {},
    }
    write_json(folder / "run.json", {"schema": 2, "settings": settings, "versions": {}})
    return folder


def test_two_judges_stand_in_one_report(tmp_path):
    a = run_of(tmp_path / "a", "heads/one/classifier", ["woman"] * 30 + ["man"] * 18 + [""] * 2)
    b = run_of(
        tmp_path / "b", "heads/two/classifier", ["woman"] * 24 + ["man"] * 24 + [""] + ["man"]
    )
    change = write_comparison(a, b, tmp_path / "both").change
    found = change.agreement["gender"]
    assert found.judges == ("one", "two") and (found.images, found.seen_by_one) == (48, 1)
    assert found.same.value == pytest.approx(42 / 48)
    page = (tmp_path / "both" / "report.html").read_text()
    assert "Cohen&#39;s kappa" in page and "by two judges" in page and ">before<" not in page


def test_no_judge_is_corrected_for_the_errors_of_the_other(tmp_path):
    known = {c: {"woman": 90 if c == "woman" else 10, "man": 10 if c == "woman" else 90}
             for c in ("woman", "man")}  # fmt: skip
    said = {"domain": "p", "data": "p", "date": "2026-01-01", "attributes": {"gender": known}}
    a = run_of(tmp_path / "a", "one", ["woman"] * 30 + ["man"] * 20)
    b = run_of(tmp_path / "b", "two", ["woman"] * 20 + ["man"] * 30,
               calibration={"classifier": "two", "digest": "two", **said})  # fmt: skip
    found = compare(a, b)
    assert found.after.attributes["gender"].prompts[0].corrected
    between = found.change.attributes["gender"].splits["all"]
    assert between.corrected is None and between.corrected_gap is None
    assert between.shares["woman"].value == pytest.approx(-0.2)


def test_what_cannot_be_compared_is_named(tmp_path):
    a = run_of(tmp_path / "a", "one", ["woman", "man"])
    other_images = run_of(tmp_path / "b", "two", ["woman", "man"], source="folder:q")
    other_classes = run_of(tmp_path / "c", "two", ["woman", "boy"], classes=("woman", "boy"))
    with pytest.raises(UserError, match="both the images .* and the judges .one, two. differ"):
        compare(a, other_images)
    with pytest.raises(UserError, match="the classes woman, man in one, woman, boy in the other"):
        compare(a, other_classes)
