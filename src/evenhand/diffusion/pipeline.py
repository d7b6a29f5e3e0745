"""One stock diffusers pipeline with its sampler settings: prompts and seeds in, images out."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evenhand.core.adapters import Adapter, Mix
from evenhand.core.errors import UserError, loading
from evenhand.core.files import digest_of_folder
from evenhand.core.prompts import Row
from evenhand.core.resources import locate
from evenhand.devices import default_device
from evenhand.diffusion.adapters import load_adapters
from evenhand.diffusion.asked import check_call, check_dropped, scheduler_of
from evenhand.diffusion.safety import SafetyChecker
from evenhand.diffusion.saving import place, quantisation
from evenhand.recipes.model import Model, Settings

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

DENOISERS = ("unet", "transformer")


class Diffusion:
    """A pipeline and how it is asked to sample.

    Args:
        pipe: any diffusers text-to-image pipeline; it stays as it is, in evaluation mode, without
            progress bars.
        settings: sampler settings; None in a field leaves the pipeline's default.
        source: `base@revision[+adapter@digest]`, for the records.
        prefix: what stands in front of every prompt: the name of soft tokens and a blank.
        safety: tells of images `[N, 3, H, W]` in [0, 1] whether the model's safety checker takes
            offence; None without one.
    """

    def __init__(
        self,
        pipe: "DiffusionPipeline",
        *,
        settings: Settings,
        source: str = "",
        prefix: str = "",
        safety: Callable[[Tensor], list[bool]] | None = None,
    ) -> None:
        self.pipe: Any = pipe
        self.settings = settings
        self.source = source
        self.prefix = prefix
        self.safety = safety
        pipe.set_progress_bar_config(disable=True)
        check_call(pipe, settings)
        if settings.scheduler or settings.scheduler_options:
            self.pipe.scheduler = scheduler_of(pipe, settings)
        check_dropped(pipe, settings)
        _decode_in_float32(pipe)
        for part in self.pipe.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return getattr(self.pipe, "_execution_device", self.pipe.device)

    @property
    def missing(self) -> dict[tuple[str, int], str]:
        """A pipeline draws whatever it is asked: nothing is missing."""
        return {}

    def batch(self, rows: list[Row], **overrides: Any) -> Iterator[tuple[list[Row], Tensor]]:
        """The images of all rows, drawn together without gradients."""
        yield rows, self.sample([p.text for p, _ in rows], [s for _, s in rows], **overrides)

    @property
    def denoiser(self) -> nn.Module:
        """The network that is called at every sampling step."""
        for name in DENOISERS:
            if isinstance(getattr(self.pipe, name, None), nn.Module):
                return getattr(self.pipe, name)
        raise UserError(
            f"{type(self.pipe).__name__} has no {' or '.join(DENOISERS)}: it is no pipeline that "
            "evenhand can drive"
        )

    @contextlib.contextmanager
    def without_prefix(self) -> Iterator[None]:
        """Draws without the prefix inside."""
        prefix, self.prefix = self.prefix, ""
        try:
            yield
        finally:
            self.prefix = prefix

    def call(self, prompts: list[str], seeds: list[int], **overrides: Any) -> Tensor:
        """Runs the pipeline's undecorated call, so that the caller decides about gradients.

        Args:
            prompts: N texts.
            seeds: N seeds, one generator an image: an image does not depend on its batch.
            overrides: arguments of the pipeline's call, such as `num_inference_steps`.

        Returns:
            images `[N, 3, H, W]`, float32 in [0, 1].
        """
        run = type(self.pipe).__call__
        run = getattr(run, "__wrapped__", run)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments = {**self.settings.call(), **overrides}
        try:
            images = run(
                self.pipe,
                prompt=[self.prefix + p for p in prompts],
                generator=generators,
                output_type="pt",
                **arguments,
            ).images
        except UserError:
            raise
        except ValueError as error:  # the pipeline's own check of what it is asked
            raise UserError(
                f"{type(self.pipe).__name__} refuses its settings ({arguments}): {error}"
            ) from error
        if len(images) != len(prompts):
            raise UserError(
                f"{type(self.pipe).__name__} drew {len(images)} images of {len(prompts)} prompts "
                f"with its settings ({arguments}); it shall draw one of each"
            )
        return images.float()

    @torch.no_grad()
    def sample(self, prompts: list[str], seeds: list[int], **overrides: Any) -> Tensor:
        """`call` without gradients."""
        return self.call(prompts, seeds, **overrides)


def load_diffusion(
    model: Model,
    *,
    adapter: Adapter | Mix | None = None,
    device: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Diffusion:
    """Loads a stock pipeline, and adapters into it.

    Args:
        model: which.
        adapter: LoRA or soft tokens, or several adapters with their strengths.
        device: an accelerator where there is one, else `cpu`, when None.
        settings: changes of the model's sampler settings.

    Raises:
        UserError: the model or the adapter is not there or cannot be read.
    """
    if model.endpoint:
        raise UserError(f"model {model.name!r}: is a service; none of its weights are here")
    from diffusers.pipelines.auto_pipeline import AutoPipelineForText2Image
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    path, fewer_bits = locate(model.path), quantisation(model)
    local = pathlib.Path(path).is_dir()
    kind = DiffusionPipeline if local else AutoPipelineForText2Image
    with loading(f"model {model.path!r}", advice="Name a diffusers folder or a Hub model"):
        pipe = kind.from_pretrained(
            path,
            revision=None if local else model.revision,
            dtype=getattr(torch, model.dtype),
            variant=model.variant or (_only_variant(pathlib.Path(path)) if local else None),
            **fewer_bits,
        )
    if local and not model.path.startswith("package:"):
        model = model.model_copy(update={"path": pathlib.Path(path).resolve().name})
    safety = SafetyChecker.of(pipe)
    source = f"{model.path}@{digest_of_folder(path) if local else _commit(model)}"
    source += f"+{model.quantise.backend}" if model.quantise else ""
    if isinstance(adapter, Adapter):
        adapter = Mix(((adapter, 1.0),))
    loaded, prefix = load_adapters(pipe, adapter or Mix())
    source = "+".join(filter(None, (source, loaded)))
    place(pipe, model, torch.device(device or default_device()))
    return Diffusion(
        pipe,
        settings=model.sampling(settings or {}),
        source=source,
        prefix=prefix,
        safety=safety,
    )


def _only_variant(folder: pathlib.Path) -> str | None:
    """The variant (`fp16` in `*.fp16.safetensors`) of which alone a folder's denoiser has files."""
    files = [p for name in DENOISERS for p in (folder / name).glob("diffusion_pytorch_model*")]
    kinds = {p.name.split(".")[1] for p in files if p.suffix in (".safetensors", ".bin")}
    found = {kind.split("-")[0] for kind in kinds}  # of a part: fp16-00001-of-00002
    return found.pop() if len(found) == 1 and not found & {"safetensors", "bin"} else None


def _commit(model: Model) -> str:
    """The commit of the Hub model that was just loaded, as the local cache has it."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(model.path, "model_index.json", revision=model.revision)
    if isinstance(file, str):
        return pathlib.Path(file).parent.name
    return model.revision or "main"


def _decode_in_float32(pipe: Any) -> None:
    """Keeps the autoencoder in float32 where a pipeline would cast it back and forth.

    SDXL and its kin do so in float16, whose range their autoencoder leaves: they cast it for every
    decoding and back, which changes the weights under a graph that still needs them.
    """
    vae = getattr(pipe, "vae", None)
    if not hasattr(pipe, "upcast_vae") or vae is None or vae.dtype != torch.float16:
        return
    if vae.config.force_upcast:
        vae.to(torch.float32)
        for entrance in (vae.post_quant_conv, vae.decoder):
            if entrance is not None:
                entrance.register_forward_pre_hook(lambda _, args: (args[0].float(), *args[1:]))
