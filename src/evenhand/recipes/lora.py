"""The schema of what is trained in a pipeline: LoRA, soft tokens, or the weights themselves."""

from typing import Annotated, Any, Literal

from pydantic import Field

from evenhand.core.adapters import Token, find_adapter
from evenhand.core.schema import Count, Strict


class Lora(Strict):
    """Which modules get LoRA; alpha is the rank, so the file loads at the strength it was trained.

    Attributes:
        part: all CLIP text encoders, the denoiser (U-Net or transformer), or both.
        rank: of every module.
        modules: names of linear layers; attention (text encoders: and MLP) when None.
        start: an adapter to begin from: LoRA of the same part, rank and modules.
    """

    part: Literal["text_encoder", "denoiser", "both"] = "text_encoder"
    rank: Count = 8
    modules: Annotated[list[str], Field(min_length=1)] | None = None
    start: str | None = None

    def settings(self) -> dict[str, Any]:
        """Its values as a run keeps them: `start` by its name and the digest of its weights.

        Raises:
            UserError: there is no such adapter.
        """
        values = self.model_dump(mode="json")
        return {**values, "start": find_adapter(self.start).source} if self.start else values


class SoftTokens(Strict):
    """Learned tokens in front of every prompt (Shen et al., ICLR 2024; 5 tokens there).

    Attributes:
        count: of tokens.
        token: their name, without blanks, which users type in front of their prompts.
    """

    count: Count = 5
    token: Token = "<evenhand>"


class Weights(Strict):
    """The model's own weights; what comes out is a model folder, not an adapter.

    Attributes:
        part: all CLIP text encoders, the denoiser (U-Net or transformer), or both.
        modules: names of layers whose weights are trained; all layers when None.
    """

    part: Literal["text_encoder", "denoiser", "both"] = "denoiser"
    modules: Annotated[list[str], Field(min_length=1)] | None = None
