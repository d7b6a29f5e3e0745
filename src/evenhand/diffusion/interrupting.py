"""Stopping a pipeline between two of its sampling steps."""

import inspect
from collections.abc import Callable
from typing import Any

from evenhand.diffusion.pipeline import Diffusion


def interruptible(diffusion: Diffusion, unwanted: Callable[[], bool]) -> dict[str, Any]:
    """Arguments of the pipeline's call with which it stops computing once its images are unwanted.

    The pipeline is interrupted as diffusers means it: it skips the steps that are left and decodes
    what it has, an image that nobody should use. So the caller asks `unwanted` afterwards.

    Args:
        diffusion: the pipeline.
        unwanted: asked after every step.

    Returns:
        nothing of a pipeline that cannot be interrupted (PixArt): it finishes its images.
    """
    run = type(diffusion.pipe).__call__
    known = inspect.signature(getattr(run, "__wrapped__", run)).parameters
    if "callback_on_step_end" not in known or not hasattr(type(diffusion.pipe), "interrupt"):
        return {}

    def after_step(pipe: Any, _step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if unwanted():
            pipe._interrupt = True
        return values

    return {"callback_on_step_end": after_step}
