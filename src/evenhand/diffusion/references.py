"""Reference images of an adapter, drawn by the model in training."""

import pathlib
from collections.abc import Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from evenhand.core.adapters import find_adapter
from evenhand.core.files import whole, write_json
from evenhand.core.prompts import Prompt
from evenhand.core.records import image_seed
from evenhand.core.references import FILE, FOLDER, IMAGES, Reference, References
from evenhand.diffusion.pipeline import Diffusion
from evenhand.images.tensors import to_uint8


def save_references(
    folder: pathlib.Path,
    diffusion: Diffusion,
    prompts: Iterable[Prompt],
    seed: int,
    machine: dict[str, Any],
) -> None:
    """Draws a few images with the model as it is, and stores them beside the weights.

    Each is drawn alone: a plain pipeline draws the same pixels.

    Args:
        folder: of the adapter, whose weights are those of the model.
        diffusion: the model.
        prompts: of which the first few are drawn.
        seed: from which those of the images are made.
        machine: what may move pixels: versions, threads, device.
    """
    rows = [
        Reference(
            prompt=prompt.text,
            seed=image_seed("reference", seed, prompt.text, 0),
            file=f"{FOLDER}/{i}.png",
        )
        for i, prompt in zip(range(IMAGES), prompts, strict=False)
    ]
    for row in rows:
        pixels = to_uint8(diffusion.sample([row.prompt], [row.seed]))[0]
        with whole(folder / row.file) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
    found = References(
        drawn_from="training",
        digest=find_adapter(folder).digest,
        images=rows,
        settings=diffusion.settings.model_dump(mode="json"),
        dtype=str(diffusion.denoiser.dtype).removeprefix("torch."),
        **machine,
    )
    write_json(folder / FILE, found.model_dump(mode="json"))


def merge_lora(pipe: Any, states: list[dict[str, Tensor]]) -> None:
    """Adds the mean change of several LoRAs of the same layers to the weights of a pipeline.

    Args:
        pipe: without a LoRA.
        states: tensors of their files: A `[r, in]` and B `[out, r]` of each layer, by
            `component.path.lora_A.weight`.
    """
    for key in states[0]:
        path, _, ending = key.rpartition(".lora_")
        if ending != "A.weight":
            continue
        component, _, place = path.partition(".")
        module = getattr(pipe, component)
        known = dict(module.named_modules())
        # files hold the level that transformers 5.6 dropped from CLIPTextModel
        layer = known.get(place) or known[place.removeprefix("text_model.")]
        change = [s[f"{path}.lora_B.weight"] @ s[f"{path}.lora_A.weight"] for s in states]
        with torch.no_grad():
            layer.weight += torch.stack(change).mean(0).to(layer.weight)
