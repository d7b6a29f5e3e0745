"""The schema of trainings on images by the denoising loss: `train/lora/*.yaml`."""

import string
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evenhand.core.resources import one_spelling
from evenhand.core.schema import Count, Seed, Share, Strict
from evenhand.recipes.lora import Lora, Weights
from evenhand.recipes.optimisation import Optimisation


class Captioned(Strict):
    """Images with captions.

    Attributes:
        path: labelled images, as `evenhand.images.labelled` reads them: parquet file, folder with a
            metadata.csv or of class folders, or Hub name.
        caption: of each image; columns of the data stand in braces: `{text}`, `a photo of a
            {label}`. Without braces it is one caption for all.
        split: the part of the data that is trained on; all of it when None.
        flip: mirror images at random. Not for text or faces that are not symmetric.
    """

    path: str
    caption: str = "{text}"
    split: str | None = None
    flip: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Captioned":
        try:
            list(string.Formatter().parse(self.caption))
        except ValueError as error:
            raise ValueError(
                f"caption: {self.caption!r} cannot be read ({error}); a brace that is no slot is "
                "written twice: {{ or }}"
            ) from error
        return self

    def settings(self) -> dict[str, Any]:
        """As a run's folder keeps them, a file of the user's in one spelling."""
        return {**self.model_dump(mode="json"), "path": one_spelling(self.path)}


class Prior(Strict):
    """Prior preservation (Ruiz et al., CVPR 2023, arXiv 2208.12242, section 3.2).

    The model goes on learning its own images of other prompts, so that it keeps them.

    Attributes:
        prompts: of these images, such as `a photo of a person`.
        images: drawn of all prompts together, once, by the model as it was.
        weight: of their loss.
    """

    prompts: Annotated[list[str], Field(min_length=1)]
    images: Count = 100
    weight: Annotated[float, Field(gt=0)] = 1.0


class DenoisingTraining(Strict):
    """What every training by the denoising loss says.

    Attributes:
        model: base model.
        dtype: of its weights, instead of the model's own; `auto` takes what the device computes
            best.
        lora: what is trained: an adapter comes out.
        weights: instead: the model's own; a model folder comes out, which any diffusers loads.
            Needs float32, and memory for the weights, their copy, and the optimizer's state.
        prior: images of the model's own that it goes on learning; none when None.
        dropout: share of the images whose caption is left empty in a step. Models that are sampled
            with guidance are asked for an empty prompt, too; it must keep its meaning.
        steps: optimisation steps.
        batch: images a step.
        at_once: images that run through the model together. They share a step of the sampling
            grid; more of them are faster, fewer see more of the grid at each step.
        num_inference_steps: of the grid on which noise is drawn; the model's own when None.
        early: share of draws from the noisier half of the grid, where the picture's layout and
            the person in it are decided; all steps are drawn alike when None.
        checkpointing: compute activations twice in place of keeping them: less memory, a third
            more time.
        optimisation: how the weights follow the gradient.
        save_every: what has been trained is also written every so many steps, into
            `adapters/step-N` (or `models/step-N`); only at the end when None.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    lora: Lora | None = None
    weights: Weights | None = None
    prior: Prior | None = None
    dropout: Share = 0.1
    steps: Count = 500
    batch: Count = 4
    at_once: Count = 4
    num_inference_steps: Count | None = None
    early: Share | None = None
    checkpointing: bool = False
    optimisation: Optimisation = Optimisation(learning_rate=1e-4)
    checkpoint_every: Count = 50
    save_every: Count | None = None
    seed: Seed = 0

    @property
    def trained(self) -> Lora | Weights:
        """What is trained; LoRA on the denoiser's attention when the recipe says nothing."""
        return self.weights or self.lora or Lora(part="denoiser")

    @property
    def makes(self) -> Literal["adapter", "model"]:
        """What comes out, as its folder is called."""
        return "model" if self.weights else "adapter"

    def refuse_prior_of(self, images: Captioned) -> None:
        """Raises ValueError where prior preservation has the prompt that the images have."""
        if self.prior and set(self.prior.prompts) == {images.caption}:
            raise ValueError(
                "prior.prompts is the caption of the images: the model would be taught to draw "
                "what it drew before and the images at once"
            )

    @model_validator(mode="after")
    def _one_is_trained(self) -> "DenoisingTraining":
        if self.lora and self.weights:
            raise ValueError("a recipe trains lora or weights, not both; set lora=null")
        return self


class LoraTraining(DenoisingTraining):
    """LoRA of a folder of images with captions: `train/lora/*.yaml`.

    Attributes:
        images: what is learned.
    """

    images: Captioned

    @model_validator(mode="after")
    def _check(self) -> "LoraTraining":
        self.refuse_prior_of(self.images)
        return self
