"""The schema of image sets, `train/generate/*.yaml`: what `evenhand generate` makes."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evenhand.core.attributes import Target
from evenhand.core.concept_targets import Shares
from evenhand.core.schema import Count, Seed, Share, Strict, check, load
from evenhand.recipes.features import Feature

Format = Literal["parquet", "imagefolder", "webdataset"]
SPLIT = r"^\w+(\.\w+)*$"  # what the library datasets takes as the name of a split


class LanguageModel(Strict):
    """Who writes the contexts: a local language model, or a service.

    Attributes:
        model: Hub name or folder for transformers, or the name that the service knows.
        url: of a service that speaks OpenAI's chat protocol, up to and with `/v1`; a local model
            without it.
        key: environment variable that holds the service's key.
        ask: what is asked for each row; names the slots of the vocabulary in braces, which hold
            what has been drawn for that row.
        tries: answers asked for, at most, until one can be used.
        timeout: seconds to wait for an answer.
        tokens: of an answer, at most.
    """

    model: str
    url: str | None = None
    key: str = "OPENAI_API_KEY"
    ask: str
    tries: Count = 5
    timeout: Annotated[float, Field(gt=0)] = 60.0
    tokens: Count = 60


class Contexts(Strict):
    """What stands in the prompts besides the classes; every row is crossed with every cell.

    Attributes:
        vocabulary: `{slot: [text, ...]}`: rows are combinations, each text as often as the others.
        file: instead: a text file with a context a line (slot `context`), or a table (CSV, JSON
            lines) whose columns are slots.
        writer: writes slot `context` of each row from what the vocabulary drew for it.
        rows: of each group; all combinations when None.
        group: slot whose texts are groups: every group has the same rows and its own quotas.
        seed: of the draw from the vocabulary.
        allow: words that the linter would refuse.
    """

    vocabulary: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    file: str | None = None
    writer: LanguageModel | None = None
    rows: Count | None = None
    group: str | None = None
    seed: Seed = 0
    allow: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> "Contexts":
        if self.file and (self.vocabulary or self.writer or self.rows):
            raise ValueError("a file holds the rows: leave vocabulary, writer and rows out")
        if self.writer and not self.vocabulary:
            raise ValueError(
                "a writer phrases what the vocabulary draws for each row: give it a vocabulary"
            )
        if self.group and self.vocabulary and self.group not in self.vocabulary:
            raise ValueError(f"group: {self.group!r} is no slot of the vocabulary")
        for slot, texts in self.vocabulary.items():
            if len(set(texts)) < len(texts):
                raise ValueError(f"vocabulary.{slot}: a text stands twice; leave one out")
        return self


class Filter(Strict):
    """Which images are taken.

    Attributes:
        confidence: least probability, by the judge, of each class that an image is taken for.
        duplicates: least distance of an image from those taken before of the same prompt, one minus
            the cosine of their features, 0 to 2; None: not looked at.
        features: in which they are compared: `pixels` (8x8 thumbnails, centred), `classifier` (the
            judge's), `clip`, `dino`.
        safety: leave out what the model's safety checker takes offence at.
        side: least pixels of an image's shorter side.
        contrast: least standard deviation of an image's pixels, 0 to .5: black and empty images
            have less.
        rejected: keep the files of images that are not taken, or only count them.
    """

    confidence: Share = 0.8
    duplicates: Annotated[float, Field(gt=0, le=2)] | None = 0.005
    features: Feature = Feature(kind="pixels")
    safety: bool = True
    side: Count = 1
    contrast: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    rejected: Literal["keep", "count"] = "count"


class AdapterUse(Strict):
    """An adapter that draws some of the images.

    Attributes:
        name: of one that ships, or a folder; or the folder of a set of adapters, each of which
            draws the group that it learned.
        scale: its strength.
        draws: classes that it is asked for, `{gender: woman}`; none where the judge decides. Of a
            set, only the members of these classes draw.
        alpha: of a set: members of one group draw in proportion to (images learned)^alpha; 1 as in
            the data, 0 all alike.
    """

    name: str
    scale: Annotated[float, Field(ge=0, le=1)] = 1.0
    draws: dict[str, str] = {}
    alpha: Share = 0.5


class Generate(Strict):
    """An image set: `train/generate/*.yaml`.

    Attributes:
        model: the generator; or `from_images`, a folder of images made elsewhere.
        table: of `from_images`: files and prompts, CSV or JSONL.
        judge: who decides what an image shows; the model's when None.
        cells: `{attribute: [class, ...]}`: every combination is a cell; all the judge's classes
            where the list is empty.
        per_cell: images of each cell in each group of contexts: a number, or `{"woman/dark": n}`.
        images: instead: of the whole set, shared out by `shares` or `joint`, or evenly.
        shares: `{attribute: {class: share}}`, each sums to 1; or `{attribute: table}`, by name,
            a table of targets by concept: each group of contexts is a concept.
        joint: `{"woman/dark": share}`, sums to 1.
        prompt: template: `{attribute}` is filled with the words of the cell, other slots by the
            context, `{a}` with the article, `{token}` with the word by which the adapters of a set
            are called.
        wording: `{attribute: {class: words}}`, affirmative.
        neutral: `{attribute: words}` that leave the class open; nothing where one is not named.
        synonyms: `{attribute: {class: [word, ...]}}` that no context may hold either.
        cells_by: `words`: prompts say the cell; `adapters`: prompts are neutral, and each image is
            drawn by one of the adapters; `neutral`: the judge alone decides which cell an image is
            of.
        adapters: with `words` and `neutral` one at most, or several that name what they draw.
        budget: images drawn, at most; four times those wished for when None.
        splits: `{name: share}`; all images of a context are in one split. Names are letters,
            digits and `_`, in parts joined by single dots, as the library datasets takes them.
        out: formats.
        settings: changes of the model's sampler.
        calibration: file of the judge's errors; the one beside the judge when None.
    """

    model: str | None = None
    from_images: str | None = None
    table: str | None = None
    judge: str | None = None
    cells: Annotated[dict[str, list[str]], Field(min_length=1)]
    per_cell: Annotated[int, Field(ge=0)] | dict[str, Annotated[int, Field(ge=0)]] | None = None
    images: Count | None = None
    shares: Shares = {}
    joint: dict[str, float] = {}
    prompt: str = "{context}"
    contexts: Contexts = Contexts()
    wording: dict[str, dict[str, str]] = {}
    neutral: dict[str, str] = {}
    synonyms: dict[str, dict[str, list[str]]] = {}
    cells_by: Literal["words", "adapters", "neutral"] = "words"
    adapters: list[AdapterUse] = []
    filter: Filter = Filter()
    budget: Count | None = None
    splits: Annotated[dict[Annotated[str, Field(pattern=SPLIT)], float], Field(min_length=1)] = {
        "train": 1.0
    }
    out: Annotated[list[Format], Field(min_length=1)] = ["parquet"]
    settings: dict[str, Any] = {}
    calibration: str | None = None
    seed: Seed = 0
    batch: Count = 16

    @property
    def target(self) -> Target | None:
        """The distribution asked for; None where it is even, or a table of numbers."""
        if not (self.shares or self.joint):
            return None
        given = {"joint": self.joint, "joint_of": list(self.cells)} if self.joint else {}
        return check(Target, {"shares": self.shares, **given}, where="shares")

    @model_validator(mode="after")
    def _check(self) -> "Generate":
        if (self.per_cell is None) == (self.images is None):
            raise ValueError("give either per_cell, images of each cell, or images, of the set")
        if (self.shares or self.joint) and self.images is None:
            raise ValueError("shares and joint share out the number of images: give images")
        if self.shares and self.shares.keys() != self.cells.keys():
            raise ValueError(
                f"shares are of {sorted(self.shares)}, the cells of {sorted(self.cells)}"
            )
        if self.target and self.target.by_concept and not self.contexts.group:
            raise ValueError(
                "shares by concept need contexts.group: the slot whose texts are the concepts"
            )
        if not (self.model or self.from_images):
            raise ValueError("name a model, or with from_images a folder of images")
        if not math.isclose(sum(self.splits.values()), 1, abs_tol=1e-6) or any(
            share <= 0 for share in self.splits.values()
        ):
            raise ValueError(f"splits: shares are above 0 and sum to 1 (got {self.splits})")
        if self.cells_by == "adapters" and not self.adapters:
            raise ValueError("cells_by: adapters needs some under adapters")
        if len(self.adapters) > 1 and not all(use.draws for use in self.adapters):
            raise ValueError("adapters: each of several says what it draws (draws: {...})")
        if self.filter.features.kind == "pixels" and self.filter.features.model:
            raise ValueError("filter.features: pixels take no model")
        return self


def load_generate(name: str, overrides: list[str] | None = None) -> Generate:
    """A recipe of an image set by name (`emoji-balanced`, `generate/emoji-balanced`) or path."""
    if not name.endswith((".yaml", ".yml")):
        name = f"generate/{name.removeprefix('generate/')}"
    return load(Generate, "train", name, overrides)
