"""Images of one prompt by a model without and with an adapter, in turns, and who is perceived."""

import contextlib
import pathlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from evenhand.app.settings import STEP
from evenhand.app.studio import Plan, Studio, kept
from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt, Row
from evenhand.core.records import Record, image_seed
from evenhand.diffusion.asked import check_call
from evenhand.diffusion.interrupting import interruptible
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.sampling import batches, draw
from evenhand.diffusion.strengths import at_strength
from evenhand.diffusion.tokens import cut_short
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judge_is_trainer, judged
from evenhand.measure.plan import calibration_of
from evenhand.reports.pictures import data_uri

SMALL = 160  # pixels, at most, of a picture's side on the page
SHOWN = 24  # pictures of a side on the page: the newest
KEPT = 512  # batches that are remembered, so that nothing is drawn twice


@dataclass(frozen=True)
class Picture:
    """An image on the page, as a data URI; none where the model's safety checker took offence."""

    uri: str | None
    record: Record


@dataclass
class Side:
    """What one generator has drawn so far.

    Attributes:
        label: what the page calls it.
        strength: of the adapter; 0 without it.
        records: of all its images.
        pictures: the newest of them, at most `SHOWN`.
    """

    label: str
    strength: float
    records: list[Record] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def add(self, pictures: list[Picture]) -> None:
        """Takes in the images of a batch."""
        self.records += [picture.record for picture in pictures]
        self.pictures = [*self.pictures, *pictures][-SHOWN:]


@dataclass(frozen=True)
class Found:
    """How far a comparison has come.

    Attributes:
        plan: what was asked for.
        sides: one a generator, none before everything is loaded.
        judge: name and digest of who perceives.
        accuracy: of the judge, by attribute, where it is calibrated.
        notes: what a reader must know.
        seconds: since the first image was asked for.
        pace: seconds that an image of each side takes; 0 while that is not known.
    """

    plan: Plan
    sides: list[Side] = field(default_factory=list)
    judge: str = ""
    accuracy: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    pace: float = 0.0

    @property
    def done(self) -> bool:
        """Whether everything is drawn that was asked for."""
        wanted = self.plan.asked.images
        return bool(self.sides) and all(len(side.records) >= wanted for side in self.sides)


Memory = OrderedDict[str, list[Picture]]  # pictures of the batches drawn last


def compare(
    plan: Plan, studio: Studio, memory: Memory, unwanted: Callable[[], bool]
) -> Iterator[Found]:
    """Draws and judges, a batch of the one and a batch of the other, on the same seeds.

    The images are those that `evenhand measure` draws of this prompt and seed.

    Args:
        plan: what was asked for.
        studio: loads it.
        memory: batches that were drawn before are taken from it.
        unwanted: asked after every step of the sampler; once it is true nothing more comes.

    Yields:
        how far it has come: before anything is loaded, and after every batch of a side.

    Raises:
        UserError: something cannot be loaded or drawn, or the judge trained the adapter.
    """
    yield Found(plan)
    diffusion, judge = studio.load(plan)
    _refuse(plan, diffusion, judge)
    sides = _sides(plan)
    facts = {
        "judge": f"{judge.name}@{judge.digest}",
        "accuracy": _accuracy(plan, judge),
        "notes": _notes(plan, diffusion),
    }
    started, asked = time.monotonic(), plan.asked
    paces: dict[str, float] = {}  # of what was drawn last, by side
    for batch in batches(_rows(plan), 2 if diffusion.device.type == "cpu" else STEP):
        for side in sides:
            begun = time.monotonic()
            with _loaded(plan, diffusion, side.strength) as source:
                if unwanted():
                    return
                key = repr((source, asked.guidance, plan.model.settings, judge.digest, batch))
                if not (new := memory.get(key)):
                    new = _draw(plan, diffusion, judge, batch, source, unwanted)
                    paces[side.label] = (time.monotonic() - begun) / len(batch)
            if not new:
                return
            kept(memory, key, KEPT, lambda new=new: new)
            side.add(new)
            seconds = time.monotonic() - started
            yield Found(plan, sides, **facts, seconds=seconds, pace=sum(paces.values()))


def _draw(
    plan: Plan,
    diffusion: Diffusion,
    judge: Judge,
    rows: list[Row],
    source: str,
    unwanted: Callable[[], bool],
) -> list[Picture]:
    """The judged images of a batch; none where they were no longer wanted."""
    guidance = plan.asked.guidance
    settings: dict[str, Any] = {} if guidance is None else {"guidance_scale": guidance}
    settings |= interruptible(diffusion, unwanted)
    found = []
    for drawn, images in draw(diffusion, rows, **settings):
        if unwanted():
            return []
        flagged = diffusion.safety(images) if diffusion.safety else None
        records = judged(drawn, images, judge, dict(judge.attributes), source, flagged=flagged)
        found += _pictures(images, records)
    return found


def _pictures(images: Tensor, records: list[Record]) -> list[Picture]:
    return [
        Picture(None if r.flagged else data_uri(Image.fromarray(pixels), SMALL), r)
        for pixels, r in zip(to_uint8(images), records, strict=True)
    ]


def _rows(plan: Plan) -> list[Row]:
    """The prompt and the seeds of its images."""
    text, seed = plan.asked.prompt, plan.asked.seed
    prompt = Prompt(text, concept=text, family="app", split="test")
    return [(prompt, image_seed("measure", seed, text, i)) for i in range(plan.asked.images)]


def _sides(plan: Plan) -> list[Side]:
    name = plan.model.name
    base = Side(pathlib.Path(name).name if pathlib.Path(name).exists() else name, 0.0)
    if not plan.adapter:
        return [base]
    strength = plan.asked.strength
    at = f", strength {strength:g}" if strength != 1 else ""
    return [base, Side(f"with {plan.adapter.folder.name}{at}", strength)]


@contextlib.contextmanager
def _loaded(plan: Plan, diffusion: Diffusion, strength: float) -> Iterator[str]:
    """Draws inside with the adapter at a strength; yields the source of the records."""
    if not plan.adapter:
        yield diffusion.source
        return
    with at_strength(diffusion, plan.adapter, strength) as source:
        yield source


def _refuse(plan: Plan, diffusion: Diffusion, judge: Judge) -> None:
    """Refuses settings that the pipeline does not take, and a judge that would flatter."""
    if plan.asked.guidance is not None:
        check_call(diffusion.pipe, plan.model.sampling({"guidance_scale": plan.asked.guidance}))
    if plan.adapter and judge_is_trainer(judge, [plan.adapter], allowed=True):
        raise UserError(
            f"{judge.name} trained the adapter {plan.adapter.folder.name}, so its counts would "
            "flatter it. Start the app with another judge (--judge)."
        )


def _accuracy(plan: Plan, judge: Judge) -> dict[str, float]:
    """How often the judge is right, by attribute, as far as it was calibrated."""
    known = plan.judge.known
    calibration = calibration_of(plan.judge, list(known), None)
    if not calibration or calibration.digest != judge.digest:
        return {}
    return {
        name: calibration.confusion(known[name]).accuracy
        for name in calibration.attributes
        if name in known
    }


def _notes(plan: Plan, diffusion: Diffusion) -> list[str]:
    notes = []
    if cut_short(diffusion, [plan.asked.prompt]):
        notes.append("The model does not read the end of this prompt: it is too long for it.")
    return notes
