"""Whether a pipeline can do what the settings ask for; the scheduler that they ask for."""

import inspect
from typing import Any

from evenhand.core.errors import UserError, loading, unknown
from evenhand.recipes.model import Settings

OURS = {"prompt", "generator", "output_type", "return_dict"}  # arguments that `call` gives
OURS |= {"num_images_per_prompt", "latents", "callback_on_step_end"}  # others would break it


DRIVEN = ("set_timesteps", "step", "scale_model_input")  # what pipelines call of a scheduler


def check_call(pipe: Any, settings: Settings) -> None:
    """Refuses a pipeline that draws no text, and settings that its call does not take."""
    run = type(pipe).__call__
    known = inspect.signature(getattr(run, "__wrapped__", run)).parameters
    if not {"prompt", "generator", "output_type"} <= known.keys():
        raise UserError(f"{type(pipe).__name__} is no pipeline that draws images of a text")
    if "mask_image" in known or {"image", "strength"} <= known.keys():
        raise UserError(
            f"{type(pipe).__name__} changes images that it is given: name a model that draws "
            "images of a text alone"
        )
    for name in settings.options:
        if name in OURS or name.startswith("prompt_") or name.endswith("_embeds"):
            raise UserError(f"settings.options.{name}: evenhand sets it; leave it out")
    most = getattr(pipe.scheduler.config, "num_train_timesteps", None)
    if most and (settings.num_inference_steps or 0) > most:
        raise UserError(
            f"settings.num_inference_steps: {settings.num_inference_steps} are more than the "
            f"{most} that {type(pipe.scheduler).__name__} was made for"
        )
    for name in settings.call():
        if name not in known:
            free = [x for x in known if x not in ("self", *OURS)]
            raise unknown("setting", name, free, where=type(pipe).__name__)


def scheduler_of(pipe: Any, settings: Settings) -> Any:
    """The scheduler that the settings ask for, with the configuration of the pipeline's own."""
    import diffusers
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    name, options = settings.scheduler, settings.scheduler_options
    kind: Any = getattr(diffusers, name, None) if name else type(pipe.scheduler)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise UserError(f"settings.scheduler: diffusers has no scheduler {name!r}")
    if missing := [x for x in DRIVEN if hasattr(pipe.scheduler, x) and not hasattr(kind, x)]:
        raise UserError(
            f"settings.scheduler: {type(pipe).__name__} cannot be driven by {kind.__name__}, which "
            f"has no {missing[0]}; the pipeline's own is {type(pipe.scheduler).__name__}"
        )
    known = inspect.signature(kind.__init__).parameters
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=f"scheduler {kind.__name__}")
    with loading(f"scheduler {kind.__name__}", advice="Look at settings.scheduler_options"):
        return kind.from_config(pipe.scheduler.config, **options)  # pyright: ignore[reportAttributeAccessIssue]


def check_dropped(pipe: Any, settings: Settings) -> None:
    """Refuses `eta`, which pipelines drop silently, with a scheduler that has none."""
    if "eta" in settings.options and "eta" not in inspect.signature(pipe.scheduler.step).parameters:
        raise UserError(
            f"settings.options.eta: {type(pipe.scheduler).__name__} has none; leave it out, or "
            "choose another scheduler"
        )
