"""CLIP as a judge, without training: the cosine to descriptions of the classes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.features.networks import Clip
from evenhand.judges.hub import Judgement
from evenhand.recipes.judge import JudgeConfig

Embed = Callable[[Tensor], Tensor]


def zero_shot(config: JudgeConfig, device: str | torch.device) -> tuple[Embed, Judgement]:
    """CLIP as a classifier (Radford et al., ICML 2021, section 3.1).

    Cosine to the classes' descriptions, prompt-ensembled.

    Returns:
        the image embedding, and a function from it to logits `{attribute: [N, K]}`.
    """
    clip = Clip(config.model, config.weights, device=device)

    def direction(texts: list[str]) -> Tensor:
        return F.normalize(
            clip.texts([template.format(x) for x in texts for template in config.templates]).mean(
                0
            ),
            dim=0,
        )

    directions = {
        a: torch.stack([direction(config.descriptions[a][c]) for c in attribute.classes])
        for a, attribute in config.known.items()
    }
    return clip, lambda embedding: {
        a: clip.scale * F.normalize(embedding, dim=-1) @ d.T for a, d in directions.items()
    }
