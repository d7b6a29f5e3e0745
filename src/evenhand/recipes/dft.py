"""The schema of training recipes, `train/<method>/*.yaml`.

What is trained, towards what, by which losses and gradient.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evenhand.core.attributes import Target
from evenhand.core.prompts import Prompt
from evenhand.core.schema import Count, Seed, Share, Strict, load
from evenhand.recipes.features import Feature
from evenhand.recipes.lora import Lora, SoftTokens
from evenhand.recipes.optimisation import Optimisation, refuse_moved


class Alignment(Strict):
    """The distributional alignment loss (Shen et al., ICLR 2024).

    Attributes:
        together: match the images of all prompts of a step to the target together, not prompt by
            prompt.
        draws: label sets drawn from the target a step.
        confidence: an image is pushed towards a class only where the transport plan, averaged over
            its draws, gives that class at least this weight (C in the paper, which has .8 for two
            classes). One number for all attributes, or one for each by name. With many classes
            choose a lower one: an image of the too frequent class may then become any of several
            others, so no single class gets a high weight, the image gets no target, and training
            stops short of the shares asked for.
        weight: of the loss.
    """

    together: bool = False
    draws: Count = 200
    confidence: Share | dict[str, Share] = 0.8
    weight: float = Field(default=1.0, ge=0)


class Preservation(Strict):
    """Keeps an image near the base model's image of the same seed.

    Attributes:
        weight: of the loss.
        changed: factor where an image's class must change, or nothing sure is known.
        changed_face: a further factor there, on the gradient inside the face's box; 1 without face
            detection.
        features: in which networks' features nearness is measured.
        seeds: images of a prompt are drawn from this many seeds, whose reference images are kept;
            fresh ones when 0.
    """

    weight: float = Field(default=1.0, ge=0)
    changed: Share = 0.2
    changed_face: Share = 1.0
    features: list[Feature] = [Feature(kind="classifier")]
    seeds: int = Field(default=0, ge=0)


class Realism(Strict):
    """Keeps faces like real ones.

    Near their own embedding where nothing changes, else near the nearest one of a bank.

    Attributes:
        weight: of the loss; 0 leaves it out.
        network: `facenet` (InceptionResnetV1), or the training classifier's features.
        weights: of `facenet`: `vggface2`, `casia-webface` or a file.
        bank: safetensors file with `embeddings` `[M, D]` of real faces; without it only unchanged
            faces count.
        confidence: least probability of the frozen model's classes at which a face is kept as its
            own.
    """

    weight: float = Field(default=0.0, ge=0)
    network: Literal["facenet", "classifier"] = "facenet"
    weights: str = "vggface2"
    bank: str | None = None
    confidence: Share = 0.9


class Gradient(Strict):
    """How the gradient is formed from the recorded denoiser calls.

    Attributes:
        calls: calls replayed a step, drawn at random and weighted n/k; all when None.
        rescale: `exact`; `uniform`: each call's image gradient scaled to the same norm;
            `published`: times the paper code's coefficients (noise-predicting models only).
        batch: images attached at a time; all of a step when None.
        offload: keep the recorded calls in CPU memory.
        at_once: calls replayed as one batch, for as many times the memory: for devices that one
            call does not fill.
    """

    calls: Count | None = None
    rescale: Literal["exact", "uniform", "published"] = "uniform"
    batch: Count | None = None
    offload: bool = False
    at_once: Count = 1


class Dft(Strict):
    """A recipe of direct fine-tuning: `train/dft/*.yaml`.

    Attributes:
        model: base model.
        dtype: of its weights, instead of the model's own; `auto` takes what the device computes
            best.
        prompts: a prompt set, or `{prompt set: weight}`; only the train split is used.
        target: the distribution asked for; or the name of a table that gives each concept its
            own. `targets` gives prompt families another one.
        lora, soft_tokens: what is trained, one of them (LoRA on the text encoder when neither is
            given).
        steps: optimisation steps.
        prompts_per_step: neutral prompts a step, drawn without repetition until all of a set were
            drawn.
        images: images of each of these a step.
        explicit_images: images a step of prompts that say a class; their target is what they say.
        num_inference_steps: sampling steps, drawn from this list at every step.
        save_every: an adapter is also written every so many steps, into `adapters/step-N`; none
            when None.
        optimisation: how the weights follow the gradient; with `ema` the average is saved.
        runs: as many trainings, from `seed`, `seed + 1`, ..., whose average is the adapter ("model
            soup": Wortsman et al., ICML 2022). On prompts that it is not trained on, a LoRA drifts
            in part as its seed has it; the average drifts less. Its rank is the sum of theirs.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    prompts: str | Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    classifier: str
    target: Target
    targets: dict[str, Target] = {}
    lora: Lora | None = None
    soft_tokens: SoftTokens | None = None
    alignment: Alignment = Alignment()
    preservation: Preservation = Preservation()
    realism: Realism = Realism()
    gradient: Gradient = Gradient()
    explicit_images: int = Field(default=0, ge=0)
    steps: Count = 100
    prompts_per_step: Count = 1
    images: Annotated[int, Field(ge=2)] = 24
    num_inference_steps: Annotated[list[Count], Field(min_length=1)] = [20]
    optimisation: Optimisation = Optimisation()
    checkpoint_every: Count = 10
    save_every: Count | None = None
    seed: Seed = 0
    runs: Count = 1

    def target_of(self, prompt: Prompt) -> Target:
        """The distribution asked for of the images of a neutral prompt, without tables.

        Raises:
            UserError: its table lacks the prompt's concept and has no default.
        """
        return self.targets.get(prompt.family, self.target).of(prompt.concept)

    @property
    def makes(self) -> Literal["adapter"]:
        """What comes out, as its folder is called."""
        return "adapter"

    @property
    def trained(self) -> Lora | SoftTokens:
        """What is trained."""
        return self.soft_tokens or self.lora or Lora()

    _moved = model_validator(mode="before")(refuse_moved)

    @model_validator(mode="after")
    def _check(self) -> "Dft":
        if self.lora and self.soft_tokens:
            raise ValueError("a recipe trains lora or soft_tokens, not both")
        if self.soft_tokens and self.runs > 1:
            raise ValueError("runs: soft tokens of different runs have no average; set it to 1")
        asked = {a for t in (self.target, *self.targets.values()) for a in t.attributes}
        if (
            isinstance(self.alignment.confidence, dict)
            and self.alignment.confidence.keys() != asked
        ):
            raise ValueError(
                f"alignment.confidence is of {', '.join(self.alignment.confidence)}, "
                f"the targets of {', '.join(sorted(asked))}"
            )
        if 0 < self.preservation.seeds < self.images:
            raise ValueError(
                f"preservation.seeds is {self.preservation.seeds}, fewer than the {self.images} "
                "images of a step"
            )
        return self


def load_recipe(name: str, overrides: list[str] | None = None) -> Dft:
    """A recipe of direct fine-tuning by name (`dft/emoji-gender`) or path."""
    return load(Dft, "train", name, overrides)
