"""The schema of transfer to a small balanced set of images: `train/fairtl/*.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evenhand.core.attributes import Target
from evenhand.core.schema import Count, Share, Strict
from evenhand.recipes.denoising import Captioned, DenoisingTraining
from evenhand.recipes.features import Feature

Words = dict[str, dict[str, list[str]]]  # {attribute: {class: words}}


class OwnImages(Strict):
    """Images that the frozen model draws of prompts that say a class, once.

    Attributes:
        prompts: prompt set; its `explicit` wordings say classes, its templates leave them open.
        split: of the set.
        concepts: of the split; all when empty.
        each: images of every prompt.
    """

    prompts: str
    split: str = "train"
    concepts: list[str] = []
    each: Count = 6


class Feedback(Strict):
    """What the frozen model adds to the loss on the reference images (fairTL++'s second critic).

    Attributes:
        asked: `said`: its prediction for a prompt that says a class, drawn from the target, is the
            target of the same prompt without that word, on the model's own images; `same`: its
            prediction for the reference images at their captions is mixed into their target, which
            pulls the shares back towards the model's (the literal port, a control); `gated`: as
            `same`, but only where noise is low and the class decided.
        share: of it in the loss, one minus the papers' lambda; 1 needs no reference images.
        gate: with `gated`: greatest noise, its factor in x_t over the image's.
    """

    asked: Literal["said", "same", "gated"] = "said"
    share: Annotated[float, Field(gt=0, le=1)] = 0.4
    gate: Annotated[float, Field(gt=0)] = 0.3

    @model_validator(mode="after")
    def _check(self) -> "Feedback":
        if self.share == 1 and self.asked == "same":
            raise ValueError("feedback.share is 1 with asked: same: the model would stay as it is")
        return self


class Keep(Strict):
    """Keeps what prompts that say a class mean: there the model is regressed onto itself.

    Attributes:
        attributes: that these prompts say; the target's when empty.
        weight: of the loss.
        batch: of its images a step.
    """

    attributes: list[str] = []
    weight: Annotated[float, Field(gt=0)] = 1.0
    batch: Count = 8


class Critic(Strict):
    """A critic that tells the reference images from those that the model draws now.

    The counterpart of fairTL's discriminator. In each round the model draws images of the reference
    set's captions, and a small network learns the probability d that a noised image of a caption is
    of the reference set. The model then learns its own prediction of before the round, moved along
    the gradient of log d/(1 - d). Where d is one half everywhere, nothing moves.

    Attributes:
        rounds: that share the steps of the training evenly.
        images: that the model draws in each round.
        steps: of the critic's training in each round.
        strength: of the way to the reference set that a round goes if the critic is perfect, as a
            share of log d/(1 - d).
        share: of this in the loss; the reference images' own loss has the rest.
    """

    rounds: Count = 4
    images: Annotated[int, Field(ge=10)] = 256
    steps: Count = 400
    strength: Annotated[float, Field(gt=0, le=1)] = 0.5
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class LinearProbing(Strict):
    """Training first the layers that change for the reference set and not for others, then all.

    LP-FT. A layer's score is how far it moves, relative to its weights, in a short training on the
    reference images, less the same for as many images that the model itself draws of their
    captions.

    Attributes:
        share: of the steps that train these layers alone.
        layers: share of the layers that are trained first, those with the highest score.
        steps: of each training that the score is taken from; there are two for every seed.
        seeds: so many; where the layers' order differs between them, the score is called unstable.
        scores: file that holds the scores, or gets them; when None one for each base model and
            trained part, beside the run's folder.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    layers: Annotated[float, Field(gt=0, le=1)] = 0.15
    steps: Count = 300
    seeds: Annotated[int, Field(ge=2)] = 3
    scores: str | None = None


class Importance(Strict):
    """Importance weighting (Choi et al., ICML 2020, arXiv 1910.12008): for the peers' table.

    The large biased set is trained on too, each image weighted by how much likelier it is in the
    reference set, as a logistic classifier of the two sets has it.

    Attributes:
        images: of the biased set.
        features: in which the classifier sees images (`pixels`: 16x16 thumbnails).
        judge: whose features these are, with `kind: classifier`.
    """

    images: Captioned
    features: Feature = Feature(kind="clip")
    judge: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Importance":
        if self.features.kind == "classifier" and not self.judge:
            raise ValueError("features of kind classifier are a judge's: name it (judge)")
        return self


class FairTl(DenoisingTraining):
    """Transfer to a balanced reference set: `train/fairtl/*.yaml`.

    fairTL and fairTL++ (Teo, Abdollahzadeh, Cheung, AAAI 2023), carried over to diffusion.

    Attributes:
        images: the reference set, with captions that leave the class open; none where the frozen
            model's feedback is all that is learned.
        target: shares of the reference set's classes.
        words: by which classes are called, besides their names; no caption may hold one.
        allow: words that captions may hold nevertheless.
        judge: who reports the balance of the reference set, and whether the model follows words;
            nobody when None. Training needs none.
        held_out: prompt set whose concepts of the split `test` no caption may name.
        feedback: of the frozen model; none when None (fairTL).
        critic: instead: one that is trained anew as the model changes; none when None.
        keep: prompts that say a class keep their meaning; they lose it when None.
        own: the frozen model's images for `feedback: {asked: said}` and `keep`.
        probing: train some layers first; all from the beginning when None.
        importance: a biased set that is trained on with weights.
    """

    images: Captioned | None = None
    target: Target
    words: Words = {}
    allow: list[str] = []
    judge: str | None = None
    held_out: str | None = None
    feedback: Feedback | None = None
    critic: Critic | None = None
    keep: Keep | None = Keep()
    own: OwnImages | None = None
    probing: LinearProbing | None = None
    importance: Importance | None = None
    early: Share | None = 0.7

    @property
    def said(self) -> bool:
        """Whether the frozen model is asked for prompts that say a class."""
        return self.feedback is not None and self.feedback.asked == "said"

    @model_validator(mode="after")
    def _check(self) -> "FairTl":
        alone = self.feedback is not None and self.feedback.share == 1 and self.said
        if self.images is None and not alone:
            raise ValueError(
                "name the reference images; only feedback {asked: said, share: 1} needs none"
            )
        if alone and self.images is not None:
            raise ValueError("feedback.share is 1, so no image is looked at: leave images out")
        if self.images is None and (self.probing or self.importance):
            raise ValueError("probing and importance need reference images")
        if self.critic and (self.feedback or self.importance):
            raise ValueError("critic stands alone: leave feedback and importance out")
        if self.critic and self.critic.rounds > self.steps:
            raise ValueError(f"critic.rounds: {self.critic.rounds} share {self.steps} steps")
        if (self.said or self.keep) and self.own is None:
            raise ValueError(
                "own: name the prompts of the model's own images, which keep and feedback "
                "{asked: said} need; or set keep=null"
            )
        if self.said and (len(self.target.attributes) != 1 or self.target.by_concept):
            raise ValueError(
                "feedback {asked: said} takes a target of one attribute, the same for all concepts"
            )
        return self
