"""Adapter folders: weights that any diffusers loads, what made them, and the card.

LoRA files hold keys that old and new stacks read (`text_encoder.text_model.*`), alpha equal to the
rank and no adapter metadata: without metadata readers take alpha = rank, with it older ones fail.
Soft tokens are textual-inversion files.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evenhand.core.adapters import CLIP_NAMES, LORA, SOFT_TOKENS, describe_adapter, find_adapter
from evenhand.core.errors import UserError, loading
from evenhand.core.files import digest, whole, write_json


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
    before = describe_adapter(str(folder)) if (folder / file).is_file() else {}
    with whole(folder / file) as temporary:
        # one entry: the order of several, and so the file's digest, is another in every process
        save_file(state, temporary, metadata={"format": "pt"})
    described = {**description, "weights": file, "digest": digest(folder / file)}
    if "measured" in before and before.get("digest") == described["digest"]:
        described["measured"] = before["measured"]
    write_json(folder / "adapter.json", described)


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


def load_adapter(pipe: Any, name: str, *, scale: float = 1.0) -> tuple[str, str]:
    """Loads an adapter into a stock pipeline with its own loader.

    Returns:
        `name@digest`, for the source of records; and what must stand in front of every prompt (""
        with LoRA).

    Raises:
        UserError: not there, damaged, or not of this model.
    """
    path, prefix = find_adapter(name), ""
    if path.name == SOFT_TOKENS and scale != 1:
        raise UserError(
            f"adapter {name!r}: soft tokens have no strength; leave --adapter-scale at 1"
        )
    with loading(f"adapter {name!r}: {path}", advice=f"Is it one of {type(pipe).__name__}?"):
        if path.name == LORA:
            pipe.load_lora_weights(str(path.parent), weight_name=LORA, adapter_name="evenhand")
            pipe.set_adapters("evenhand", scale)
        else:
            prefix = _load_soft_tokens(pipe, path)
    return f"{path.parent.name}@{digest(path)}" + (f"*{scale:g}" if scale != 1 else ""), prefix


def _load_soft_tokens(pipe: Any, path: pathlib.Path) -> str:
    """Puts the tokens of a file into every text encoder.

    Returns the prefix that stands for them.
    """
    from safetensors.torch import load_file

    state, pairs = load_file(path), clip_encoders(pipe)
    token = describe_adapter(str(path.parent)).get("token", next(iter(state)))
    tensors = (
        [state[name] for name in CLIP_NAMES]
        if set(CLIP_NAMES) <= state.keys()
        else list(state.values())
    )
    if len(state) != len(pairs):
        raise UserError(
            f"{path} holds tokens for {len(state)} text encoders, {type(pipe).__name__} has "
            f"{len(pairs)}"
        )
    for (tokenizer, encoder), tokens in zip(pairs, tensors, strict=True):
        pipe.load_textual_inversion(tokens, token=token, tokenizer=tokenizer, text_encoder=encoder)
    return f"{token} "
