"""The schema of labelled data and of classifiers trained on it: `train/classifiers/*.yaml`.

Data only.
"""

from typing import Literal

from pydantic import Field, model_validator

from evenhand.core.attributes import Attribute, attributes_of
from evenhand.core.schema import Count, Share, load
from evenhand.recipes.judge import Faces, FaceSearch
from evenhand.recipes.labels import Labels
from evenhand.recipes.network import Network
from evenhand.recipes.optimisation import Optimisation, refuse_moved


class JudgeTraining(Network):
    """A recipe of `evenhand classifier train`.

    One network of transformers with the classes of all its attributes as labels.

    Attributes:
        attributes: what it learns to perceive.
        faces: train on the largest face of each image, cut out; images without one are left out.
            The judge that comes of it, and its calibration, cut out in the same way. Whole images,
            when None.
        split: column that says `train`, `validation` or `test`; the data's own splits, or a random
            80/10/10, when None.
        balance: weigh images so that every class of an attribute counts alike.
        mirror: judge an image by itself and its mirror image together, once trained: surer, for
            twice the time.
        jitter: largest shift, turn and zoom in training, as a share of the image; brightness and
            contrast vary as much.
        mixup: `a` of the Beta(a, a) by which images and labels are mixed in pairs (Zhang et al.,
            ICLR 2018); 0 mixes none.
        epochs: passes through the images; the one of the best validation accuracy is kept.
        patience: stops when the validation accuracy has not risen for so many epochs; None never
            does, since the last epochs, of the smallest rates, are often the best.
        optimisation: how the weights follow the gradient.
        dtype: bfloat16 trains under autocast; `auto` does where the device computes it well.
    """

    attributes: dict[str, Labels] = Field(min_length=1)
    faces: FaceSearch | None = None
    split: str | None = None
    balance: bool = True
    jitter: Share = 0.1
    flip: bool = True
    mirror: bool = False
    mixup: float = Field(default=0.0, ge=0)
    epochs: Count = 10
    patience: Count | None = None
    batch: Count = 64
    optimisation: Optimisation = Optimisation()
    smoothing: Share = 0.05
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    _moved = model_validator(mode="before")(refuse_moved)

    @model_validator(mode="after")
    def _check(self) -> "JudgeTraining":
        for name, labels in self.attributes.items():
            if len(labels.names) < 2:
                raise ValueError(
                    f"attributes.{name} has the class {labels.names[0]!r} alone; a judge tells two "
                    "or more apart"
                )
        return self

    @property
    def labels(self) -> list[str]:
        """The classes of all attributes."""
        return [f"{a}: {c}" for a, labels in self.attributes.items() for c in labels.names]

    @property
    def crops(self) -> Faces | None:
        """How faces are cut out in training, and in front of the judge that comes of it."""
        return Faces(**self.faces.model_dump(), size=self.size) if self.faces else None

    @property
    def known(self) -> dict[str, Attribute]:
        """The attributes by name."""
        return attributes_of({a: {"classes": x.names} for a, x in self.attributes.items()})


def load_judge_training(name: str, overrides: list[str] | None = None) -> JudgeTraining:
    """A recipe of a trained classifier by name (`classifiers/faces`) or path."""
    return load(JudgeTraining, "train", name, overrides)
