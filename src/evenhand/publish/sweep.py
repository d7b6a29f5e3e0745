"""Measuring an adapter, or several, at many strengths and settings of the sampler.

Every point is a run of `evenhand measure` in a folder of its own: a sweep that was cut goes on, one
with further points keeps those that it has, and processes share the work as they do there.
"""

import datetime
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from evenhand.core.adapters import Adapter, find_mix
from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.records import Run, read_run
from evenhand.core.work import share_of
from evenhand.measure import measure, plan
from evenhand.measure.plan import GeneratorPlan
from evenhand.recipes.features import Feature
from evenhand.recipes.measure import Measure
from evenhand.recipes.sweep import Sweep
from evenhand.reports.sweep.models import Point, SweepReport
from evenhand.reports.sweep.page import write_sweep
from evenhand.reports.sweep.plot import write_plot
from evenhand.reports.sweep.points import level_of, notes_of, points_of
from evenhand.reports.sweep.suggestion import in_words, rule_in_words, suggest
from evenhand.training.run_directory import versions

# settings of a run that all points share
SHARED = ("model", "dtype", "prompts", "splits", "images", "explicit_images", "seed", "target")
Progress = Callable[[int, int], None]


def sweep(
    config: Sweep,
    folder: str | os.PathLike,
    *,
    progress: Progress | None = None,
    judge_may_be_trainer: bool = False,
) -> SweepReport | None:
    """Measures every point, suggests one by a rule, and measures that one at fresh seeds.

    Writes `sweep.json`, `sweep.png` and `sweep.html`.

    Args:
        config: what to sweep.
        folder: of the sweep; the points' runs in it are continued.
        progress: called with (images done, images at most).
        judge_may_be_trainer: judge even an adapter that was trained against the judge.

    Returns:
        what was found; None in processes of a launcher but the first.

    Raises:
        UserError: bad settings; what can be known before anything is drawn is said then.
    """
    folder, wanted = pathlib.Path(folder), config.points()
    if (folder / "run.json").exists():
        raise UserError(f"{folder}: holds a run; name another directory with --out")
    adapters = [adapter for adapter, _ in find_mix(dict.fromkeys(config.adapters, 1.0)).parts]
    names, level = names_of(adapters), level_of(sum(bool(m.adapter) for m in wanted.values()))
    features = _features(config)
    sizes = [images_of(one) for one in wanted.values()]
    most, done = sum(sizes) + 2 * max(sizes), 0

    def runs(points: Mapping[str, Measure]) -> dict[str, Run]:
        nonlocal done
        for name in reversed(list(points)):  # the last one loads all that any of them needs

            def tell(now: int, _: int, before: int = done) -> None:
                if progress:
                    progress(before + now, most)

            how = {"progress": tell, "judge_may_be_trainer": judge_may_be_trainer}
            measure(points[name], folder / name, pictures=False, **how)
            done += images_of(points[name])
        return {name: read_run(folder / name) for name in points}

    found = runs(wanted)
    points = points_of(found, names, level)
    place, fresh = suggest(points, config.margin), []
    if place is not None:
        fresh = points_of(runs(_fresh(wanted, points, points[place])), names, 0.95)
    if share_of().rank:
        return None
    points = [_near(p, points, folder, features) for p in points]
    report = _report(config, found, names, points, fresh)
    write_sweep(folder, report)
    return report


def put(adapter: Adapter, report: SweepReport) -> None:
    """Puts a sweep into the adapter's folder: its description, and the picture for its card."""
    write_json(adapter.folder / "adapter.json", {**adapter.described, "sweep": report.as_json()})
    write_plot(adapter.folder / "sweep.png", report)


def names_of(adapters: Sequence[Adapter]) -> dict[str, str]:
    """What adapters are called in a sweep, by the digest of their weights."""
    folders = [adapter.folder.resolve().name for adapter in adapters]
    return {
        a.digest: name if folders.count(name) == 1 else a.source
        for a, name in zip(adapters, folders, strict=True)
    }


def images_of(config: Measure) -> int:
    """How many images a point takes. Raises UserError where the point cannot be planned."""
    planned = plan(config)
    assert isinstance(planned, GeneratorPlan)
    return len(planned.rows)


def _alone(point: Point, points: Sequence[Point]) -> Point:
    """The model without adapters, at the same settings of the sampler."""
    return next(p for p in points if p.alone and p.sampler == point.sampler)


def _fresh(
    wanted: Mapping[str, Measure], points: Sequence[Point], chosen: Point
) -> dict[str, Measure]:
    """A point, and before it the model without adapters, at seeds that chose nothing."""
    both = [_alone(chosen, points).folder, chosen.folder]
    return {
        f"fresh-{name}": wanted[name].model_copy(update={"seed": wanted[name].seed + 1})
        for name in both
    }


def _report(
    config: Sweep,
    found: dict[str, Run],
    names: dict[str, str],
    points: list[Point],
    fresh: list[Point],
) -> SweepReport:
    """What was found, with its settings and in words."""
    settings = next(iter(found.values()))[0]["settings"]
    place, level = suggest(points, config.margin), level_of(sum(not p.alone for p in points))
    return SweepReport(
        adapters={name: digest for digest, name in names.items()},
        settings={**{k: settings[k] for k in SHARED}, "judge": settings["judge"]},
        date=datetime.date.today().isoformat(),
        versions=versions(),
        level=level,
        points=points,
        margin=config.margin,
        rule=rule_in_words(points, config.margin, level),
        suggested=place,
        fresh=fresh,
        said=in_words(points, place, fresh, config.margin),
        notes=notes_of(found),
    )


def _features(config: Sweep) -> list[Feature]:
    """The networks in which images are compared, each tried before anything is drawn.

    Raises:
        UserError: one that was asked for cannot be had.
    """
    import torch

    from evenhand.devices import default_device
    from evenhand.features.networks import load_features
    from evenhand.judges.registry import load_judge

    features, device = config.features or [Feature(kind="classifier")], default_device()
    judge = load_judge(plan(config.measure).judge, device=device)
    try:
        for _, embed in load_features(features, judge.features, device=device):
            embed(torch.full((1, 3, 64, 64), 0.5, device=device))
    except UserError:  # a judge that is asked in words has no features
        if config.features:
            raise
        return []
    return features


def _near(
    point: Point, points: Sequence[Point], folder: pathlib.Path, features: Sequence[Feature]
) -> Point:
    """The point, with how near its images are to those of the same seeds without adapters."""
    if point.alone or not features:
        return point
    from evenhand.measure.closeness import closeness

    near = closeness(folder / _alone(point, points).folder, folder / point.folder, features)
    return point.model_copy(update={"closeness": {k: x.same_seed for k, x in near.items()}})
