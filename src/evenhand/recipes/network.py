"""The schema of the network with which an image classifier begins. Data only."""

from typing import Any

from pydantic import model_validator

from evenhand.core.schema import Count, Seed, Strict


class Network(Strict):
    """What a recipe of an image classifier starts from.

    Attributes:
        path: Hub name or folder of the image classifier or backbone to start from (timm's:
            `timm/resnet18.a1_in1k`, with timm installed).
        config: of a network trained from nothing instead, `{model_type: resnet, ...}`, as
            transformers' AutoConfig takes it.
        freeze: train the last linear layer alone, on the features of the network, of which neither
            weights nor batch-norm statistics change. CLIP's too:
            OpenCLIP's weights as the Hub has them for transformers
            (`laion/CLIP-ViT-B-32-laion2B-s34B-b79K`).
        size: height and width of its input, pixels.
        seed: of its initial weights, and of all other draws.
    """

    path: str | None = None
    config: dict[str, Any] | None = None
    freeze: bool = False
    size: Count = 224
    seed: Seed = 0

    @property
    def labels(self) -> list[str]:
        """What its outputs are called."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _starts_somewhere(self) -> "Network":
        if (self.path is None) == (self.config is None):
            raise ValueError(
                "give either path (a network to start from) or config (one trained from nothing)"
            )
        if self.freeze and self.config:
            raise ValueError("freeze keeps a trained network as it is: name one with path")
        return self
