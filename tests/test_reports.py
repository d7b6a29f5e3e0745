"""Reports of records written by hand: what counts, what is said, what is never embedded."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from evenhand.core.attributes import Attribute, Target, intersection
from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.records import Record, write_records
from evenhand.reports.changes import Comparison
from evenhand.reports.comparison import compare
from evenhand.reports.headlines import headlines
from evenhand.reports.html import write_comparison, write_report
from evenhand.reports.models import Report
from evenhand.reports.report import build
from evenhand.reports.tally import splits_of
from evenhand.stats.shares import Estimate

CLASSES = ["woman", "man"]
SETTINGS = {
    "model": "somewhere/model",
    "source": "somewhere/model@1",
    "prompts": {"mine": 1},
    "splits": [],
    "images": 2,
    "explicit_images": 1,
    "seed": 0,
    "settings": {},
    "judge": {"name": "someone", "digest": "0123"},
    "concept": None,
    "attributes": {"gender": {"classes": CLASSES}},
    "calibration": None,
    "target": {},
}


def record(prompt="a nurse", seed=0, cls="woman", **changes):
    """An image that is perceived as a class, with nine in ten of the judge's probability."""
    classes = changes.pop("classes", CLASSES)
    probs = {c: 0.9 if c == cls else 0.1 / (len(classes) - 1) for c in classes}
    given = {"concept": prompt, "family": "f", "split": "test", **changes}
    image = given.pop("image", f"images/{seed}.png")
    return Record(
        prompt=prompt, seed=seed, source="s", image=image, probs={"gender": probs}, **given
    )


def run_of(folder, records, **settings):
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"settings": {**SETTINGS, **settings}, "versions": {}})
    write_records(folder, records)
    return folder


def built(records, **settings) -> Report:
    return build(({"settings": {**SETTINGS, **settings}}, records))


def test_the_file_holds_the_report(tmp_path):
    run = run_of(tmp_path / "run", [record(seed=i, cls=CLASSES[i % 2]) for i in range(5)])
    report = write_report(run)
    assert report.attributes["gender"].prompts[0].shares["woman"].value == 0.6
    assert Report.model_validate_json((run / "report.json").read_text()) == report
    result = write_comparison(run, run, tmp_path / "out")
    assert Comparison.model_validate_json((tmp_path / "out" / "report.json").read_text()) == result


def test_a_number_that_is_none_is_refused():
    report = built([record()])
    with pytest.raises(ValidationError, match="not finite"):
        Report.model_validate(
            {**report.model_dump(), "flagged": {"test": Estimate(float("nan"), None, None, 1)}}
        )
    with pytest.raises(ValidationError, match="fidelity"):
        Report.model_validate({**report.model_dump(), "fidelity": 1})


def test_a_record_that_stands_twice_counts_once():
    once = [record(seed=0), record(seed=1, cls="man")]
    assert built([*once, *once]) == built(once)


def test_two_different_records_of_one_image_are_refused():
    with pytest.raises(UserError, match="'a nurse' with seed 0 stands twice"):
        built([record(cls="woman"), record(cls="man")])


@pytest.mark.parametrize(
    "groups",
    [
        [("f", "all"), ("f", "test")],
        [("a, b", "c"), ("a", "b, c")],
        [("f", "all"), ("f", "split 'all'")],
    ],
)
def test_a_split_may_have_any_name(groups):
    rows = [record(seed=i, family=f, split=s) for i, (f, s) in enumerate(groups)]
    found = splits_of(rows)
    assert list(found)[0] == "all" and found.pop("all") == rows
    assert list(found.values()) == [[row] for row in rows]


def test_prompts_that_all_say_a_class_are_reported_as_that(tmp_path):
    rows = [record(seed=i, cls=c, states={"gender": "woman"}) for i, c in enumerate(CLASSES)]
    report = write_report(run_of(tmp_path / "run", rows))
    entry = report.attributes["gender"]
    assert not entry.splits and entry.explicit and entry.explicit.all.value == 0.5
    assert any(note.startswith("Every prompt says a class") for note in report.notes)
    assert "Every prompt says a class" in (tmp_path / "run" / "report.html").read_text()


def test_no_record_is_reported_as_that(tmp_path):
    report = write_report(run_of(tmp_path / "run", []))
    assert report.images == 0 and "No image was judged: there is nothing to report." in report.notes


def test_classes_that_nobody_knows_are_counted_and_named():
    said = [{"gender": "female"}, {"gender": "female"}, {"age": "old"}]
    report = built([record(), *(record("x", i, states=s) for i, s in enumerate(said))])
    unknown, other = report.notes[-2:]
    assert "2 images of prompts that say gender 'female'" in unknown and "woman, man" in unknown
    assert "1 images of prompts that say age 'old'" in other and "not measured" in other


def test_a_joint_target_may_name_its_attributes_in_any_order():
    known = {
        "gender": Attribute(name="gender", classes=CLASSES),
        "tone": Attribute(name="tone", classes=["light", "medium", "dark"]),
    }
    table = {"light/woman": 0.1, "medium/man": 0.2, "dark/woman": 0.3, "dark/man": 0.4}
    target = Target(joint=table, joint_of=["tone", "gender"])
    joint = intersection([known["gender"], known["tone"]])
    found = dict(zip(joint.classes, target.marginal(joint, known) or [], strict=True))
    assert found == {
        "woman/light": 0.1,
        "woman/medium": 0.0,
        "woman/dark": 0.3,
        "man/light": 0.0,
        "man/medium": 0.2,
        "man/dark": 0.4,
    }


def test_runs_that_describe_their_prompts_otherwise_are_compared(tmp_path):
    before = [
        record(p, i, family="old", split="train") for p in ("a nurse", "a cook") for i in (0, 1)
    ]
    after = [
        record(p, i, cls="man", family="new", split="test" if p == "a nurse" else "other")
        for p in ("a nurse", "a cook")
        for i in (0, 1)
    ]
    runs = [run_of(tmp_path / name, rows) for name, rows in (("a", before), ("b", after))]
    result = write_comparison(*runs, tmp_path / "out")
    assert list(result.before.attributes["gender"].splits) == ["all", "test", "other"]
    assert result.before.attributes["gender"].splits["test"].shares["woman"].value == 1
    assert result.change.attributes["gender"].splits["other"].gap.value == 0
    said = " ".join(result.change.notes)
    assert "another family" in said and "another split" in said and "'train' for 'test'" in said


def test_images_that_one_run_takes_for_explicit_are_left_out(tmp_path):
    before = [record(seed=0), record("a woman cook", 1, states={"gender": "woman"})]
    after = [record(seed=0), record("a woman cook", 1), record(seed=2)]
    runs = [run_of(tmp_path / name, rows) for name, rows in (("a", before), ("b", after))]
    result = compare(*runs)
    assert result.before.images == result.after.images == result.change.images == 1
    assert result.change.attributes["gender"].explicit is None
    assert [re.findall(r"\d+ images", note) for note in result.change.notes] == [
        ["0 images"],
        ["1 images"],
    ]
    only = run_of(tmp_path / "c", before[1:])
    with pytest.raises(UserError, match="share no image.*another class in one run"):
        compare(only, runs[1])


def test_both_runs_are_held_against_the_target_of_the_second(tmp_path):
    wished = {"gender": {"woman": 0.25, "man": 0.75}}
    before = run_of(tmp_path / "a", [record(seed=i) for i in range(4)])
    after = run_of(tmp_path / "b", [record(seed=i, cls="man") for i in range(4)], target=wished)
    result = compare(before, after)
    distances = [
        r.attributes["gender"].splits["test"].distance for r in (result.before, result.after)
    ]
    assert [d and d.value for d in distances] == [0.75, 0.25]
    assert result.before.run.settings["target"] == {}
    assert any("The target is that of the second run" in note for note in result.change.notes)


HOSTILE = ["[/bold]", "$\\foo$", "_x", "a|b`c", "<script>alert(1)</script>", "[red]x"]


def test_names_are_text_whatever_signs_they_hold(tmp_path, capsys):
    from rich.console import Console

    from evenhand.cli.show import summary

    rows = [
        record(f"a {HOSTILE[i]}", i, cls=HOSTILE[i], split=f"s{HOSTILE[i]}", classes=HOSTILE)
        for i in range(len(HOSTILE))
    ]
    settings = {"attributes": {"gender": {"classes": HOSTILE}}}
    report = write_report(run_of(tmp_path / "run", rows, **settings))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page
    (plot,) = re.findall(r'aria-label="Shares.*?</svg>', page, re.DOTALL)
    for name in ("[/bold]", "$\\foo$", "_x", "[red]x"):
        assert f">{name}</text>" in plot  # in the legend
    out = io.StringIO()
    Console(file=out, width=200).print(summary([report]))
    for name in HOSTILE:
        assert f"share {name}" in out.getvalue() and f"gender, s{name}: 1" in out.getvalue()


def shown(page):
    """The images of a page, as arrays."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(x)))) for x in found]


def test_the_page_embeds_no_file_of_elsewhere(tmp_path):
    (tmp_path / "run" / "images").mkdir(parents=True)
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "run" / "images" / "0.png")
    (tmp_path / "secret").mkdir()
    secret = tmp_path / "secret" / "x.png"
    Image.new("RGB", (4, 4), "red").save(secret)
    (tmp_path / "run" / "images" / "link.png").symlink_to(secret)
    named = ["images/0.png", "../secret/x.png", str(secret), "images/link.png"]
    rows = [record(seed=i, image=image) for i, image in enumerate(named)]
    write_json(tmp_path / "run" / "run.json", {"settings": SETTINGS, "versions": {}})
    write_records(tmp_path / "run", rows)
    write_report(tmp_path / "run")
    (image,) = shown(tmp_path / "run" / "report.html")
    assert (image == [0, 0, 255]).all()


def test_images_made_elsewhere_are_shown_as_they_were_judged(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (8, 4), "red").save(folder / "turned.jpg", exif=turned)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(folder / "clear.png")
    rows = [record(seed=i, image=str(p)) for i, p in enumerate(sorted(folder.iterdir()))]
    rows.append(record(seed=9, image=f"{folder}/../run/run.json"))
    settings = {k: v for k, v in SETTINGS.items() if k not in ("model", "settings")}
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "run.json", {"settings": {**settings, "images_from": str(folder)}})
    write_records(run, rows)
    write_report(run)
    clear, upright = shown(run / "report.html")
    assert (clear == 255).all() and upright.shape == (8, 4, 3)


def test_a_judge_that_trained_the_adapter_is_named():
    assert not any("flatter" in note for note in built([record()]).notes)
    report = built([record()], judge_is_trainer=True)
    assert "someone judges an adapter that was trained against it" in report.notes[0]


def test_what_was_measured_stays_with_the_same_weights(tmp_path):
    import torch

    from evenhand.core.adapters import LORA, find_adapter
    from evenhand.diffusion.adapters import save_adapter

    def save(value):
        save_adapter(tmp_path, LORA, {"a": torch.tensor([value])}, {"recipe": "r"})
        return find_adapter(tmp_path).described

    first = save(1.0)
    write_json(tmp_path / "adapter.json", {**first, "measured": {"numbers": []}})
    for _ in range(20):  # a file of the same weights is the same file
        assert save(1.0) == {**first, "measured": {"numbers": []}}
    assert "measured" not in save(2.0)


def concepts(shares, wordings=1, each=20, seen=True):
    """`shares[i]` of the images of each wording of concept i are women."""
    return [
        record(
            f"{w} concept {i}",
            1000 * i + 100 * w + j,
            "woman" if j < s * each else "man",
            concept=str(i),
            seen=seen,
        )
        for i, s in enumerate(shares)
        for w in range(wordings)
        for j in range(each)
    ]


def split_of(records, **settings):
    return built(records, **settings).attributes["gender"].splits["test"]


def test_wordings_of_one_concept_are_not_independent_images():
    rows = [
        record(f"wording {w}", 100 * w + j, CLASSES[w % 3 == 0], concept="nurse")
        for w in range(5)
        for j in range(40)
    ]
    split = split_of(rows)
    assert split.shares["woman"].n == 5  # not 200
    assert split.shares["woman"].high - split.shares["woman"].low > 0.5
    assert "Few wordings (5)" in split.cautions[0]


def test_few_concepts_are_said_beside_the_interval():
    (said,) = split_of(concepts([1] * 6)).cautions
    assert "Few concepts (6)" in said and "makes up 39%" in said
    assert re.search(r"mean share of woman lies between 0\.5\d and 1\.00", said)
    assert not split_of(concepts([0.5] * 30)).cautions
    assert not split_of(concepts([0.5])).cautions  # one prompt speaks of itself


def test_chance_floors_are_of_what_was_seen():
    some = [*concepts([0.5] * 4), *(record("dark", i, seen=False) for i in range(20))]
    assert split_of(some).gap_floor == split_of(concepts([0.5] * 4)).gap_floor
    nothing = split_of([record(seed=i, seen=False) for i in range(3)])
    assert nothing.gap_floor is None and nothing.gap.value is None


def test_the_worst_tenth_stands_beside_what_chance_makes_of_it():
    even = split_of(concepts([0.5] * 20))
    assert even.gap_worst == 0 and 0.3 < even.gap_worst_floor < 0.6
    assert even.gap.value == 0 and even.gap.low == 0


def calibration(right=0.9, labelled=400):
    table = {
        c: {c: round(labelled * right), other: round(labelled * (1 - right))}
        for c, other in zip(CLASSES, CLASSES[::-1], strict=True)
    }
    return {
        "classifier": "someone",
        "digest": "0123",
        "domain": "d",
        "data": "d",
        "date": "2026-01-01",
        "attributes": {"gender": table},
    }


def test_gap_distance_and_changes_are_corrected_too(tmp_path):
    settings = {
        "calibration": calibration(),
        "domain": "d",
        "target": {"gender": {"woman": 0.5, "man": 0.5}},
    }
    skewed = run_of(tmp_path / "a", concepts([0.9] * 8), **settings)
    even = run_of(tmp_path / "b", concepts([0.5] * 8), **settings)
    result = compare(skewed, even)
    split = result.before.attributes["gender"].splits["test"]
    assert split.gap.value == pytest.approx(0.8, abs=0.02)
    assert split.corrected_gap.value == pytest.approx(1, abs=0.03)
    assert split.corrected_distance.value == pytest.approx(0.5, abs=0.02)
    change = result.change.attributes["gender"].splits["test"]
    assert change.shares["woman"].value == pytest.approx(-0.4)
    assert change.corrected["woman"].value == pytest.approx(-0.5)
    for corrected, raw in (
        (change.corrected_gap, change.gap),
        (change.corrected_distance, change.distance),
    ):
        assert corrected.value < raw.value - 0.03 and corrected.high < 0


def test_few_labelled_images_are_said():
    settings = {"calibration": calibration(labelled=30), "domain": "d"}
    (said,) = split_of(concepts([0.5] * 40, each=4), **settings).cautions
    assert "Few labelled images (30 of " in said


def test_a_corrected_interval_is_shown_where_only_its_ends_differ():
    settings = {"calibration": calibration(labelled=50), "domain": "d"}
    report = built(concepts([0.5] * 30), **settings)
    split = report.attributes["gender"].splits["test"]
    assert split.corrected["woman"].value == pytest.approx(split.shares["woman"].value)
    assert any(line.what == "share woman, corrected" for line in headlines([report]))


def test_means_of_prompts_that_stopped_early_are_less_extreme():
    until = {"width": 0.1, "every": 8}
    rows = concepts([1 / 8, 0.5], each=48)
    stopped, plain = (split_of(rows, **s).shares["woman"].value for s in ({"until": until}, {}))
    assert stopped > plain


def test_a_report_of_the_first_layout_is_read():
    values = built(concepts([0.2, 0.9])).model_dump()
    split = values["attributes"]["gender"]["splits"]["test"]
    for name in (
        "corrected_gap",
        "gap_found",
        "gap_worst_floor",
        "corrected_distance",
        "distance_found",
        "cautions",
    ):
        del split[name]
    split["gap_without_chance"] = {**split["gap"], "value": 0.1}
    read = Report.model_validate({**values, "schema_version": 1})
    part = read.attributes["gender"].splits["test"]
    assert part.gap.value == 0.1 and part.gap_found == split["gap"]["value"]


def test_a_note_of_one_run_says_of_which(tmp_path):
    runs = [run_of(tmp_path / name, [record(seed=i) for i in range(3)]) for name in ("a", "b")]
    result = write_comparison(*runs, tmp_path / "out").model_copy(deep=True)
    result.before.notes[:] = ["Of both.", "Of the first."]
    result.after.notes[:] = ["Of both.", "Of the second."]
    result.change.notes[:] = ["Of the change."]
    assert result.notes == [
        "Of both.",
        "Before: Of the first.",
        "After: Of the second.",
        "Of the change.",
    ]
