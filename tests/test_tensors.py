"""The borders between pixels and tensors, and batches of one shape."""

import numpy as np
import pytest
import torch

from evenhand.core.errors import UserError
from evenhand.images import tensors
from evenhand.images.tensors import in_batches, to_float, to_uint8

LEVELS = np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(1, 16, 16, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pixels_come_back_as_they_were(dtype):
    assert np.array_equal(to_uint8(to_float(LEVELS).to(dtype)), LEVELS)


def test_images_have_their_channels_first():
    assert to_float(LEVELS[:, :4])[0, 2, 3, 1].item() == pytest.approx(LEVELS[0, 3, 1, 2] / 255)


def test_values_are_rounded_to_the_nearest_level():
    levels = torch.tensor([0.4, 0.6, 254.4, 254.6]) / 255
    assert to_uint8(levels.expand(1, 3, 1, 4))[0, 0, :, 0].tolist() == [0, 1, 254, 255]


def test_values_beyond_0_to_1_are_cut_off():
    assert to_uint8(torch.tensor([-0.5, 1.5]).expand(1, 3, 1, 2))[0, 0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(value):
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 0] = value
    with pytest.raises(UserError, match="the images hold values that are not finite"):
        to_uint8(images)


def pictures(sizes, taken):
    """Numbered pictures of one row, counted when they are asked for."""
    for i, width in enumerate(sizes):
        taken.append(i)
        yield i, np.full((1, width, 3), i % 256, dtype=np.uint8)


def test_batches_hold_one_shape_each():
    batches = [(items, tuple(x.shape)) for items, x in in_batches(pictures([3, 5] * 3, []), 2)]
    assert batches == [
        ([0, 2], (2, 3, 1, 3)),
        ([1, 3], (2, 3, 1, 5)),
        ([4], (1, 3, 1, 3)),
        ([5], (1, 3, 1, 5)),
    ]


def test_items_keep_their_pixels():
    for items, images in in_batches(pictures([3, 5, 4] * 5, []), 2):
        assert (images[:, 0, 0, 0] * 255).round().tolist() == items


def test_pictures_of_many_sizes_do_not_wait_for_the_last():
    taken = []
    next(in_batches(pictures(range(1, 61), taken), 8))
    assert len(taken) == 2 * 8 + 1


def test_every_picture_of_many_sizes_comes_once():
    batches = in_batches(pictures(range(1, 61), []), 8)
    assert sorted(item for items, _ in batches for item in items) == list(range(60))


def test_bytes_that_wait_stay_below_the_budget(monkeypatch):
    monkeypatch.setattr(tensors, "WAITING_BYTES", 1000)
    sizes, taken, out, waiting = range(50, 110), [], [], []
    for items, _ in in_batches(pictures(sizes, taken), 1000):
        out += items
        waiting.append(sum(3 * sizes[i] for i in set(taken) - set(out)))
    assert len(out) == 60 and max(waiting) <= 1000 + 3 * sizes[-1]  # and the newest


def test_a_batch_of_large_pictures_is_smaller(monkeypatch):
    monkeypatch.setattr(tensors, "BATCH_BYTES", 2 * 4 * 3 * 10)  # two pictures of ten pixels
    batches = in_batches(pictures([10] * 5, []), 8)
    assert [items for items, _ in batches] == [[0, 1], [2, 3], [4]]


def test_a_picture_larger_than_a_batch_may_be_comes_alone(monkeypatch):
    monkeypatch.setattr(tensors, "BATCH_BYTES", 1)
    assert [items for items, _ in in_batches(pictures([10] * 2, []), 8)] == [[0], [1]]
