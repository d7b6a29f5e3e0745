"""The schema of networks in whose features images are compared."""

from typing import Literal

from pydantic import Field, model_validator

from evenhand.core.schema import Strict


class Feature(Strict):
    """A network in whose features images are compared.

    Attributes:
        kind: `pixels`; `classifier`, those of a judge, which the recipe names; `clip`; `dino`,
            DINOv2 of transformers.
        model: Hub name or folder; an architecture of open_clip (`ViT-H-14`) with `weights`.
        weights: of open_clip: tag (`laion2b_s32b_b79k`) or file.
        weight: of its distance in the loss.
    """

    kind: Literal["classifier", "pixels", "clip", "dino"]
    model: str | None = None
    weights: str | None = None
    weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "Feature":
        if self.model and self.kind not in ("clip", "dino"):
            raise ValueError(f"kind {self.kind} takes no model; clip and dino do")
        if self.weights and self.kind != "clip":
            raise ValueError(f"kind {self.kind} takes no weights; clip does")
        return self
