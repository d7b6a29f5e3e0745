"""The schema of trainings on the subgroups of labelled images: `train/dreambooth/*.yaml`."""

import string
from typing import Annotated, Literal

from pydantic import Field, model_validator

from evenhand.core.adapters import Token
from evenhand.core.schema import Count, Strict
from evenhand.recipes.denoising import Captioned, DenoisingTraining
from evenhand.recipes.features import Feature
from evenhand.recipes.labels import Labels
from evenhand.recipes.optimisation import Rate

SLOT = "token"  # of captions and prompts: the word that stands for what an adapter has learned


class Clusters(Strict):
    """How the images of a group are divided by what they look like.

    Attributes:
        features: what images are compared in: `classifier` (a judge's), `clip`, `dino`, `pixels`
            (16x16 thumbnails).
        judge: whose features `classifier` takes; the model's when None.
        less: column; of each image's features the mean of those with its value is taken off, so
            that the clusters do not follow it.
        k: clusters of each group; when None as many, of 1 to `k_max`, as have the largest mean
            silhouette.
        k_max: at most, where `k` is None.
        silhouette: where no number of clusters has a larger one, a group is one cluster (Kaufman
            and Rousseeuw, 1990: at most .25 is no structure).
        floor: least images of a cluster; a smaller one joins the one whose mean is nearest.
        column: instead of all this: column that says the cluster.
    """

    features: Feature = Feature(kind="classifier")
    judge: str | None = None
    less: str | None = None
    k: Count | None = None
    k_max: Annotated[int, Field(ge=1, le=100)] = 8
    silhouette: Annotated[float, Field(ge=-1, le=1)] = 0.25
    floor: Count = 20
    column: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Clusters":
        if self.column and {"features", "less", "k", "judge"} & self.model_fields_set:
            raise ValueError("column says the clusters: leave features, judge, less and k out")
        if self.judge and self.features.kind != "classifier":
            raise ValueError(f"features of kind {self.features.kind} take no judge")
        if "weight" in self.features.model_fields_set:
            raise ValueError("features.weight: there is one kind of features, so leave it out")
        return self


class Dreambooth(DenoisingTraining):
    """Adapters of the subgroups of labelled images: `train/dreambooth/*.yaml`.

    Attributes:
        images: what is learned. The caption may hold `{token}`, the groups' names and the data's
            columns. It says what is not to be learned: what differs between the images and that
            prompts shall be free to choose.
        groups: columns whose values together tell the groups (`[gender, tone]`); or, by name, a
            column and its classes or bins: the caption then says the classes' names, and images of
            no class are left out. All images are one group when empty.
        per: what is learned by an adapter of its own: each `group`, or each `cluster` of a group;
            or `shared`: one adapter for all, and a learned token for each cluster.
        clusters: of each group; not used with `per: group`.
        token: rare word by which the captions call what is learned; None: by none, and with
            `per: shared` the names of the learned tokens are made of `evenhand`.
        token_learning_rate: of the learned tokens.
        steps: of all adapters together, which share them evenly.
    """

    images: Captioned
    groups: list[str] | dict[str, Labels] = []
    per: Literal["group", "cluster", "shared"] = "cluster"
    clusters: Clusters = Clusters()
    token: Token | None = None
    token_learning_rate: Rate = 1e-3

    @model_validator(mode="after")
    def _check(self) -> "Dreambooth":
        parts = string.Formatter().parse(self.images.caption)
        told = SLOT in [name for _, name, _, _ in parts]
        if self.weights:
            raise ValueError("weights: subgroups are learned by adapters; leave it out (lora)")
        if self.token and not told:
            raise ValueError(
                f"images.caption: {self.images.caption!r} has no slot {{{SLOT}}}, so no caption "
                f"holds the token {self.token!r}; add it, or leave the token out (token=null)"
            )
        if told and not self.token and self.per != "shared":
            raise ValueError(
                f"images.caption holds {{{SLOT}}}, and no token is given; name a rare word (token)"
            )
        if self.per == "shared" and not told:
            raise ValueError(
                f"images.caption: with per: shared only {{{SLOT}}} tells the clusters; add it"
            )
        if SLOT in self.groups:
            raise ValueError(f"groups: {SLOT!r} is the caption's slot for the token; rename it")
        if isinstance(self.groups, list) and len(set(self.groups)) < len(self.groups):
            raise ValueError(f"groups: a column stands twice in {self.groups}")
        self.refuse_prior_of(self.images)
        return self
