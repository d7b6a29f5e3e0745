"""Draws with an adapter as somebody would who never heard of evenhand.

    python -I stock.py request.json

A script for a fresh process in any environment: it imports nothing of evenhand, and takes diffusers
from 0.36 on. The request is an object, or a list of them:

    base             path (folder or Hub name), revision, variant, dtype (such as "float32")
    weights          path of the adapter's safetensors file; null: only the base model draws
    kind             "lora" or "soft tokens"
    beside           more soft tokens, weights and token of each; the prompts hold their names
    token            name of the soft tokens, typed in front of every prompt
    strength         of a LoRA; 1 when not given
    rows             [prompt, seed] of each image
    settings         arguments of the pipeline's call
    scheduler        name of a class of diffusers, or null; scheduler_options: its arguments
    without          true: draw the same images without the adapter as well, before it is loaded
    device           "cpu" when not given
    out              folder of the answer

The folder then holds `without-N.png`, `with-N.png` for row N, and `answer.json`:

    versions, threads, device   of what drew
    scheduler        the name of its class
    evenhand         whether a module of evenhand was imported
    unexpected       keys of the file that did not arrive in the pipeline
    zero             keys of tensors that are zero everywhere
    zero_matters     whether the images would change if these were not zero
    images           how many were drawn with the adapter
    changed          how many the adapter changed by more than 2/255; null without `without`
    largest          the largest such change of a pixel, 0 to 1
    error            null, or kind and message of what stopped it; then the rest may be missing
"""

import importlib.metadata
import json
import os
import sys
from typing import Any

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

NAME = "verified"  # of the adapter in the pipeline
CLIP_NAMES = {"clip_l": "", "clip_g": "_2"}  # soft tokens of two encoders: ending of the encoder
EQUAL = 2 / 255  # images that differ by no more count as the same


def load_base(base, scheduler=None, scheduler_options=None, device="cpu"):
    """The stock pipeline of a base model, without a safety checker, which would blacken images."""
    new = tuple(int(part) for part in diffusers.__version__.split(".")[:2]) >= (0, 42)
    pipe: Any = DiffusionPipeline.from_pretrained(
        base["path"],
        revision=base.get("revision"),
        variant=base.get("variant"),
        **{"dtype" if new else "torch_dtype": getattr(torch, base.get("dtype") or "float32")},
    )
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    if scheduler or scheduler_options:
        kind = getattr(diffusers, scheduler) if scheduler else type(pipe.scheduler)
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **(scheduler_options or {}))
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def load_lora(pipe, file, strength):
    """Loads a LoRA by the pipeline's own loader; returns the keys that did not arrive."""
    from peft import get_peft_model_state_dict

    where = {"pretrained_model_name_or_path_or_dict": os.path.dirname(os.path.abspath(file))}
    where["weight_name"] = os.path.basename(file)
    pipe.load_lora_weights(**where, adapter_name=NAME)
    pipe.set_adapters(NAME, strength)
    read = pipe.lora_state_dict(**where)  # by the loader's names, after its conversions
    read = read[0] if isinstance(read, tuple) else read
    arrived = [
        value.cpu()
        for module in adapted(pipe)
        for value in get_peft_model_state_dict(module, adapter_name=NAME).values()
    ]

    def has_arrived(value):
        same = (x for x in arrived if x.shape == value.shape)
        return any(torch.equal(x, value.cpu().to(x.dtype)) for x in same)

    strengths = (".alpha",)  # of a layer: no tensor of a network
    return [k for k, v in read.items() if not k.endswith(strengths) and not has_arrived(v)]


def load_soft_tokens(pipe, file, state, token):
    """Loads soft tokens as their card says; returns the keys that did not arrive."""
    if set(state) == set(CLIP_NAMES):
        encoders = dict(CLIP_NAMES)
        for key, ending in encoders.items():
            pipe.load_textual_inversion(
                state[key],
                token=token,
                text_encoder=getattr(pipe, f"text_encoder{ending}"),
                tokenizer=getattr(pipe, f"tokenizer{ending}"),
            )
    else:
        encoders = {next(iter(state)): ""}
        pipe.load_textual_inversion(file, token=token)
    unexpected = [key for key in state if key not in encoders]
    for key, ending in encoders.items():
        first = getattr(pipe, f"tokenizer{ending}").convert_tokens_to_ids(token)
        table = getattr(pipe, f"text_encoder{ending}").get_input_embeddings().weight.cpu()
        found = table[first : first + len(state[key])]
        if found.shape != state[key].shape or not torch.equal(found, state[key].to(found.dtype)):
            unexpected.append(key)
    return unexpected


def adapted(pipe):
    """The networks that hold the LoRA."""
    return [m for m in pipe.components.values() if NAME in getattr(m, "peft_config", {})]


def draw(pipe, rows, settings, prefix, save=None):
    """Images `[3, H, W]` in [0, 1], one at a time; `save` is the name of their files, with {}."""
    from diffusers.utils.pil_utils import numpy_to_pil

    images = []
    for i, (prompt, seed) in enumerate(rows):
        image = pipe(
            prompt=prefix + prompt,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
            **settings,
        ).images[0]
        image = image.detach().float().cpu()
        if not image.isfinite().all():
            raise FloatingPointError("the pipeline draws an image that is not finite")
        if save:
            numpy_to_pil(image.permute(1, 2, 0).numpy())[0].save(save.format(i))
        images.append(image)
    return images


def distances(before, after):
    """The largest difference of a pixel, image by image."""
    return [float((a - b).abs().max()) for a, b in zip(before, after, strict=False)]


def zero_matters(pipe, rows, settings, images):
    """Whether the first image changes when the LoRA's zero tensors are not zero.

    They may be zero in a layer that the pipeline does not use, such as the last of a text encoder
    of which it takes the last but one.
    """
    for module in adapted(pipe):
        for name, parameter in module.named_parameters():
            if f".{NAME}." in name and not parameter.any():
                parameter.data.fill_(0.1)
    return max(distances(images, draw(pipe, rows[:1], settings, ""))) > 0


def answer(request):
    """What the request asks for; images go to its folder, and `answer` holds the rest."""
    out, rows, settings = request["out"], request["rows"], request.get("settings") or {}
    device = request.get("device") or "cpu"
    yield {"device": device}
    pipe = load_base(
        request["base"], request.get("scheduler"), request.get("scheduler_options"), device
    )
    yield {"scheduler": type(pipe.scheduler).__name__}
    before = None
    if request.get("without") or not request.get("weights"):
        before = draw(pipe, rows, settings, "", os.path.join(out, "without-{}.png"))
    if not request.get("weights"):
        return
    from safetensors.torch import load_file

    state = load_file(request["weights"])
    if not state:
        raise ValueError(f"{request['weights']} holds no tensor")
    zero = [key for key, value in state.items() if not value.any() and not key.endswith(".alpha")]
    yield {"zero": zero}
    beside = []
    for other in request.get("beside") or []:
        tokens = load_file(other["weights"])
        beside += load_soft_tokens(pipe, other["weights"], tokens, other["token"])
    if request["kind"] == "lora":
        unexpected = load_lora(pipe, request["weights"], request.get("strength", 1.0))
        prefix = ""
    else:
        unexpected = load_soft_tokens(pipe, request["weights"], state, request["token"])
        prefix = request["token"] + " "
    yield {"unexpected": [*beside, *unexpected]}
    after = draw(pipe, rows, settings, prefix, os.path.join(out, "with-{}.png"))
    moved = distances(before, after) if before else None
    yield {
        "images": len(after),
        "changed": sum(x > EQUAL for x in moved) if moved else None,
        "largest": max(moved) if moved else None,
        "zero_matters": bool(zero)
        and (request["kind"] != "lora" or zero_matters(pipe, rows, settings, after)),
    }


def main(path):
    """Answers every request of a file."""
    with open(path, encoding="utf-8") as file:
        requests = json.load(file)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("torch", "diffusers", "transformers", "peft", "safetensors")
    }
    for request in requests if isinstance(requests, list) else [requests]:
        os.makedirs(request["out"], exist_ok=True)
        found = {"versions": versions, "threads": torch.get_num_threads(), "error": None}
        try:
            for part in answer(request):
                found.update(part)
        except Exception as error:
            message = " ".join(str(error).split())[:500]
            found["error"] = {"kind": type(error).__name__, "message": message}
        found["evenhand"] = any(name.split(".")[0] == "evenhand" for name in sys.modules)
        with open(os.path.join(request["out"], "answer.json"), "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
