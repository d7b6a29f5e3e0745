"""Nearness of the images of two runs, by hand and on a tiny CLIP."""

import numpy as np
import pytest
import torch

from evenhand.core.errors import UserError
from evenhand.measure import measure
from evenhand.measure.closeness import closeness
from evenhand.measure.distances import distances
from evenhand.recipes.features import Feature
from evenhand.recipes.measure import Measure
from evenhand.reports.headlines import headlines
from evenhand.reports.html import write_comparison

SMALL = Measure(
    model="emoji",
    prompts=["emoji-occupations"],
    attributes=["gender"],
    splits=["test"],
    images=4,
    explicit_images=0,
    batch=12,
    settings={"num_inference_steps": 3},
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    measure(SMALL, folder / "a")
    measure(SMALL.model_copy(update={"adapter": "emoji-gender"}), folder / "b")
    return folder


def test_a_run_is_itself(runs):
    found = closeness(runs / "a", runs / "a", [Feature(kind="classifier")])["classifier"]
    assert found.same_seed.value == pytest.approx(1, abs=1e-5)
    assert found.diversity_before == found.diversity_after and 0 < found.diversity_before.value < 1


def test_an_adapter_moves_some_images(runs):
    features = [Feature(kind="classifier"), Feature(kind="pixels")]
    near = closeness(runs / "a", runs / "b", features)
    assert 0.2 < near["classifier"].same_seed.value < 0.999 and near["classifier"].same_seed.n == 6
    report = write_comparison(runs / "a", runs / "b", runs / "c", closeness=near)
    lines = {(x.subject, x.what) for x in headlines([report.before, report.after], report.change)}
    assert ("images, in the features of pixels", "cosine to the same seed before") in lines
    assert "images, in the features of classifier" in (runs / "c" / "report.html").read_text()


def test_agreement_with_the_prompt_is_clips(runs, tiny_clip):
    from evenhand.core.records import read
    from evenhand.features.networks import Clip
    from evenhand.images.io import read_image
    from evenhand.images.tensors import to_float

    found = closeness(runs / "a", runs / "b", [Feature(kind="clip", model=tiny_clip)])["clip"]
    clip, record = Clip(tiny_clip, None), read(runs / "a" / "records.jsonl")
    by_hand = []
    for prompt in dict.fromkeys(r.prompt for r in record):
        images = to_float(
            np.stack([read_image(runs / "a" / r.image) for r in record if r.prompt == prompt])
        )
        by_hand.append(
            torch.nn.functional.cosine_similarity(clip(images), clip.texts([prompt])).mean()
        )
    assert found.prompt_before.value == pytest.approx(float(torch.stack(by_hand).mean()), abs=1e-4)
    change = found.prompt_after.value - found.prompt_before.value
    assert found.prompt_change.value == pytest.approx(change, abs=1e-5)


def test_images_that_are_gone_are_named(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "a", tmp_path / "a")
    image = next((tmp_path / "a" / "images").iterdir())
    image.unlink()
    with pytest.raises(
        UserError, match=f"{image.name}: no such file; images are compared as files"
    ):
        closeness(tmp_path / "a", runs / "b", [Feature(kind="pixels")])


def test_distance_to_reference_images(runs, tmp_path):
    near = closeness(
        runs / "a", runs / "b", [Feature(kind="classifier")], reference=runs / "a" / "images"
    )["classifier"]
    report = write_comparison(runs / "a", runs / "b", tmp_path, closeness={"classifier": near})
    assert near.fid_before.value is None  # fewer images than twice the features' width
    assert near.kid_before.low < near.kid_after.value
    assert any(
        "KID" in line.what for line in headlines([report.before, report.after], report.change)
    )
    with pytest.raises(UserError, match="no such folder"):
        closeness(
            runs / "a", runs / "b", [Feature(kind="classifier")], reference=tmp_path / "nowhere"
        )


def test_distances_tell_sets_apart_and_their_intervals_hold_zero():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 8, generator=draw), torch.randn(400, 8, generator=draw)
    same, moved = distances(a, b), distances(a + 0.5, b)
    assert same["kid"].low < 0 < same["kid"].high and moved["kid"].low > 0
    assert moved["fid"].value == pytest.approx(
        8 * 0.25, rel=0.25
    )  # between normals of one covariance: the means' distance
    with pytest.raises(UserError, match="too few"):
        distances(a[:3], b)
    assert distances(a[:15], b)["fid"].value is None  # two of one distribution would be far apart


def test_the_kernel_distance_of_alike_sets_has_no_interval_twice_too_wide():
    draw, found = torch.Generator().manual_seed(1), []
    for _ in range(12):
        a, b = torch.randn(120, 8, generator=draw), torch.randn(120, 8, generator=draw)
        found.append(distances(a, b)["kid"])
    spread = float(np.std([e.value for e in found], ddof=1))
    width = float(np.mean([e.high - e.low for e in found])) / (2 * 1.96)
    assert 0.6 * spread < width < 1.7 * spread


def test_what_stands_against_a_reference_is_said_first(runs, tmp_path):
    with pytest.raises(UserError, match="no distance is computed in pixels"):
        closeness(runs / "a", runs / "b", [Feature(kind="pixels")], reference=runs / "a" / "images")
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_bytes(b"no image")
    with (
        pytest.raises(UserError, match="none of 1 images can be read"),
        pytest.warns(UserWarning, match="left out of the reference"),
    ):
        closeness(
            runs / "a", runs / "b", [Feature(kind="classifier")], reference=tmp_path / "photographs"
        )
