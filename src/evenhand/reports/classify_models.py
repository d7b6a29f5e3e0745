"""What a report of `evenhand classify` holds: the schema of its `report.json`."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from evenhand.core.schema import Strict
from evenhand.reports.models import Measured, Number, Whole

SCORES = (  # of a variant, in the order in which they are shown
    "worst_group",
    "balanced",
    "accuracy",
    "adjusted_accuracy",
    "equalized_odds_mean",
    "equalized_odds_max",
    "demographic_parity",
)


class MaskRow(Strict):
    """A tensor of the network, as AIM-Fair's mask sees it.

    Attributes:
        tensor: its name.
        parameters: that it holds.
        domain: how much its gradient differs between real images and synthetic ones as biased.
        bias: between synthetic images as biased and those of equal groups.
        trained: on the synthetic images.
    """

    tensor: str
    parameters: Whole
    domain: float
    bias: float
    trained: bool


class ShortcutReport(Strict):
    """How well the target is guessed from counts alone, 0 to 1; `bits` of mutual information."""

    protected: Number
    protected_and_source: Number
    bits: Number
    chance: Number
    warning: str | None


class TrainingSet(Strict):
    """The images that a variant is trained on, by group, and what these counts say."""

    real: dict[str, Whole]
    synthetic: dict[str, Whole]
    shortcut: ShortcutReport


class VariantReport(Strict):
    """A variant on the test images.

    Intervals are for other seeds and other test images alike.

    Attributes:
        arm, objective: how it was trained.
        steps: of the optimizer.
        epochs: of each part.
        images: it was trained on.
        seeds: of its trainings.
        worst_group: accuracy of the group where it is lowest, of each training by itself; the
            interval knows that it is a minimum.
        balanced: mean accuracy of the groups.
        accuracy: of all test images.
        adjusted_accuracy: of test images in the groups' proportions of the training set: what a
            test as biased as the training would say.
        equalized_odds_mean: mean of the differences in true and false positive rate.
        equalized_odds_max: the larger of both.
        demographic_parity: difference in how often a class is called.
        group_accuracy: by group.
        group_spread: standard deviation of the groups' accuracies (AIM-Fair's STD), mean of seeds.
        calibration_error: by group, mean over the trainings.
        confusion: by group, share of each class called, mean over the trainings.
        per_seed: every training's numbers.
        deviation: standard deviation over the trainings; None of one training.
        mask: of the first seed; None of other arms than AIM-Fair.
        mask_parameters: share of the trainable parameters that the mask trains, of each seed.
    """

    arm: str
    objective: str
    steps: Whole
    epochs: dict[str, Whole]
    images: TrainingSet
    seeds: list[int]
    worst_group: Measured
    balanced: Measured
    accuracy: Measured
    adjusted_accuracy: Measured
    equalized_odds_mean: Measured
    equalized_odds_max: Measured
    demographic_parity: Measured
    group_accuracy: dict[str, Measured]
    group_spread: Number
    calibration_error: dict[str, Number]
    confusion: dict[str, dict[str, Number]]
    per_seed: dict[str, list[Number]]
    deviation: dict[str, Number | None]
    mask: list[MaskRow] | None = None
    mask_parameters: list[Number] = []


class ClassifyReport(Strict):
    """`report.json` of `evenhand classify`.

    Attributes:
        settings: the recipe.
        data: the real images.
        target, protected: class names.
        groups: names, in the order of all tables.
        counts: images by split and group.
        left_out: by split, images without a class of both attributes.
        notes: sentences that a reader must know.
        variants: by name.
        reference: the variant that the others are held against.
        differences: by variant and number, less the reference's, on the same images and seeds.
        versions: of software.
    """

    model_config = ConfigDict(populate_by_name=True)
    schema_version: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["classify"] = "classify"
    settings: dict[str, Any]
    data: str
    target: list[str]
    protected: list[str]
    groups: list[str]
    counts: dict[str, dict[str, Whole]]
    left_out: dict[str, Whole]
    notes: list[str]
    variants: dict[str, VariantReport]
    reference: str
    differences: dict[str, dict[str, Measured]]
    versions: dict[str, str] = {}

    def as_json(self) -> dict[str, Any]:
        """The values of the file."""
        return self.model_dump(mode="json", by_alias=True)
