"""What reports say of a simulated world, beside its truth: one function a kind of interval.

Each draws one world and returns the intervals with the numbers that they should hold.
"""

from collections.abc import Callable

import numpy as np
import worlds
from numpy.typing import NDArray
from settings import Setting

from evenhand.stats.after_stopping import first_look, moments_after
from evenhand.stats.confusion import Confusion
from evenhand.stats.correction import (
    change_of_corrected,
    corrected,
    corrected_means,
    corrected_over_prompts,
)
from evenhand.stats.means import change_of_means, mean_shares, pair_noise, within_reach
from evenhand.stats.moments import Moments, joined, of_counts
from evenhand.stats.roots import change_of_roots, root
from evenhand.stats.shares import Estimate, shares
from evenhand.stats.squares import Form, distance_from, squares, unevenness
from evenhand.stats.stopping import LOOK, at_the_stop, confidence_sequence, stopping_level

Held = list[tuple[Estimate, float]]
Kind = Callable[[Setting, np.random.Generator], Held]


def pairs(found: list[Estimate], truth: NDArray) -> Held:
    return list(zip(found, truth.tolist(), strict=True))


def drawn(s: Setting, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """True shares `[m, w, K]` of a run's prompts, those of many `[M, K]`, and the mean of these."""
    draw = worlds.prompts_of(s, rng)
    truths = draw(rng, s.prompts * s.wordings, s.classes).reshape(s.prompts, s.wordings, s.classes)
    if s.prompts * s.wordings == 1:
        return truths, truths[0], truths[0, 0]
    many = draw(rng, worlds.MANY, s.classes)
    return truths, many, many.mean(0)


def share(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    matrix, _ = worlds.errors(s, rng)
    found = worlds.calls(truths, matrix, s.images, rng)
    table = shares(found).mean(1) if s.prompts > 1 else shares(found)[0]
    return pairs(mean_shares(table, float(found.sum())), mean)


def share_within_reach(s: Setting, rng: np.random.Generator) -> Held:
    """The bounds that a report of few concepts names: of the first class."""
    truths, _, mean = drawn(s, rng)
    found = shares(worlds.calls(truths[:, 0], np.eye(s.classes), s.images, rng))[:, 0]
    low, high = within_reach(found)
    return [(Estimate(float(found.mean()), low, high, s.prompts), float(mean[0]))]


def corrected_share(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    matrix, known = worlds.errors(s, rng)
    confusion = Confusion(worlds.labelled(known, s, rng))
    found = worlds.calls(truths[:, 0], matrix, s.images, rng)
    return pairs(_corrected(found, confusion), mean)


def _corrected(found: NDArray, confusion: Confusion) -> list[Estimate]:
    if len(found) == 1:
        return corrected(found[0], confusion)
    return corrected_over_prompts(found, confusion)


def by_probabilities(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    answers = worlds.answers(s, rng)
    labels = [answers(j, s.labelled) for j in range(s.classes)]
    confusion = Confusion(
        np.stack([np.bincount(p.argmax(1), minlength=s.classes + 1) for p in labels], 1),
        np.stack([p.mean(0) for p in labels], 1),
        np.stack([p.T @ p / len(p) for p in labels]),
    )
    sums = [
        np.sum([answers(j, n).sum(0) for j, n in enumerate(rng.multinomial(s.images, t))], 0)
        for t in truths[:, 0]
    ]
    return pairs(_corrected(np.stack(sums), confusion), mean)


def true_root(many: NDArray, form: Form) -> float:
    """The root of the mean square of true shares `[M, K]`."""
    d = many - form.target
    return float(np.sqrt(np.einsum("mk,kl,ml->m", d, form.weights, d).mean()))


def gap(s: Setting, rng: np.random.Generator) -> Held:
    return _root(s, rng, unevenness(s.classes))


def distance(s: Setting, rng: np.random.Generator) -> Held:
    return _root(s, rng, distance_from(np.full(s.classes, 1 / s.classes)))


def _root(s: Setting, rng: np.random.Generator, form: Form) -> Held:
    truths, many, _ = drawn(s, rng)
    matrix, known = worlds.errors(s, rng)
    confusion = Confusion(worlds.labelled(known, s, rng)) if s.accuracy < 1 else None
    found = of_counts(worlds.calls(truths[:, 0], matrix, s.images, rng))
    return [(root(squares(found, form, confusion)), true_root(many, form))]


def change_of_gap(s: Setting, rng: np.random.Generator) -> Held:
    draw, form = worlds.changes_of(s, rng), unevenness(s.classes)
    matrix, known = worlds.errors(s, rng)
    confusion = Confusion(worlds.labelled(known, s, rng)) if s.accuracy < 1 else None
    before, after = (
        of_counts(worlds.calls(t, matrix, s.images, rng)) for t in draw(rng, s.prompts)
    )
    was, is_now = (true_root(t, form) for t in draw(rng, worlds.MANY))
    return [(change_of_roots(before, after, form, confusion), is_now - was)]


def change_of_share(s: Setting, rng: np.random.Generator) -> Held:
    """Of images that are drawn independently before and after, as if seeds told nothing."""
    draw = worlds.changes_of(s, rng)
    matrix, known = worlds.errors(s, rng)
    answers = [
        rng.multinomial(1, (t @ matrix.T)[:, None, :], size=(s.prompts, s.images))
        for t in draw(rng, s.prompts)
    ]
    tables = [a.mean(1) for a in answers]
    steps = (answers[1] - answers[0]).reshape(-1, s.classes)
    was, is_now = (float(t[:, 0].mean()) for t in draw(rng, worlds.MANY))
    if s.accuracy < 1:
        confusion = Confusion(worlds.labelled(known, s, rng))
        found = change_of_corrected(tables[0], tables[1], steps, confusion)
    else:
        found = change_of_means(tables[0], tables[1], np.diag(pair_noise(steps)))
    return [(found[0], is_now - was)]


def until(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    (counts,) = worlds.until(truths[:, 0], np.eye(s.classes), s, rng)
    n = int(counts.sum())
    return pairs([at_the_stop(int(c), n, s.width, every=LOOK) for c in counts], mean)


def until_corrected(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    matrix, known = worlds.errors(s, rng)
    (counts,) = worlds.until(truths[:, 0], matrix, s, rng)
    confusion = Confusion(worlds.labelled(known, s, rng))
    return pairs(corrected(counts, confusion, stopping_level(s.width, LOOK)), mean)


def _stopped(counts: NDArray, s: Setting) -> Moments:
    """What prompts that stopped early tell."""
    kinds = np.arange(s.classes)
    return joined(
        [
            moments_after(
                np.repeat(np.eye(s.classes), c, 0),
                np.repeat(kinds, c),
                np.ones(s.classes, dtype=bool),
                first_look(c, [kinds], s.width, every=LOOK),
            )
            for c in counts
        ]
    )


def until_mean(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    found = worlds.until(truths[:, 0], np.eye(s.classes), s, rng)
    return pairs(mean_shares(_stopped(found, s).mean, float(found.sum())), mean)


def until_corrected_mean(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    matrix, known = worlds.errors(s, rng)
    found = worlds.until(truths[:, 0], matrix, s, rng)
    confusion = Confusion(worlds.labelled(known, s, rng))
    return pairs(corrected_means(_stopped(found, s).mean, float(found.sum()), confusion), mean)


def until_gap(s: Setting, rng: np.random.Generator) -> Held:
    truths, many, _ = drawn(s, rng)
    found = worlds.until(truths[:, 0], np.eye(s.classes), s, rng)
    form = unevenness(s.classes)
    return [(root(squares(_stopped(found, s), form)), true_root(many, form))]


def any_time(s: Setting, rng: np.random.Generator) -> Held:
    """The confidence sequence at all its looks: one interval that held throughout, or none."""
    truths, _, mean = drawn(s, rng)
    looks = rng.multinomial(LOOK, truths[0, 0], size=s.images // LOOK).cumsum(0)
    found = pairs(confidence_sequence(looks[0]), mean)
    for counts in looks:
        found = pairs(confidence_sequence(counts), mean)
        missed = [(e, t) for e, t in found if not (e.low or 0) <= t <= (e.high or 0)]
        if missed:
            return missed[:1]
    return found[:1]


def cleam(s: Setting, rng: np.random.Generator) -> Held:
    truths, _, mean = drawn(s, rng)
    matrix, known = worlds.errors(s, rng)
    ((first, second),) = worlds.calls(truths[:, 0], matrix, s.images, rng)
    labels = worlds.labelled(known, s, rng)
    right = np.diag(labels[:-1]) / labels.sum(0)
    batches = rng.binomial(400, first / (first + second), size=30) / 400
    half = 1.96 * batches.std(ddof=1) / np.sqrt(30)
    value, low, high = (
        float((batches.mean() + x - 1 + right[1]) / (right.sum() - 1)) for x in (0, -half, half)
    )
    return [(Estimate(value, low, high, s.images), float(mean[0]))]


KINDS: dict[str, Kind] = {
    "raw": share,
    "share": share,
    "share, within reach": share_within_reach,
    "corrected": corrected_share,
    "corrected, probabilities": by_probabilities,
    "CLEAM": cleam,
    "gap": gap,
    "distance": distance,
    "change of gap": change_of_gap,
    "change of kept share": change_of_share,
    "corrected change of share": change_of_share,
    "corrected gap": gap,
    "corrected change of gap": change_of_gap,
    "until": until,
    "until, corrected": until_corrected,
    "until, mean": until_mean,
    "until, gap": until_gap,
    "until, corrected mean": until_corrected_mean,
    "any time": any_time,
}
