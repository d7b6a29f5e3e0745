"""The schema of base models, `eval/models/*.yaml`, and of how they sample."""

import math
import pathlib
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, model_validator

from evenhand.core.errors import UserError
from evenhand.core.resources import is_path
from evenhand.core.schema import Count, Strict, check, load, merged
from evenhand.core.settings import flat

WEIGHTS = (  # fields of models whose weights are here
    "revision",
    "dtype",
    "variant",
    "offload",
    "vae_tiling",
    "vae_slicing",
    "quantise",
)


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


class Quantise(Strict):
    """Weights in fewer bits, made while they are loaded (diffusers' `PipelineQuantizationConfig`).

    Attributes:
        backend: library that does it.
        options: arguments of its configuration, such as `{load_in_4bit: true}`.
        components: parts of the pipeline; all that the backend takes when empty.
    """

    backend: Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "quanto", "torchao"]
    options: Annotated[dict[str, Any], Field(min_length=1)]
    components: list[str] = []


class Endpoint(Strict):
    """A service that draws, by OpenAI's images protocol.

    Attributes:
        model: its name for the model.
        key: environment variable that holds the service's key, which is never stored.
        timeout: seconds to wait for an image.
    """

    model: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "OPENAI_API_KEY"
    timeout: Annotated[float, Field(gt=0)] = 120.0


class Model(Strict):
    """A base model: `eval/models/*.yaml`.

    Attributes:
        path: folder, Hub name or `package:...`; of an `endpoint` the address before
            `/images/generations`.
        endpoint: of a service; there are no weights here then, and nothing is trained.
        revision: of a Hub name.
        dtype: of its weights.
        variant: of the files of its weights, such as `fp16` in `*.fp16.safetensors`; a folder with
            one variant alone needs none.
        settings: how it samples.
        judge: classifier that judges it when none is named.
        domain: what kind of images it draws, in words, as in calibrations.
        licence: identifier of the Hub, for the cards of adapters; `other/NAME` where it has none.
        offload: what lies in the accelerator's memory: all (`none`), one model at a time (`model`),
            or one layer at a time (`sequential`, slow). Without an accelerator it says nothing.
        vae_tiling: decode an image in tiles; the seams may show in large ones.
        vae_slicing: decode the images of a batch one after another.
        quantise: the weights in fewer bits.
    """

    path: str
    endpoint: Endpoint | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    variant: str | None = None
    settings: Settings = Settings()
    judge: str | None = None
    domain: str = ""
    licence: str | None = None
    offload: Literal["none", "model", "sequential"] = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    quantise: Quantise | None = None
    _name: str = PrivateAttr("")

    @model_validator(mode="after")
    def _check(self) -> "Model":
        if self.endpoint is None:
            return self
        address = urlsplit(self.path)
        plain = not (address.username or address.password or address.query or address.fragment)
        if address.scheme not in ("http", "https") or not address.hostname or not plain:
            raise ValueError(
                "path: of an endpoint it is an address such as https://api.openai.com/v1, without "
                "keys and questions in it"
            )
        here = set(WEIGHTS) & self.model_fields_set
        ways = {"num_inference_steps", "guidance_scale", "scheduler", "scheduler_options"}
        if given := sorted(here | {f"settings.{x}" for x in ways & self.settings.model_fields_set}):
            raise ValueError(f"an endpoint takes no {', '.join(given)}: the service has its own")
        return self

    @property
    def saving(self) -> dict[str, Any]:
        """How memory is saved where images follow from it, JSON values; {} where it is not."""
        kept = self.model_dump(mode="json", include={"vae_tiling", "quantise"})
        return {name: value for name, value in kept.items() if value}

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name or self.path

    def sampling(self, changes: dict[str, Any]) -> Settings:
        """How it samples with some settings changed, group by group.

        Raises:
            UserError: unknown or impossible ones.
        """
        found = check(Settings, merged(self.settings.model_dump(), changes), where="settings")
        asked = {name for name, value in changes.items() if value not in (None, {})}
        if self.endpoint and (other := asked - {"height", "width", "options"}):
            raise UserError(f"settings.{min(other)}: a service has its own; see settings.options")
        return found


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
