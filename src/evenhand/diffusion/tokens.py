"""Prompts that are longer than a pipeline's text encoders read."""

import inspect
from collections.abc import Iterable
from typing import Any

from evenhand.diffusion.pipeline import Diffusion

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")


def cut_short(diffusion: Diffusion, prompts: Iterable[str]) -> list[str]:
    """The prompts, once each, whose end no text encoder of the pipeline reads.

    Pipelines cut what is too long, and only log it. A prompt of which one encoder reads all (SD 3's
    T5 beside its two CLIPs) is not cut short.
    """
    pipe = diffusion.pipe
    readers = [t for name in TOKENIZERS if (t := getattr(pipe, name, None)) is not None]
    limits = [(t, limit) for t in readers if (limit := _limit(t, diffusion)) is not None]
    if not limits or len(limits) < len(readers):
        return []
    return [
        text
        for text in dict.fromkeys(prompts)
        if all(_tokens(pipe, t, diffusion.prefix + text) > limit for t, limit in limits)
    ]


def _limit(tokenizer: Any, diffusion: Diffusion) -> int | None:
    """Tokens of a prompt that a pipeline hands on; None where it is not known."""
    limit = tokenizer.model_max_length
    run = type(diffusion.pipe).__call__
    asked = inspect.signature(getattr(run, "__wrapped__", run)).parameters.get(
        "max_sequence_length"
    )
    if asked is not None and not type(tokenizer).__name__.startswith("CLIP"):
        limit = diffusion.settings.options.get("max_sequence_length", asked.default)
    return limit if isinstance(limit, int) and limit < 10**6 else None


def _tokens(pipe: Any, tokenizer: Any, text: str) -> int:
    """Tokens of a text, those of soft tokens each counted."""
    if hasattr(pipe, "maybe_convert_prompt"):
        text = pipe.maybe_convert_prompt(text, tokenizer)
    return len(tokenizer(text, truncation=False, verbose=False).input_ids)
