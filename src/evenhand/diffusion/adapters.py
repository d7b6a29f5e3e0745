"""Adapter folders: weights that any diffusers loads, what made them, and the card.

LoRA files hold keys that old and new stacks read (`text_encoder.text_model.*`), alpha equal to the
rank and no adapter metadata: without metadata readers take alpha = rank, with it older ones fail.
Soft tokens are textual-inversion files. Those made elsewhere come through
`evenhand.diffusion.layouts`.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evenhand.core.adapters import CLIP_NAMES, SCHEMA, Adapter, Mix, find_adapter
from evenhand.core.errors import UserError, loading
from evenhand.core.files import digest, whole, write_json
from evenhand.diffusion.layouts import lora_for, read_weights, refuse_lost

MEASURED = ("measured", "verified", "sweep", "seal")  # what `adapter.json` says of images


def clip_encoders(pipe: Any) -> list[tuple[Any, Any]]:
    """The pipeline's (tokenizer, CLIP text encoder) pairs, which its own loader gives soft tokens.

    Raises:
        UserError: it has no such loader, or a text encoder of another kind, whose tokens would stay
            without them.
    """
    names = [
        n
        for n in ("text_encoder", "text_encoder_2", "text_encoder_3")
        if getattr(pipe, n, None) is not None
    ]
    pairs = [
        (getattr(pipe, n.replace("text_encoder", "tokenizer")), getattr(pipe, n)) for n in names
    ]
    others = [
        f"{n} is a {type(encoder).__name__}"
        for n, (_, encoder) in zip(names, pairs, strict=True)
        if not type(encoder).__name__.startswith("CLIPText")
    ]
    if not hasattr(pipe, "load_textual_inversion") or others:
        reason = "; ".join(others) or "it has no load_textual_inversion"
        raise UserError(
            f"soft tokens cannot be used with {type(pipe).__name__}: {reason}. Use lora instead"
        )
    return pairs


def save_adapter(
    folder: str | os.PathLike, file: str, state: dict[str, Tensor], description: dict[str, Any]
) -> None:
    """Writes the weights and `adapter.json`.

    Where the folder holds the same weights already, what was measured of them stays.

    Args:
        folder: of the adapter.
        file: `LORA` or `SOFT_TOKENS`.
        state: the tensors of the file.
        description: how it was made: base model, recipe, classifier, target, numbers.
    """
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    before = {}
    if (folder / file).is_file():
        with contextlib.suppress(UserError):  # a damaged description is written anew
            before = find_adapter(folder).described
    with whole(folder / file) as temporary:
        # one entry: the order of several, and so the file's digest, is another in every process
        save_file(state, temporary, metadata={"format": "pt"})
    facts = {"weights": file, "digest": digest(folder / file)}
    if before.get("digest") == facts["digest"]:
        facts |= {key: before[key] for key in MEASURED if key in before}
    write_json(folder / "adapter.json", {"schema": SCHEMA, **description, **facts})


def average_lora(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The LoRA whose change of each layer is the mean of those of n LoRAs of the same layers.

    Its rank is the sum of theirs.

    Args:
        states: tensors of their files: A `[r, in]` and B `[out, r]` of each layer, whose change is
            B A.
    """
    return {
        key: (
            torch.cat([s[key] for s in states])
            if ".lora_A." in key
            else torch.cat([s[key] for s in states], dim=1) / len(states)
        )
        for key in states[0]
    }


def load_adapter(pipe: Any, adapter: Adapter, *, scale: float = 1.0) -> tuple[str, str]:
    """Loads one adapter into a stock pipeline, as `load_adapters`."""
    return load_adapters(pipe, adapter.at(scale))


def load_adapters(pipe: Any, adapters: Mix) -> tuple[str, str]:
    """Loads adapters into a stock pipeline with its own loaders.

    Returns:
        their part of the source of records; and what must stand in front of every prompt: the names
        of soft tokens, each with a blank ("" with LoRA alone, or where the prompts hold them).

    Raises:
        UserError: one of them is damaged, not of this model, loaded in part only, or has weights
            that are not finite.
    """
    soft = [adapter for adapter, _ in adapters.parts if not adapter.is_lora]
    lora = {pipe_name(adapter): strength for adapter, strength in adapters.parts if adapter.is_lora}
    prefix = ""
    for adapter, _ in adapters.parts:
        with loading(
            f"adapter {adapter.name!r}: {adapter.weights}",
            advice=f"Is it one of {type(pipe).__name__}?",
        ):
            if adapter.is_lora:
                with warnings.catch_warnings():  # of the second: there is one already
                    warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                    state = lora_for(pipe, adapter)
                    pipe.load_lora_weights(state, adapter_name=pipe_name(adapter))
                _check_loaded(pipe, adapter, state)
            else:
                prefix += _load_soft_tokens(pipe, adapter, alone=len(soft) == 1)
    if lora:
        pipe.set_adapters(list(lora), list(lora.values()))
    return adapters.source, "" if adapters.spoken else prefix


def pipe_name(adapter: Adapter) -> str:
    """What a LoRA is called in the pipeline; no two that are loaded together are called alike."""
    return f"evenhand-{adapter.digest}"


def _check_loaded(pipe: Any, adapter: Adapter, state: dict[str, Tensor]) -> None:
    """Refuses a LoRA of which not every tensor has arrived in the pipeline, or not at its strength.

    The pipeline's loader drops what it does not know with a warning at most. So what it was given
    is compared with what its networks hold now, by content.

    Raises:
        UserError: names what was not loaded, or what is not finite.
    """
    from peft import get_peft_model_state_dict

    networks = {
        name: module
        for name, module in pipe.components.items()
        if pipe_name(adapter) in getattr(module, "peft_config", {})
    }
    loaded = {
        f"{name}.{key}": value
        for name, module in networks.items()
        for key, value in get_peft_model_state_dict(module, adapter_name=pipe_name(adapter)).items()
    }
    _check_finite(loaded, adapter)
    there = Counter((value.dtype, *_content(value)) for value in loaded.values())
    dtypes = {value.dtype for value in loaded.values()}
    lost = []
    for key, value in state.items():
        here = ((dtype, *_content(value.to(dtype))) for dtype in dtypes)
        found = next((content for content in here if there[content]), None)
        if found is None:
            lost.append(key)
        else:
            there[found] -= 1
    refuse_lost(pipe, adapter, lost)
    for name, module in networks.items():
        for layer, part in module.named_modules():
            strength = getattr(part, "scaling", {}).get(pipe_name(adapter), 1.0)
            if hasattr(part, "lora_A") and not math.isclose(strength, 1.0):
                raise UserError(
                    f"adapter {adapter.name!r}: {name}.{layer} would get {strength:g} of its "
                    "trained strength in this loader; convert the file where it was made"
                )


def _content(value: Tensor) -> tuple[tuple[int, ...], bytes]:
    """What tells tensors of one type apart."""
    data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return tuple(value.shape), hashlib.sha256(data.tobytes()).digest()


def _check_finite(state: dict[str, Tensor], adapter: Adapter) -> None:
    """Refuses weights that are not finite."""
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"adapter {adapter.name!r}: {key} holds values that are not finite in "
                f"{str(value.dtype).removeprefix('torch.')}: its training diverged (lower its "
                "learning rate), or the model's dtype is too narrow for it"
            )


def _load_soft_tokens(pipe: Any, adapter: Adapter, *, alone: bool) -> str:
    """Puts the tokens of a file into every text encoder.

    The tokens are called as their maker called them; beside others, which may be called alike, by
    their digest.

    Returns the prefix that stands for them.
    """
    state, pairs = read_weights(adapter), clip_encoders(pipe)
    _check_finite(state, adapter)
    if len(state) != len(pairs):
        raise UserError(
            f"{adapter.weights} holds tokens for {len(state)} text encoders, "
            f"{type(pipe).__name__} has {len(pairs)}"
        )
    name = next(iter(state))
    if name in (*CLIP_NAMES, "*", "emb_params"):  # other software calls tokens after their file
        name = f"<{'-'.join(adapter.weights.stem.split())}>"
    token = adapter.described.get("token", name) if alone else f"<{adapter.digest}>"
    tensors = (
        [state[name] for name in CLIP_NAMES]
        if set(CLIP_NAMES) <= state.keys()
        else list(state.values())
    )
    for (tokenizer, encoder), tokens in zip(pairs, tensors, strict=True):
        pipe.load_textual_inversion(tokens, token=token, tokenizer=tokenizer, text_encoder=encoder)
    return f"{token} "
