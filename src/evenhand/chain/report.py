"""What a chain found, from the reports of its stages.

Nothing is computed here that a stage's own report does not hold, but the share of images accepted.
"""

import pathlib
from collections.abc import Mapping, Sequence

from evenhand.chain.models import (
    Arm,
    ChainReport,
    Classifiers,
    ImageSet,
    Line,
    Measurement,
    StageLine,
)
from evenhand.chain.plan import Planned, with_sets
from evenhand.chain.records import read_record
from evenhand.chain.routes import routes_of
from evenhand.core.schema import check, read_json
from evenhand.generate.ledger import SURPLUS
from evenhand.generate.report import SetReport, read_set
from evenhand.recipes.chain import DRAWING, Stage
from evenhand.recipes.classify import Classify
from evenhand.recipes.measure import Measure
from evenhand.reports.changes import Change
from evenhand.reports.classify_models import ClassifyReport
from evenhand.reports.headlines import headlines
from evenhand.reports.html import write_comparison
from evenhand.reports.models import Report
from evenhand.reports.sentence import in_words
from evenhand.stats.shares import wilson
from evenhand.training.run_directory import versions

PAGES = {
    "measure": "report.html",
    "generate": "dataset.html",
    "reference": "dataset.html",
    "classify": "report.html",
}


def build(name: str, stages: Sequence[Planned], folder: pathlib.Path) -> ChainReport:
    """The report of a chain whose stages are all done.

    Comparisons are written into `compare/STAGE`.
    """
    lines = [_line(planned, folder) for planned in stages]
    by_verb = {verb: [p for p in stages if p.stage.verb == verb] for verb in PAGES}
    measurements = [_measurement(p, by_verb["measure"], folder) for p in by_verb["measure"]]
    sets = [_set(p, folder) for p in stages if p.stage.verb in DRAWING]
    classifiers = [_classifiers(p, folder) for p in by_verb["classify"]]
    return ChainReport(
        name=name,
        stages=lines,
        measurements=measurements,
        sets=sets,
        classifiers=classifiers,
        routes=list(routes_of(stages, lines, measurements, sets, classifiers)),
        versions=versions(),
    )


def _line(planned: Planned, folder: pathlib.Path) -> StageLine:
    stage, record = planned.stage, read_record(folder, planned.name)
    assert record and record.made
    page = PAGES.get(stage.verb)
    return StageLine(
        name=planned.name,
        verb=stage.verb,
        recipe=stage.recipe,
        changed=stage.set,
        needs=list(planned.needs),
        seconds=record.seconds,
        memory=record.memory,
        made=record.made,
        page=f"{planned.name}/{page}" if page else None,
    )


def _measurement(
    planned: Planned, all_of_them: Sequence[Planned], folder: pathlib.Path
) -> Measurement:
    name, adapter = planned.name, next(iter(planned.stage.adapters), None)
    alone = [p for p in all_of_them if not p.stage.adapters and _alike(p, planned)]
    if not adapter or not alone:
        path = folder / name / "report.json"
        report = check(Report, read_json(path, what="a report"), where=str(path))
        runs, change, page, against = [report], None, f"{name}/report.html", None
        first = next(iter(report.attributes.values()))
        images = sum(prompt.images for prompt in first.prompts)
    else:
        against, out = alone[0].name, folder / "compare" / name
        found = write_comparison(folder / against, folder / name, out)
        runs, change, page = (
            [found.before, found.after],
            found.change,
            f"compare/{name}/report.html",
        )
        images = found.change.images
    lines = [
        Line(
            subject=line.subject,
            what=line.what,
            before=line.found[0] if change else None,
            found=line.found[-1],
            change=line.change,
            target=line.target,
        )
        for line in headlines(runs, change)
    ]
    words = in_words(runs, change)
    return Measurement(
        stage=name,
        adapter=adapter,
        against=against,
        images=images,
        words=words,
        gap=_gap(runs, change),
        lines=lines,
        page=page,
    )


def _gap(runs: Sequence[Report], change: Change | None) -> Line | None:
    """The gap of the first attribute that has one, corrected where all runs can be."""
    for name, entry in runs[-1].attributes.items():
        for split in entry.splits:
            found = [run.attributes[name].splits[split] for run in runs]
            delta = change and change.attributes[name].splits[split]
            corrected = [part.corrected_gap for part in found]
            which = [x for x in corrected if x]
            fits = len(which) == len(found) and not (delta and delta.corrected_gap is None)
            gaps = which if fits else [part.gap for part in found]
            differs = delta and (delta.corrected_gap if fits else delta.gap)
            return Line(
                subject=f"{name}, {split}",
                what=f"gap {entry.among}{', corrected' if fits else ''}",
                before=gaps[0] if change else None,
                found=gaps[-1],
                change=differs,
            )
    return None


def _alike(one: Planned, other: Planned) -> bool:
    """Whether two measurements differ in the adapter alone."""
    assert isinstance(one.config, Measure) and isinstance(other.config, Measure)
    free = {"adapter": None, "adapter_scale": 1.0, "batch": 1, "accept": []}
    return one.config.model_copy(update=free) == other.config.model_copy(update=free)


def _set(planned: Planned, folder: pathlib.Path) -> ImageSet:
    found = read_set(folder / planned.name)
    assert found
    hardest = min(found.places, key=lambda place: place.acceptance.value or 0.0)
    names = [p.group for p in found.places]
    return ImageSet(
        stage=planned.name,
        adapters=list(planned.stage.adapters),
        images=found.images,
        wished=found.sizes[-1].wished,
        drawn=found.drawn,
        accepted=wilson(_accepted(found), found.drawn).rounded(),
        hardest=_cell(hardest.cell, hardest.group if len(set(names)) > 1 else ""),
        hardest_accepted=hardest.acceptance,
        wrong=found.wrong,
        cells=_cells(found),
        rejected=found.rejected,
        notes=found.notes,
        digest=found.digest,
    )


def _accepted(found: SetReport) -> int:
    """Images that the filter let through as a cell, needed or not."""
    return found.images + found.rejected.get(SURPLUS, 0)


def _cell(cell: Mapping[str, str], group: str) -> str:
    return "/".join(cell.values()) + (f", {group}" if group else "")


def _cells(found: SetReport) -> dict[str, int]:
    """Images of each cell, all groups together."""
    counts: dict[str, int] = {}
    for place in found.places:
        cell = _cell(place.cell, "")
        counts[cell] = counts.get(cell, 0) + place.images
    return counts


def _classifiers(planned: Planned, folder: pathlib.Path) -> Classifiers:
    path = folder / planned.name / "report.json"
    report = check(ClassifyReport, read_json(path, what="a report"), where=str(path))
    assert isinstance(planned.config, Classify)
    made = _set_of_variants(planned.config, planned.stage)
    arms = []
    for name, one in report.variants.items():
        worst = min(one.group_accuracy, key=lambda g: one.group_accuracy[g].value or 0.0)
        less = report.differences.get(name)
        arms.append(
            Arm(
                name=name,
                set=made.get(name),
                real=sum(one.images.real.values()),
                synthetic=sum(one.images.synthetic.values()),
                worst=one.worst_group,
                group=worst,
                balanced=one.balanced,
                worst_change=less["worst_group"] if less else None,
            )
        )
    return Classifiers(
        stage=planned.name,
        data=report.data,
        seeds=next(iter(report.variants.values())).seeds,
        test=report.counts["test"],
        train=report.counts["train"],
        arms=arms,
        notes=report.notes,
    )


def _set_of_variants(recipe: Classify, stage: Stage) -> dict[str, str]:
    """The stage whose set each variant is trained with."""
    each = with_sets(recipe, stage.sets).each().items()
    return {name: one.synthetic.path for name, one in each if stage.sets and one.synthetic}
