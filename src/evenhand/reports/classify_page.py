"""The page of a report of `evenhand classify`, its plots, and the classifiers' cards. No torch."""

import pathlib
from typing import Any

from evenhand.core.files import write_json, write_text
from evenhand.core.schema import merged
from evenhand.reports.classify_models import SCORES, ClassifyReport, MaskRow
from evenhand.reports.html import page_template
from evenhand.reports.plots import PALETTE, WIDTH, svg
from evenhand.reports.rendering import card_template
from evenhand.stats.shares import Estimate

WORDS = {
    "worst_group": "worst group",
    "balanced": "mean of groups",
    "accuracy": "accuracy",
    "adjusted_accuracy": "accuracy, adjusted to training proportions",
    "equalized_odds_mean": "equalized odds difference, mean",
    "equalized_odds_max": "equalized odds difference, max",
    "demographic_parity": "demographic parity difference",
}


def write_page(path: pathlib.Path, report: ClassifyReport) -> None:
    """Writes the self-contained page of a report."""
    masks = {name: one.mask for name, one in report.variants.items() if one.mask}
    html = page_template("classify.html.j2").render(
        report=report,
        scores=SCORES,
        words=WORDS,
        bars=bars(report),
        masks={name: (rows, mask_plot(rows)) for name, rows in masks.items()},
    )
    write_text(path, html)


def write_cards(folder: pathlib.Path, report: ClassifyReport) -> None:
    """Writes beside every classifier what it is, with its numbers.

    `README.md` is the card for readers, `classifier.json` the same for programs.
    """
    card = card_template("classifier-card.md.j2")
    for name, one in report.variants.items():
        for place, seed in enumerate(one.seeds):
            target = folder / name / f"seed-{seed}" / "classifier"
            if target.is_dir():
                text = card.render(
                    report=report,
                    name=name,
                    one=one,
                    place=place,
                    seed=seed,
                    words=WORDS,
                    scores=SCORES,
                )
                write_text(target / "README.md", text)
                write_json(target / "classifier.json", _described(report, name, place))


def _described(report: ClassifyReport, name: str, place: int) -> dict[str, Any]:
    """One classifier of a report: its numbers, those of trainings like it, and the recipe."""
    one, whole = report.variants[name], report.as_json()
    kept = ("target", "protected", "data", "counts", "notes", "versions")
    settings = {k: v for k, v in report.settings.items() if k != "variants"}
    return {
        "schema": 1,
        "variant": name,
        "seed": one.seeds[place],
        "numbers": {score: one.per_seed[score][place] for score in SCORES},
        "trainings_like_it": whole["variants"][name],
        "settings": merged(settings, (report.settings.get("variants") or {}).get(name, {})),
        **{key: whole[key] for key in kept},
    }


def bars(report: ClassifyReport) -> str:
    """Accuracy of each group, and of the worst, with intervals; the variants under each other."""
    from matplotlib.figure import Figure

    names = list(report.variants)
    rows = [*report.groups, "worst group"]
    height = 0.8 / len(names)
    figure = Figure(figsize=(WIDTH, 0.9 + len(rows) * (0.3 + 0.17 * len(names))))
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    for i, name in enumerate(names):
        one = report.variants[name]
        found = [*(one.group_accuracy[g] for g in report.groups), one.worst_group]
        places = [y - 0.4 + (i + 0.5) * height for y in range(len(rows))]
        axes.barh(
            places,
            [e.value or 0.0 for e in found],
            0.9 * height,
            xerr=_whiskers(found),
            color=PALETTE[i % len(PALETTE)],
            ecolor="black",
            error_kw={"linewidth": 1},
            label=str(i),
        )
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel="accuracy on the test images")
    axes.set_yticks(range(len(rows)), [label.replace(", ", "\n") for label in rows], fontsize=9)
    axes.tick_params(axis="y", length=0)
    legend = axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=9
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    return svg(figure)


def _whiskers(found: list[Estimate]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    values = [e.value or 0.0 for e in found]
    low = [v - (v if e.low is None else e.low) for v, e in zip(values, found, strict=True)]
    high = [(v if e.high is None else e.high) - v for v, e in zip(values, found, strict=True)]
    return [[max(x, 0.0) for x in low], [max(x, 0.0) for x in high]]


def mask_plot(rows: list[MaskRow]) -> str:
    """Every tensor by both scores; the area is its number of parameters."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    most = max(row.parameters for row in rows)
    for trained, colour, label in ((True, PALETTE[0], "trained"), (False, "#999999", "frozen")):
        those = [row for row in rows if row.trained == trained]
        axes.scatter(
            [max(row.domain, 1e-12) for row in those],
            [max(row.bias, 1e-12) for row in those],
            s=[12 + 300 * row.parameters / most for row in those],
            color=colour,
            alpha=0.6,
            label=label,
        )
    axes.set(xscale="log", yscale="log", xlabel="domain sensitivity", ylabel="bias sensitivity")
    for axis in (axes.xaxis, axes.yaxis):  # plain numbers: the page shows text as it is
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=9)
    return svg(figure)
