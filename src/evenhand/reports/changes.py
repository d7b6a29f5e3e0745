"""What comparisons hold: the schema of `report.json` of two runs. Numbers as in `models`."""

from evenhand.core.schema import Strict
from evenhand.reports.models import ByClass, File, Measured, Report, Whole
from evenhand.reports.verdicts import Verdict


class SplitChange(Strict):
    """Paired differences, after minus before, of what `SplitReport` says under the same names.

    Distances are None without a target, corrected numbers without a calibration.
    """

    gap: Measured
    corrected_gap: Measured | None = None
    distance: Measured | None
    corrected_distance: Measured | None = None
    shares: ByClass = {}
    corrected: ByClass | None = None


class AttributeChange(Strict):
    """Paired differences of one attribute.

    Attributes:
        explicit: of the share of images that keep the class their prompt says; None without such
            prompts.
        splits: by name.
    """

    explicit: Measured | None
    splits: dict[str, SplitChange]


class Closeness(Strict):
    """Images of two runs, compared in the features of one network.

    Means over concepts, intervals for prompts like these.

    Attributes:
        same_seed: cosine of the images of one prompt and seed, -1 to 1; 1 where nothing changed.
        diversity_before: 1 - mean cosine of two images of a prompt in which the same classes are
            perceived, 0 to 2; `diversity_after` likewise.
        prompt_before: cosine of image and prompt (CLIP-T), -1 to 1, of CLIP only; `prompt_after`
            likewise, `prompt_change` their paired difference.
        kid_before: kernel distance to the reference, if there is one, times 1,000; unbiased, so it
            may be below 0; `kid_after` likewise.
        fid_before: Frechet distance to the reference, at least 0; `fid_after` likewise.
    """

    same_seed: Measured
    diversity_before: Measured
    diversity_after: Measured
    prompt_before: Measured | None = None
    prompt_after: Measured | None = None
    prompt_change: Measured | None = None
    kid_before: Measured | None = None
    kid_after: Measured | None = None
    fid_before: Measured | None = None
    fid_after: Measured | None = None


class Agreement(Strict):
    """Two judges of the same images, one attribute, every image that both saw.

    Attributes:
        judges: names of the first and the second.
        images: that both saw.
        seen_by_one: images that one of them alone saw.
        same: the share of images of which both say the same.
        kappa: Cohen's, -1 to 1: 1 always the same, 0 no more than chance.
    """

    judges: tuple[str, str]
    images: Whole
    seen_by_one: Whole
    same: Measured
    kappa: Measured


class Change(Strict):
    """What differs between two runs on the images (prompt and seed) that both have.

    Differences are after minus before, for prompts like these.

    Attributes:
        images: compared.
        notes: sentences on what was left out, and on what else was another than the adapter.
        attributes: of both runs, by name.
        concept_fidelity: by split.
        closeness: by the kind of features; empty where images were not compared.
        agreement: of two judges of the same images, by attribute; empty where the judge is one.
    """

    images: Whole
    notes: list[str]
    attributes: dict[str, AttributeChange]
    concept_fidelity: dict[str, Measured]
    closeness: dict[str, Closeness] = {}
    agreement: dict[str, Agreement] = {}


class Comparison(File):
    """Two runs on the same seeds: `report.json` of `evenhand compare`.

    Attributes:
        before: the report of the first run, on the images that both have.
        after: of the second.
        change: between them.
        accepted: the rules that it was held against, with the verdict of each.
    """

    before: Report
    after: Report
    change: Change
    accepted: list[Verdict] = []

    @property
    def notes(self) -> list[str]:
        """What a reader must know of both runs, of one of them, and of the change."""
        runs = (self.before, self.after)
        judges = [run.run.settings["judge"]["name"] for run in runs]
        labels = judges if judges[0] != judges[1] else ["Before", "After"]
        own = [
            f"{label}: {note}"
            for label, run, other in zip(labels, runs, reversed(runs), strict=True)
            for note in run.notes
            if note not in other.notes
        ]
        both = [note for note in self.before.notes if note in self.after.notes]
        return [*both, *own, *self.change.notes]
