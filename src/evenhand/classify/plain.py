"""A plain network of convolutions: small, and quick on a processor.

It is a model of transformers with code of its own: this file is copied beside its weights, and
`AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)` loads both.
"""

from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput


class PlainConfig(PretrainedConfig):
    """`{model_type: plain_convolutions, widths: [...], strides: [...], pool: 2}`."""

    model_type = "plain_convolutions"
    widths: Any = (16, 32, 64, 64)
    strides: Any = (2, 2, 2, 1)
    pool: int = 2


class PlainNetwork(PreTrainedModel):
    """Convolutions 3 x 3, each with batch norm and ReLU; mean over pool x pool parts; linear."""

    config_class = PlainConfig
    base_model_prefix = "body"
    main_input_name = "pixel_values"

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        channels = [3, *config.widths]
        for inside, outside, stride in zip(channels, channels[1:], config.strides, strict=False):
            layers += [
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outside),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(config.pool), nn.Flatten())
        self.classifier = nn.Linear(channels[-1] * config.pool**2, config.num_labels or 0)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves torch's own initial weights as they are."""

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Normalised images `[N, 3, H, W]` -> logits `[N, K]`."""
        logits: Any = self.classifier(self.body(pixel_values))
        return ImageClassifierOutput(logits=logits)


def register() -> None:
    """Makes `model_type: plain_convolutions` known to transformers, in this process."""
    AutoConfig.register("plain_convolutions", PlainConfig, exist_ok=True)
    AutoModelForImageClassification.register(PlainConfig, PlainNetwork, exist_ok=True)
    PlainConfig.register_for_auto_class()
    PlainNetwork.register_for_auto_class("AutoModelForImageClassification")
