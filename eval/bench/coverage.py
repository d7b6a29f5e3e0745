"""Do nominal 95 % intervals hold the truth in 95 % of simulated worlds?

    python eval/bench/coverage.py

Prints the table and writes eval/results/bench-coverage.json.

A world has true shares, a classifier with its own errors, a labelled set that calibrates it, and
images of one or more prompts. All are drawn anew in every world; the interval sees only the calls.
Coverage is counted over worlds and classes.

- `raw`: the interval of the calls, as if the classifier never erred;
- `raw, no errors`: the same where it does not; over several prompts, the mean for prompts like
  these;
- `corrected`: what reports say (`evenhand.stats.correction`) of calls; `corrected, probabilities`:
  of probabilities, by a classifier whose scores are normal, too sure or too unsure of itself by up
  to 2 and leaning to some classes;
- `CLEAM`: the published interval (Teo et al., NeurIPS 2023) for two classes: 30 batches of 400
  drawn again from the same images, the calibration taken as exact;
- `until`: Wilson's place is taken by the interval at the stop of `measure --until`;
- `gap`: its mean over prompts, for prompts like these, of so many images each; `gap, chance
  removed`: for the true gap; `change of gap`: of the paired difference where a correction pulls
  most prompts towards equality;
- `any time`: the confidence sequence, at its worst look of 60.
"""

import argparse
import functools
import pathlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import norm

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.stats.correction import Confusion, corrected, corrected_over_prompts
from evenhand.stats.shares import (
    Estimate,
    gap,
    gap_bias,
    mean_over_prompts,
    shares,
    shares_over_prompts,
)
from evenhand.stats.stopping import LOOK, at_the_stop, confidence_sequence, enough, stopping_level
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-coverage.json"


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    kind: str
    classes: int = 2
    accuracy: float = 0.9
    labelled: int = 500
    prompts: int = 1
    images: int = 60
    width: float = 0.1


SETTINGS = [
    *(
        Setting("corrected", k, a, m, 1, n)
        for k in (2, 4, 8)
        for a in (0.83, 0.9, 0.99)
        for m in (100, 3000)
        for n in (30, 250)
    ),
    *(
        Setting("corrected", k, 0.9, m, p, 30)
        for k in (2, 4, 8)
        for m in (100, 3000)
        for p in (5, 20, 50)
    ),
    *(
        Setting("corrected, probabilities", k, a, m, 1, n)
        for k in (2, 4, 8)
        for a in (0.83, 0.99)
        for m in (100, 3000)
        for n in (30, 250)
    ),
    *(
        Setting("corrected, probabilities", k, 0.9, m, p, 30)
        for k in (2, 4, 8)
        for m in (100, 3000)
        for p in (5, 50)
    ),
    *(Setting("raw", 2, a, 500, 1, 250) for a in (0.83, 0.9, 0.99)),
    *(
        Setting("CLEAM", 2, a, m, 1, n)
        for a in (0.83, 0.99)
        for m in (100, 3000)
        for n in (250, 2000)
    ),
    *(Setting("raw, no errors", k, 1.0, 500, p, 30) for k in (2, 4, 8) for p in (1, 5, 20, 50)),
    *(
        Setting(kind, k, 1.0, 500, p, 30)
        for kind in ("gap", "gap, chance removed", "change of gap")
        for k in (2, 4)
        for p in (5, 20, 50)
    ),
    *(Setting("until", k, 1.0, 500, 1, 400, w) for k in (2, 4, 8) for w in (0.05, 0.1)),
    *(Setting("until, corrected", k, a, 500, 1, 400, 0.1) for k in (2, 4) for a in (0.83, 0.99)),
    *(Setting("any time", k, 1.0, 500, 1, 480) for k in (2, 4, 8)),
]


def coverage(setting: Setting, worlds: int, seed: int) -> tuple[float, float, int]:
    """Share of (world, class) pairs whose interval holds the truth; mean width; refused worlds."""
    rng, hits, widths, refused = np.random.default_rng([seed, *map(ord, setting.kind)]), [], [], 0
    for _ in range(worlds):
        try:
            held, width = _world(setting, rng)
        except UserError:
            refused += 1
            continue
        hits += held
        widths.append(width)
    return float(np.mean(hits)), float(np.mean(widths)), refused


def _world(s: Setting, rng: np.random.Generator) -> tuple[list[bool], float]:
    k = s.classes
    mean = rng.dirichlet(np.ones(k))
    if "gap" in s.kind:
        return _gaps(mean, s, rng)
    truths = rng.dirichlet(4 * mean + 1e-3, size=s.prompts) if s.prompts > 1 else mean[None]
    if s.prompts > 1:  # the truth for prompts like these is their distribution's mean
        mean = (4 * mean + 1e-3) / (4 + k * 1e-3)
    if s.kind == "corrected, probabilities":
        return _held(_by_probabilities(truths, s, rng), mean)
    matrix = _errors(s, rng)
    calls = np.stack([rng.multinomial(s.images, matrix @ t) for t in truths])
    if s.kind == "any time":
        return _any_time(mean, s, rng)
    if s.kind == "CLEAM":
        return _cleam(calls[0], mean, _labels(matrix, s, rng), rng)
    if s.kind.startswith("until"):
        found = _until(mean, matrix, s, rng)
    elif s.kind == "corrected":
        confusion = Confusion(_labels(matrix, s, rng))
        found = (
            corrected(calls[0], confusion)
            if s.prompts == 1
            else corrected_over_prompts(calls, confusion)
        )
    else:
        found = shares_over_prompts(calls)
    return _held(found, mean)


def _held(found: list[Estimate], truth: NDArray) -> tuple[list[bool], float]:
    return [e.low <= t <= e.high for e, t in zip(found, truth, strict=True)], float(
        np.mean([e.high - e.low for e in found])
    )


def _by_probabilities(truths: NDArray, s: Setting, rng: np.random.Generator) -> list[Estimate]:
    k, sure, lean = s.classes, rng.uniform(0.5, 2), rng.normal(0, 0.5, size=s.classes)
    distance = _distance(k, s.accuracy)

    def answers(true: int, n: int) -> NDArray:
        """The probabilities `[n, K]` given to images of a class."""
        scores = rng.normal(size=(n, k))
        scores[:, true] += distance
        return softmax(sure * distance * scores + lean, axis=1)

    labels = [answers(j, s.labelled) for j in range(k)]
    counts = np.stack([np.bincount(p.argmax(1), minlength=k + 1) for p in labels], 1)
    confusion = Confusion(
        counts,
        np.stack([p.mean(0) for p in labels], 1),
        np.stack([p.T @ p / len(p) for p in labels]),
    )
    sums = np.stack(
        [
            np.sum([answers(j, n).sum(0) for j, n in enumerate(rng.multinomial(s.images, t))], 0)
            for t in truths
        ]
    )
    return (
        corrected(sums[0], confusion) if s.prompts == 1 else corrected_over_prompts(sums, confusion)
    )


@functools.cache
def _distance(k: int, accuracy: float) -> float:
    """How far the true class's mean score is above the others', in standard deviations."""
    x = np.linspace(-9, 15, 4001)

    def right(d: float) -> float:
        return float(np.trapezoid(norm.pdf(x - d) * norm.cdf(x) ** (k - 1), x)) - accuracy

    return float(brentq(right, 0, 8))


def _gaps(mean: NDArray, s: Setting, rng: np.random.Generator) -> tuple[list[bool], float]:
    def prompts(m: int) -> tuple[NDArray, NDArray]:
        """The number of interest of m prompts as found, and as it is."""
        truths = rng.dirichlet(4 * mean + 1e-3, size=m)
        counts = rng.multinomial(s.images, truths)
        if s.kind == "gap":
            return gap(shares(counts)), gap(shares(counts))
        if s.kind == "change of gap":
            moved = truths + (1 / s.classes - truths) * rng.beta(4, 2, size=(m, 1))
            found = gap(shares(rng.multinomial(s.images, moved))) - gap(shares(counts))
            return found, found
        less = (
            [
                g - gap_bias(tuple(c.tolist()))
                for g, c in zip(gap(shares(counts)), counts, strict=True)
            ]
            if m == s.prompts
            else []
        )
        return np.array(less), gap(truths)

    truth = float(prompts(20_000)[1].mean())
    most = 2 / s.classes
    e = mean_over_prompts(
        prompts(s.prompts)[0],
        within=(-1, 1) if s.kind == "change of gap" else (0, most),
        images=s.prompts * s.images,
    )
    return [e.low <= truth <= e.high], e.high - e.low


def _errors(s: Setting, rng: np.random.Generator) -> NDArray:
    """A confusion matrix `A[i, j]` of about the accuracy, whose errors are uneven."""
    columns = []
    for j in range(s.classes):
        right = 1 - (1 - s.accuracy) * rng.uniform(0.5, 1.5)
        columns.append(np.insert(rng.dirichlet(np.ones(s.classes - 1)) * (1 - right), j, right))
    return np.array(columns).T


def _labels(matrix: NDArray, s: Setting, rng: np.random.Generator) -> NDArray:
    """Counts `[K + 1, K]` of a labelled set; everything is seen."""
    counts = np.stack([rng.multinomial(s.labelled, column) for column in matrix.T], 1)
    return np.vstack([counts, np.zeros(s.classes, dtype=int)])


def _until(truth: NDArray, matrix: NDArray, s: Setting, rng: np.random.Generator) -> list:
    counts = np.zeros(s.classes, dtype=int)
    while counts.sum() < s.images and not enough(counts, s.width, every=LOOK):
        counts += rng.multinomial(LOOK, matrix @ truth)
    if s.kind == "until":
        return [at_the_stop(int(c), int(counts.sum()), s.width, every=LOOK) for c in counts]
    return corrected(counts, Confusion(_labels(matrix, s, rng)), stopping_level(s.width, LOOK))


def _any_time(truth: NDArray, s: Setting, rng: np.random.Generator) -> tuple[list[bool], float]:
    counts, held, width = np.zeros(s.classes, dtype=int), True, 1.0
    while counts.sum() < s.images:
        counts += rng.multinomial(LOOK, truth)
        found = confidence_sequence(counts)
        held = held and all(e.low <= t <= e.high for e, t in zip(found, truth, strict=True))
        width = float(np.mean([e.high - e.low for e in found]))
    return [held], width


def _cleam(
    calls: NDArray, truth: NDArray, labels: NDArray, rng: np.random.Generator
) -> tuple[list[bool], float]:
    right = np.diag(labels[:-1]) / labels.sum(0)
    batches = rng.binomial(400, calls[0] / calls.sum(), size=30) / 400
    half = 1.96 * batches.std(ddof=1) / np.sqrt(30)
    low, high = ((batches.mean() + x - 1 + right[1]) / (right.sum() - 1) for x in (-half, half))
    return [bool(low <= truth[0] <= high)], float(high - low)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse_args()
    rows = []
    print(
        f"{'interval':22} {'K':>2} {'accuracy':>8} {'labelled':>8} {'prompts':>7} {'images':>6} "
        f"{'coverage':>8} {'width':>6}"
    )
    for s in SETTINGS:
        found, width, refused = coverage(s, args.worlds, args.seed)
        rows.append(
            {
                **asdict(s),
                "coverage": round(found, 4),
                "mean_width": round(width, 4),
                "refused": refused,
            }
        )
        print(
            f"{s.kind:22} {s.classes:2} {s.accuracy:8.2f} {s.labelled:8} {s.prompts:7} "
            f"{s.images:6} {found:8.3f} {width:6.2f}"
            + (f"  ({refused} refused)" if refused else ""),
            flush=True,
        )
    write_json(
        OUT, {"worlds": args.worlds, "seed": args.seed, "versions": versions(), "rows": rows}
    )


if __name__ == "__main__":
    main()
