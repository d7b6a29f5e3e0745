"""Every variant of a recipe, every seed: trained, judged on the test images, reported."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from evenhand.classify.arms import Arm, steps_of
from evenhand.classify.experiment import MAY_MOVE, Experiment, prepare
from evenhand.classify.tables import SPLITS, shape_of
from evenhand.classify.train import logits_of, trained
from evenhand.core.errors import UserError
from evenhand.core.files import whole, write_json
from evenhand.core.locks import exclusive
from evenhand.core.schema import read_json
from evenhand.recipes.classify import Classify
from evenhand.reports.classify import Judged, Test, build
from evenhand.reports.classify_models import ClassifyReport, MaskRow
from evenhand.reports.classify_page import write_cards, write_page
from evenhand.training.fit import refuse_several_processes
from evenhand.training.run_directory import check_run, claim_run, versions

Progress = Callable[[int, int, str], None]


def classify(
    recipe: Classify,
    data: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    progress: Progress | None = None,
) -> ClassifyReport:
    """Trains every variant with every seed and writes the report.

    What was finished in the folder is kept; a training that was cut goes on.

    Args:
        recipe: with its variants.
        data: the real images, as `evenhand.images.labelled` reads them.
        folder: gets `report.json`, `report.html`, and a run directory `VARIANT/seed-N` for each
            training, with its answers, and the classifier, which transformers loads.
        progress: called with (steps done, steps in all, words).

    Raises:
        UserError: anything wrong with recipe or data; another run's folder; a training that
            diverged.
    """
    refuse_several_processes()
    experiment = prepare(recipe, data, pathlib.Path(folder))
    return run(experiment, pathlib.Path(folder), progress=progress)


def run(
    experiment: Experiment, folder: pathlib.Path, *, progress: Progress | None = None
) -> ClassifyReport:
    """As `classify`, of what was prepared."""
    places = {
        (name, seed): folder / name / f"seed-{seed}"
        for name in experiment.arms
        for seed in experiment.seeds
    }
    for (name, seed), place in places.items():
        check_run(place, experiment.settings(experiment.arms[name], seed), MAY_MOVE)
    with exclusive(folder, "training"):
        before = 0
        for (name, seed), place in places.items():
            arm = experiment.arms[name]

            def tell(done: int, words: str, before: int = before, which: str = name) -> None:
                if progress:
                    progress(before + done, experiment.steps, f"{which}: {words}")

            if not (place / "answers.npy").is_file():
                _one(experiment, arm, seed, place, folder / "stages", tell)
            before += steps_of(arm)
            if progress:
                progress(before, experiment.steps, f"{name}, seed {seed}: done")
        judged = {name: _judged(experiment, name, folder) for name in experiment.arms}
        notes = [*_notes(experiment), *_constant(judged, _test(experiment))]
        report = build(judged, _test(experiment), _about(experiment), notes)
        write_json(folder / "report.json", report.as_json())
        write_page(folder / "report.html", report)
        write_cards(folder, report)
    return report


def _one(
    experiment: Experiment,
    arm: Arm,
    seed: int,
    place: pathlib.Path,
    stages: pathlib.Path,
    tell: Callable[[int, str], None],
) -> None:
    """One training, its classifier and its answers to the test images, written last."""
    model, processor, mask = trained(experiment, arm, seed, stages, tell)
    logits = logits_of(model, experiment.split(arm, "test"), arm.recipe)
    claim_run(place, experiment.settings(arm, seed), MAY_MOVE)
    with whole(place / "classifier") as temporary:
        model.body.network.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    if mask:
        write_json(place / "mask.json", {"tensors": [row.model_dump() for row in mask]})
    with whole(place / "answers.npy") as temporary, temporary.open("wb") as file:
        np.save(file, logits.softmax(1).numpy())


def _judged(experiment: Experiment, name: str, folder: pathlib.Path) -> Judged:
    """The answers of a variant's trainings, from their files."""
    arm, shape = experiment.arms[name], shape_of(experiment.recipe)
    places = [folder / name / f"seed-{seed}" for seed in experiment.seeds]
    answers, test = [], len(experiment.rows(arm, "test"))
    for place in places:
        path = place / "answers.npy"
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); delete it to go on") from error
        if found.shape != (test, shape[0]):
            raise UserError(f"{path}: is of other images; delete it to go on")
        answers.append(found.astype(float))
    masks = [
        [
            MaskRow.model_validate(row)
            for row in read_json(p / "mask.json", what="a mask")["tensors"]
        ]
        for p in places
        if (p / "mask.json").is_file()
    ]
    table = experiment.synthetic_of(arm)
    return Judged(
        arm=arm.recipe.arm,
        objective=arm.recipe.objective.name,
        steps=steps_of(arm),
        epochs={stage.part: arm.part(stage).epochs for stage in arm.stages},
        probs=np.stack(answers),
        real=experiment.real["train"].counts(shape, arm.real),
        synthetic=table.counts(shape, arm.synthetic) if table else np.zeros(shape, dtype=int),
        masks=masks,
    )


def _test(experiment: Experiment) -> Test:
    recipe = experiment.recipe
    arm = next(iter(experiment.arms.values()))
    return Test(
        groups=experiment.real["test"].groups[experiment.rows(arm, "test")],
        target=recipe.target.names,
        protected=recipe.protected.names,
        seeds=list(experiment.seeds),
    )


def _about(experiment: Experiment) -> dict[str, Any]:
    """What the report says of the data and the recipe."""
    arm, shape = next(iter(experiment.arms.values())), shape_of(experiment.recipe)
    counts = {
        split: experiment.real[split].counts(shape, experiment.rows(arm, split)) for split in SPLITS
    }
    return {
        "settings": experiment.recipe.model_dump(mode="json"),
        "data": pathlib.Path(experiment.data).name,
        "counts": {
            split: dict(zip(experiment.recipe.groups, map(int, table.ravel()), strict=True))
            for split, table in counts.items()
        },
        "left_out": {split: experiment.real[split].left_out for split in SPLITS},
        "versions": versions(),
    }


def _notes(experiment: Experiment) -> list[str]:
    """What a reader must know."""
    found = [
        f"{split}: {table.left_out} images have no class of both attributes and are left out."
        for split, table in experiment.real.items()
        if table.left_out
    ]
    steps = {name: steps_of(arm) for name, arm in experiment.arms.items()}
    if max(steps.values()) > 1.1 * min(steps.values()):
        found.append(
            f"The variants take {min(steps.values())} to {max(steps.values())} steps; "
            "equal_steps=true takes as many for each."
        )
    return found


def _constant(judged: dict[str, Judged], test: Test) -> list[str]:
    """Which trainings have one answer to every image; it hardly ever is what was wanted."""
    found = []
    for name, one in judged.items():
        for seed, answers in zip(test.seeds, one.probs.argmax(-1), strict=True):
            if len(np.unique(answers)) == 1:
                found.append(
                    f"{name}, seed {seed}: every test image is called {test.target[answers[0]]!r}; "
                    "a lower learning rate, or more epochs, may mend it."
                )
    return found
