"""From what was taken to what is said of it. No images are read here but through their rows."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evenhand.core.records import Record
from evenhand.generate.fill import Filled
from evenhand.generate.ledger import DUPLICATE, SURPLUS, Entry, Ledger
from evenhand.generate.plan import SetPlan
from evenhand.generate.quotas import Cell, feed
from evenhand.generate.report import NoiseReport, PlaceReport, SetReport, Size, Twins
from evenhand.generate.shortcuts import shortcuts
from evenhand.generate.sizes import WishedSize
from evenhand.reports.tally import answers, counts, probabilities
from evenhand.stats.calibration import Calibration
from evenhand.stats.dependence import Dependence, chi_square
from evenhand.stats.fit_of_calibration import fit_of
from evenhand.stats.label_noise import asked_noise, taken_noise, together
from evenhand.stats.shares import Estimate, wilson

EXAMPLES = 12  # of near-duplicates
PASSED = ("", SURPLUS, DUPLICATE)  # what the filter let through, needed or not


def summary(
    plan: SetPlan, sizes: Sequence[WishedSize], filled: Filled, settings: dict[str, Any]
) -> SetReport:
    """What is said of a set, but its shards."""
    ledger = filled.ledger
    noise = _noise(plan, ledger, settings)
    return SetReport(
        sizes=_sizes(plan, sizes, filled),
        images=len(ledger.taken),
        drawn=ledger.drawn,
        rejected=ledger.reasons(),
        places=_places(plan, ledger),
        noise=noise,
        wrong=_wrong(noise) if noise else None,
        misfits=_misfits(plan, ledger, settings) if noise else [],
        shares=_shares(plan, ledger, noise),
        before_filling=_dependence([e for e in ledger.entries[: filled.first] if e.why in PASSED]),
        after_filling=_dependence(ledger.taken),
        by="group" if len({e.group for e in ledger.taken}) > 1 else "context",
        shortcuts=shortcuts(ledger.taken, plan.names),
        twins=[
            Twins(
                prompt=e.drawn.record.prompt,
                first=e.twin,
                second=e.drawn.record.image,
                distance=e.distance,
            )
            for e in [x for x in ledger.entries if x.why == DUPLICATE][:EXAMPLES]
        ],
        splits=dict(Counter(e.drawn.record.split for e in ledger.taken)),
        shards=[],
        notes=[],
        settings=settings,
    )


def _sizes(plan: SetPlan, sizes: Sequence[WishedSize], filled: Filled) -> list[Size]:
    """Each size with the digest of what was taken until then."""
    digest, found, done = hashlib.sha256(), [], 0
    for size, (taken, drawn) in zip(sizes, filled.ends, strict=True):
        for entry in filled.ledger.taken[done:taken]:
            record = entry.drawn.record
            row = [entry.drawn.digest, record.prompt, record.seed, record.split, entry.cell]
            digest.update(json.dumps(row).encode())
        done = taken
        found.append(
            Size(
                images=taken,
                drawn=drawn,
                wished=sum(size.quotas.values()),
                budget=size.budget,
                digest=digest.hexdigest()[:12],
            )
        )
    return found


def _places(plan: SetPlan, ledger: Ledger) -> list[PlaceReport]:
    tally, found = ledger.tally, []
    feeds = [feed(stream, plan.names, ledger.quotas) for stream in plan.streams]
    for place, quota in ledger.quotas.items():
        if not quota:
            continue
        streams = [s for s, places in enumerate(feeds) if place in places]
        drawn = sum(tally.drawn.get(s, 0) for s in streams)
        fits = sum(tally.fits.get((s, place[0]), 0) for s in streams)
        found.append(
            PlaceReport(
                cell=dict(zip(plan.names, place[0], strict=True)),
                group=place[1],
                quota=quota,
                images=tally.taken.get(place, 0),
                drawn=drawn,
                fits=fits,
                acceptance=wilson(fits, drawn).rounded(),
            )
        )
    return found


def _noise(plan: SetPlan, ledger: Ledger, settings: dict[str, Any]) -> list[NoiseReport] | None:
    """Expected label noise of each cell; None where the judge has no calibration."""
    if not settings["calibration"]:
        return None
    calibration = Calibration.model_validate(settings["calibration"])
    by_stream: dict[int, list[Record]] = {}
    for entry in ledger.entries:
        by_stream.setdefault(entry.stream, []).append(entry.drawn.record)
    images = Counter(entry.cell for entry in ledger.taken)
    pools: dict[tuple[int, ...], list[Record]] = {}
    found = []
    for cell in dict.fromkeys(c for (c, _), quota in ledger.quotas.items() if quota):
        streams = tuple(
            s
            for s, stream in enumerate(plan.streams)
            if any(place[0] == cell for place in feed(stream, plan.names, ledger.quotas))
        )
        if streams not in pools:
            pools[streams] = [r for s in streams for r in by_stream.get(s, []) if r.seen]
        pairs = [
            _of_attribute(plan, calibration, name, cell, pools[streams], streams)
            for name in plan.names
        ]
        found.append(
            NoiseReport(
                cell=dict(zip(plan.names, cell, strict=True)),
                images=images[cell],
                before=together([before for before, _ in pairs]).rounded(),
                after=together([after for _, after in pairs]).rounded(),
            )
        )
    return found


def _of_attribute(
    plan: SetPlan,
    calibration: Calibration,
    name: str,
    cell: Cell,
    pool: Sequence[Record],
    streams: Sequence[int],
) -> tuple[Estimate, Estimate]:
    """Noise of one attribute's labels, before and after filtering."""
    attribute, cls = plan.judge.known[name], cell[plan.names.index(name)]
    confusion, k = calibration.confusion(attribute), attribute.classes.index(cls)
    given = (counts if confusion.means is None else probabilities)(pool, attribute)
    called = [r.probs[name][cls] for r in pool if r.perceived[name] == cls]
    least = plan.config.filter.confidence
    after = taken_noise(given, k, sum(p >= least for p in called), confusion, least)
    if all(plan.streams[s].asked.get(name) == cls for s in streams):
        return asked_noise(given, k, confusion), after
    return taken_noise(given, k, len(called), confusion), after


def _misfits(plan: SetPlan, ledger: Ledger, settings: dict[str, Any]) -> list[str]:
    """Attributes of which the judge answers otherwise than in its calibration."""
    calibration = Calibration.model_validate(settings["calibration"])
    records = [entry.drawn.record for entry in ledger.entries]
    found = []
    for name in plan.names:
        attribute = plan.judge.known[name]
        fit = fit_of(answers(records, attribute), calibration.confusion(attribute))
        if fit and not fit.holds:
            found.append(name)
    return found


def _wrong(noise: Sequence[NoiseReport]) -> Estimate:
    """Expected share of wrong labels in the whole set."""
    n = sum(x.images for x in noise)

    def mean(values: Sequence[float | None]) -> float:
        pairs = zip(values, noise, strict=True)
        return sum((value or 0.0) * x.images for value, x in pairs) / max(n, 1)

    return Estimate(
        mean([x.after.value for x in noise]),
        mean([x.after.low for x in noise]),
        mean([x.after.high for x in noise]),
        n,
    ).rounded()


def _shares(
    plan: SetPlan, ledger: Ledger, noise: Sequence[NoiseReport] | None
) -> dict[str, dict[str, Estimate]]:
    """Shares as called; intervals by how many labels may be wrong, none without a calibration."""
    n, found = len(ledger.taken), {}
    for i, (name, classes) in enumerate(plan.classes.items()):
        called = Counter(entry.cell[i] for entry in ledger.taken if entry.cell)
        found[name] = {}
        for cls in classes:
            value = called[cls] / n if n else None
            if value is None or noise is None:
                found[name][cls] = Estimate(value, None, None, n)
                continue
            lost, gained = (
                sum((x.after.high or 0) * x.images for x in noise if (x.cell[name] == cls) == own)
                for own in (True, False)
            )
            low, high = max(value - lost / n, 0.0), min(value + gained / n, 1.0)
            found[name][cls] = Estimate(value, low, high, n).rounded()
    return found


def _dependence(entries: Sequence[Entry]) -> Dependence | None:
    """Whether the context tells the cell: by group, or by context where there is one group."""
    grouped = len({e.group for e in entries}) > 1
    rows = [e.group if grouped else e.drawn.record.concept for e in entries]
    names, cells = list(dict.fromkeys(rows)), list(dict.fromkeys(e.cell for e in entries))
    if len(names) < 2 or len(cells) < 2:
        return None
    table = np.zeros((len(names), len(cells)))
    places = {name: i for i, name in enumerate(names)}, {cell: i for i, cell in enumerate(cells)}
    for name, entry in zip(rows, entries, strict=True):
        table[places[0][name], places[1][entry.cell]] += 1
    return chi_square(table)
