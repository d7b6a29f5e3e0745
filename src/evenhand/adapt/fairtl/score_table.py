"""Scores of layers for readers: a table, and a plot."""

import pathlib
import statistics
from typing import Any

SHOWN = 30  # layers in the table and the plot


def table(found: dict[str, Any]) -> str:
    """The scores as a table in Markdown, the highest first."""
    seeds = len(next(iter(found["scores"].values())))
    lines = [
        f"# Layers of {found['model']} that change for the reference set",
        "",
        "Relative change of a layer's weights in a training on the reference images, less that on "
        "images of the model's own.",
        f"Rank correlation between seeds {found['rank_correlation']:.2f}: the order is "
        f"{'stable' if found['stable'] else 'unstable'}. Trained first: {len(found['first'])} of "
        f"{len(found['scores'])} layers.",
        "",
        f"| layer | first | mean | {' | '.join(f'seed {i + 1}' for i in range(seeds))} |",
        f"|---|---|---|{'---|' * seeds}",
    ]
    for layer, scores in list(found["scores"].items())[:SHOWN]:
        numbers = " | ".join(f"{x:.4f}" for x in [statistics.mean(scores), *scores])
        lines.append(f"| {layer} | {'yes' if layer in found['first'] else ''} | {numbers} |")
    if len(found["scores"]) > SHOWN:
        lines += ["", f"{len(found['scores']) - SHOWN} more layers stand in the JSON file."]
    return "\n".join(lines) + "\n"


def plot(path: pathlib.Path, found: dict[str, Any]) -> None:
    """Bars of the highest scores, a dot for each seed; those trained first are dark."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = list(found["scores"].items())[:SHOWN][::-1]
    figure = Figure(figsize=(8, 1 + 0.22 * len(rows)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    colours = ["#0072B2" if layer in found["first"] else "#BBBBBB" for layer, _ in rows]
    axes.barh([layer for layer, _ in rows], [statistics.mean(x) for _, x in rows], color=colours)
    for place, (_, scores) in enumerate(rows):
        axes.plot(scores, [place] * len(scores), ".", color="black", markersize=3)
    axes.tick_params(axis="y", labelsize=6)
    axes.set_xlabel("relative change on the reference set, less that on the model's own images")
    figure.savefig(path)
