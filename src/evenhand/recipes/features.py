"""The schema of networks in whose features images are compared."""

from typing import Literal

from pydantic import Field

from evenhand.core.schema import Strict


class Feature(Strict):
    """A network in whose features images are compared.

    Attributes:
        kind: `pixels`; `classifier`, the one trained against; `clip`; `dino`, DINOv2 of
            transformers.
        model: Hub name or folder; an architecture of open_clip (`ViT-H-14`) with `weights`.
        weights: of open_clip: tag (`laion2b_s32b_b79k`) or file.
        weight: of its distance in the loss.
    """

    kind: Literal["classifier", "pixels", "clip", "dino"]
    model: str | None = None
    weights: str | None = None
    weight: float = Field(default=1.0, ge=0)
