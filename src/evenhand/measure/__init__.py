"""Measuring: whom do these images show? Images of a generator, or images made elsewhere."""

import os
from collections.abc import Callable
from typing import Any

from evenhand.measure.folder import measure_images, plan_images
from evenhand.measure.generator import cost, measure_generator, plan
from evenhand.recipes.measure import Measure

__all__ = ["measure", "plan", "plan_images", "cost"]


def measure(
    config: Measure,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int], None] | None = None,
    judge_may_be_trainer: bool = False,
) -> dict[str, Any]:
    """Measures into a run directory and returns the report.

    Args:
        config: what to measure.
        folder: run directory; a run of the same settings in it is continued.
        progress: called with (images done, images in all).
        judge_may_be_trainer: judge even an adapter that was trained against the judge.

    Raises:
        UserError: bad settings, another run's folder, or a judge that trained the adapter.
    """
    if config.images_from:
        return measure_images(config, folder, progress=progress)
    return measure_generator(
        config, folder, progress=progress, judge_may_be_trainer=judge_may_be_trainer
    )
