"""CLIP as a judge, without training: the cosine to descriptions of the classes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.features.networks import Clip
from evenhand.judges.hub import Classifier
from evenhand.recipes.judge import JudgeConfig


def zero_shot(config: JudgeConfig, device: str | torch.device) -> Classifier:
    """CLIP as a classifier (Radford et al., ICML 2021, section 3.1).

    Cosine to the classes' descriptions, prompt-ensembled; its features are the image embedding.
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

    def judge(images: Tensor) -> dict[str, Tensor]:
        embedding = F.normalize(clip(images), dim=-1)
        return {a: clip.scale * embedding @ d.T for a, d in directions.items()}

    return Classifier(judge, clip, clip.side, {"clip": clip.identity})
