"""The schema of the parts of `train/classify/*.yaml`. Data only."""

from typing import Annotated, Literal

from pydantic import Field

from evenhand.core.schema import Count, Seed, Strict
from evenhand.recipes.labels import Labels
from evenhand.recipes.optimisation import Optimisation


class Bias(Strict):
    """A biased part of a data set: in each class of the target one protected class prevails.

    The parts of different ratios are nested: the rarer images of a higher ratio are among those of
    a lower one. Which images are kept depends on their content and the seed, not on their order.

    Attributes:
        ratio: share of the prevailing group in its class of the target.
        images: of each split, in all; the same number of each class. When None every image of the
            prevailing groups is kept, and of the others as many as the ratio allows (From Fake to
            Real's protocol).
        prevailing: `{class of the target: class of the protected attribute}`. When None each class
            has one of its own, so that as many images as possible are of such groups (where there
            are fewer protected classes, the one that it has most often).
        splits: that are cut so.
        least: images of a group that are kept, whatever the ratio.
        seed: of the choice.
    """

    ratio: Annotated[float, Field(ge=0.5, lt=1)]
    images: Count | None = None
    prevailing: dict[str, str] | None = None
    splits: list[Literal["train", "validation", "test"]] = ["train"]
    least: Count = 1
    seed: Seed = 0


class Synthetic(Strict):
    """A set of generated images whose groups are known.

    Attributes:
        path: labelled images, as the real ones: parquet file, folder, Hub name.
        image: column that holds the images, or their files. All rows count, whatever their split.
        target: column and values of the target's classes; as of the real images when None.
        protected: the same for the protected attribute.
        images: in all, of every arm; when None as many as it takes to fill every group up to the
            largest.
    """

    path: str
    image: str = "image"
    target: Labels | None = None
    protected: Labels | None = None
    images: Count | None = None


class Objective(Strict):
    """What is made of the losses of single images.

    Attributes:
        name: `erm` (mean), `reweighting` (by 1 over the group's size), `resampling` (every group
            as often), `subg` (groups cut to the smallest), `group_dro`, `cvar` (mean of the worst
            share), `jtt` (errors of a short training count more), `lff` (a second, biased network
            says what is hard).
        step_size: of Group-DRO's weights.
        share: of the losses that CVaR averages.
        epochs: of JTT's first training.
        weight: of the images that JTT's first training gets wrong; others have 1.
        power: q of LfF's generalised cross-entropy.
    """

    name: Literal["erm", "reweighting", "resampling", "subg", "group_dro", "cvar", "jtt", "lff"] = (
        "erm"
    )
    step_size: Annotated[float, Field(gt=0)] = 0.01
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    epochs: Count = 2
    weight: Annotated[float, Field(gt=1)] = 20.0
    power: Annotated[float, Field(gt=0, le=1)] = 0.7


class Mask(Strict):
    """Which tensors AIM-Fair fine-tunes.

    Attributes:
        k: so many tensors of the least domain sensitivity, of which are taken those that are also
            among as many of the largest bias sensitivity; below 1 a share of all tensors.
        normalise: `none` (as published); `grad_rms` and `fisher` divide a tensor's scores by the
            root mean square of its gradient, of the mean over batches or of single batches;
            `weight_rms` multiplies them by that of its weights.
        choose: by the `scores`; or for comparison `random` tensors, the `complement` of the
            scores' choice, or `all`.
        match: whether random tensors have as many `parameters` together as those of the scores, or
            are as many `tensors`.
        draw: number of the random choice, so that there can be several a seed.
        batch_norm: whether the statistics of batch norms follow the synthetic images.
    """

    k: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.89
    normalise: Literal["none", "grad_rms", "weight_rms", "fisher"] = "none"
    choose: Literal["scores", "random", "complement", "all"] = "scores"
    match: Literal["parameters", "tensors"] = "parameters"
    draw: Annotated[int, Field(ge=0)] = 0
    batch_norm: Literal["update", "freeze"] = "update"


class Part(Strict):
    """A part of a training: how many passes through its images, and how weights are stepped."""

    epochs: Count
    optimisation: Optimisation = Optimisation()


class Schedule(Strict):
    """The parts of which the arms are made, by what they train on.

    Attributes:
        real: on real images, from the initial weights.
        synthetic: on balanced synthetic images, from the initial weights.
        mixed: on both at once.
        tune_real: on real images, after synthetic ones (From Fake to Real).
        tune_synthetic: on synthetic images, after real ones (AIM-Fair).
        last_layer: on real images, the last layer alone, after synthetic ones.
    """

    real: Part = Part(epochs=20)
    synthetic: Part = Part(epochs=20)
    mixed: Part = Part(epochs=10)
    tune_real: Part = Part(epochs=6, optimisation=Optimisation(learning_rate=1e-4))
    tune_synthetic: Part = Part(epochs=9, optimisation=Optimisation(learning_rate=5e-4))
    last_layer: Part = Part(epochs=6)


class Augment(Strict):
    """Random changes to training images.

    Attributes:
        flip: mirror half of them.
        shift: pixels by which they move, at most; the border is repeated.
        area: least share of the image that a random crop shows, resized to the whole; no such crop
            when None. torchvision's default is .08.
    """

    flip: bool = True
    shift: Annotated[int, Field(ge=0)] = 0
    area: Annotated[float, Field(gt=0, le=1)] | None = None


class Contrast(Strict):
    """Supervised contrastive loss beside the cross-entropy (Khosla et al., NeurIPS 2020).

    Attributes:
        weight: beside the cross-entropy, which has 1.
        temperature: divides the cosines.
        views: times that each image stands in a batch, changed anew (`augment`) each time; the
            paper has two.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.1
    views: Annotated[int, Field(ge=1, le=8)] = 2


class Refit(Strict):
    """The last layer, fitted anew on balanced validation images (DFR, Kirichenko et al. 2023).

    Attributes:
        strengths: of the l1 penalty, C of scikit-learn, from which the best is taken.
        repeats: balanced draws over which the coefficients are averaged.
    """

    strengths: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [
        1.0,
        0.3,
        0.1,
        0.03,
        0.01,
    ]
    repeats: Count = 10
