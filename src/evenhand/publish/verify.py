"""Is an adapter what its card says? Its file, and its numbers, anew.

The file is loaded in a fresh process by diffusers alone (`stock.py`). Then the model is measured
without and with it, on the card's prompts and images of fresh seeds, and every number of the card
is compared with the new one.
"""

import datetime
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from evenhand.core.files import digest_of
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.devices import default_device
from evenhand.judges.perceive import judge_is_trainer
from evenhand.judges.registry import load_judge
from evenhand.measure import measure
from evenhand.measure.plan import GeneratorPlan, plan
from evenhand.publish.file_checks import FileCheck, check_file, keep_references
from evenhand.publish.verification import Verification
from evenhand.reports.accept import held
from evenhand.reports.again import Again, again
from evenhand.reports.card import describe, write_card, write_cards
from evenhand.reports.changes import Comparison
from evenhand.reports.comparison import compare
from evenhand.reports.headlines import number
from evenhand.reports.shipped import write_table

Progress = Callable[[str, int, int], None]  # what is measured, images done, images in all


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        passed: whether nothing stands against the adapter.
        said: what was done and found, in sentences.
        comparison: the new numbers; None where the file failed already.
        numbers: each of the card's numbers beside the new one.
    """

    passed: bool
    said: list[str]
    comparison: Comparison | None = None
    numbers: tuple[Again, ...] = ()


def verify(
    asked: Verification, *, write_references: bool = False, progress: Progress | None = None
) -> Verified:
    """Checks an adapter's file and numbers, and writes what was found into its folder.

    A cut verification goes on. Where the numbers agree with the card's, the new ones take their
    place, since no setting was chosen on their images.

    Args:
        asked: what is to be checked.
        write_references: where the adapter has no reference images, keep those that are drawn now
            from its file.
        progress: called with what is measured, images done, and images in all.

    Raises:
        UserError: the file does not load, or the model cannot be measured.
    """
    planned = plan(asked.after)
    assert isinstance(planned, GeneratorPlan)
    trained = bool(asked.card and asked.card.after.run.settings.get("judge_is_trainer"))
    judge = load_judge(planned.judge, device=default_device())
    judge_is_trainer(judge, [asked.adapter], allowed=trained)  # before anything is drawn
    file = check_file(planned, asked.references, asked.folder / "stock")
    if file.wrong:
        return _written(asked, file, Verified(False, [*file.said, *file.wrong]))
    if not asked.references:
        file.said.append(
            "It has no reference images, so nothing shows that it draws as when it was made."
        )
        if write_references:
            keep_references(planned, asked.folder / "stock", file)
    same = digest_of(asked.before.model_dump(mode="json", exclude={"accept"}))
    folders = asked.folder.parent / f"base-{same}", asked.folder / f"after-{same}"
    for label, config, folder in zip(
        ("without the adapter", "with the adapter"),
        (asked.before, asked.after),
        folders,
        strict=True,
    ):

        def tell(done: int, total: int, label: str = label) -> None:
            if progress:
                progress(label, done, total)

        config = config.model_copy(update={"accept": []})  # rules are of both runs together
        measure(config, folder, progress=tell, judge_may_be_trainer=trained, pictures=False)
    comparison, wrong = held(compare(*folders), asked.before.accept)
    if wrong:
        raise wrong
    return _written(asked, file, _judged(asked, file, comparison, folders[1]))


def _judged(
    asked: Verification, file: FileCheck, comparison: Comparison, run: pathlib.Path
) -> Verified:
    """The new numbers held against the card's, and against the rules."""
    settings, said = comparison.after.run.settings, list(file.said)
    said.append(
        f"The numbers were measured anew, of the file as it was loaded: {comparison.after.images} "
        f"images with it and as many without, made from seed {settings['seed']}."
    )
    numbers: list[Again] = []
    if asked.card is None:
        said.append("It had no numbers to compare these with.")
    elif asked.card.after.run.settings["judge"]["digest"] != settings["judge"]["digest"]:
        old = asked.card.after.run.settings["judge"]["name"]
        said.append(f"The numbers before were by another judge ({old}), so they do not compare.")
    else:
        numbers = again(asked.card, comparison, read_run(run)[1])
        said.append(
            f"{sum(x.agrees for x in numbers)} of {len(numbers)} numbers agree with those of seed "
            f"{asked.card.after.run.settings['seed']} that the card had (by intervals of their "
            "difference that hold together, 95 %)."
        )
    wrong = [
        f"{x.subject}: {x.what}, {x.run}, was {number(x.first)} and is {number(x.second)} "
        f"(difference {x.difference})."
        for x in numbers
        if not x.agrees
    ]
    wrong += [
        f"The rule {x.rule} is not met (found: {number(x.found)})."
        for x in comparison.accepted
        if not x.passed
    ]
    return Verified(not wrong, [*said, *wrong], comparison, tuple(numbers))


def _written(asked: Verification, file: FileCheck, found: Verified) -> Verified:
    """Writes what was found into the adapter's folder."""
    adapter, settings = asked.adapter, asked.after
    entry = {
        "date": datetime.date.today().isoformat(),
        "digest": adapter.digest,
        "passed": found.passed,
        "said": found.said,
        "seed": settings.seed,
        "judge": found.comparison and found.comparison.after.run.settings["judge"],
        "scheduler": file.answer.get("scheduler"),
        "versions": file.answer["versions"],
        "file": {k: file.answer.get(k) for k in ("images", "changed", "largest", "zero")},
        "numbers": [x.model_dump(mode="json") for x in found.numbers],
    }
    if found.comparison and (found.passed or not asked.card):
        write_card(adapter.folder, found.comparison, verified=entry)
    else:
        describe(adapter.folder, {**adapter.described, "verified": entry})
        if asked.card:
            write_cards(adapter.folder)
    if adapter.folder.resolve().parent == (ROOT / "adapters").resolve():
        write_table()
    return found
