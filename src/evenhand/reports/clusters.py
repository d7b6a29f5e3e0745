"""The plot of a choice of clusters."""

from collections.abc import Sequence

from evenhand.reports.plots import PALETTE, WIDTH, svg
from evenhand.stats.clusters import Tried


def silhouette_plot(tried: Sequence[Tried], least: float) -> str:
    """Mean silhouette by the number of clusters, as SVG.

    Args:
        tried: numbers of clusters.
        least: below which a group is one cluster.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    known = [(x.k, x.silhouette) for x in tried if x.silhouette is not None]
    axes.plot([k for k, _ in known], [s for _, s in known], "o-", color=PALETTE[0])
    axes.axhline(least, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="clusters\n(dashed: below it a group is one cluster)", ylabel="silhouette")
    axes.set_xticks([x.k for x in tried])
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)
