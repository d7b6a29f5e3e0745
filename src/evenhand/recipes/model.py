"""The schema of base models, `eval/models/*.yaml`, and of how they sample."""

import math
import pathlib
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from evenhand.core.errors import UserError
from evenhand.core.resources import is_path
from evenhand.core.schema import Count, Strict, check, flat, load, merged


class Settings(Strict):
    """How the stock pipeline samples.

    None leaves the pipeline's own default; `options` are further arguments of its call.
    """

    num_inference_steps: Count | None = None
    guidance_scale: float | None = Field(default=None, ge=0)
    height: Count | None = None
    width: Count | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = {}
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if double := self.options.keys() & set(type(self).model_fields):
            raise ValueError(f"options.{min(double)}: has its own place, settings.{min(double)}")
        for place in ("options", "scheduler_options"):
            for name, value in flat(getattr(self, place)).items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"{place}.{name}: {value} is no finite number")
        if (self.height is None) != (self.width is None):
            raise ValueError("give both height and width: pipelines leave out one that is alone")
        return self

    def call(self) -> dict[str, Any]:
        """The keyword arguments of the pipeline's call."""
        named = self.model_dump(
            include={"num_inference_steps", "guidance_scale", "height", "width"}, exclude_none=True
        )
        return {**named, **self.options}


class Model(Strict):
    """A base model: `eval/models/*.yaml`.

    Attributes:
        path: folder, Hub name or `package:...`.
        revision: of a Hub name.
        dtype: of its weights.
        variant: of the files of its weights, such as `fp16` in `*.fp16.safetensors`; a folder with
            one variant alone needs none.
        settings: how it samples.
        judge: classifier that judges it when none is named.
        domain: what kind of images it draws, in words, as in calibrations.
        licence: identifier of the Hub, for the cards of adapters; `other/NAME` where it has none.
    """

    path: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    variant: str | None = None
    settings: Settings = Settings()
    judge: str | None = None
    domain: str = ""
    licence: str | None = None
    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name or self.path

    def sampling(self, changes: dict[str, Any]) -> Settings:
        """How it samples with some settings changed, group by group.

        Raises:
            UserError: unknown or impossible ones.
        """
        return check(Settings, merged(self.settings.model_dump(), changes), where="settings")


def load_model(name: str) -> Model:
    """A base model by YAML name; or a diffusers folder or Hub name, with its defaults."""
    if name.lower().endswith((".safetensors", ".ckpt", ".gguf")):
        raise UserError(
            f"model {name!r}: is a single file; make a folder of it, once, with diffusers: "
            f"StableDiffusionPipeline.from_single_file({name!r}).save_pretrained('FOLDER'), and "
            "name that folder (./FOLDER)"
        )
    yaml = name.endswith((".yaml", ".yml"))
    folder = is_path(name) and pathlib.Path(name).is_dir()
    hub = "/" in name and not yaml
    if hub and not folder and name.startswith((".", "/", "~")):
        raise UserError(f"model {name!r}: there is no such folder")
    model = Model(path=name) if folder or hub else load(Model, "eval/models", name)
    if yaml and (beside := pathlib.Path(name).parent / model.path).is_dir():
        model = model.model_copy(update={"path": str(beside.resolve())})
    model._name = name
    return model
