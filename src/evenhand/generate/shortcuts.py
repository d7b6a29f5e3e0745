"""Can labels be told from what they should not be told by: brightness, blur, file size?

Images that were drawn otherwise for one class than for another (another adapter, other words) may
differ in such things, and a classifier that learns from them learns these instead.
"""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from evenhand.generate.ledger import Entry
from evenhand.generate.report import ShortcutReport
from evenhand.stats.shares import wilson

TOLD_BY = ("brightness", "sharpness", "bytes")
FOLDS = 5
MOST = 5000  # images that are looked at, spread over the set


def shortcuts(entries: Sequence[Entry], names: Sequence[str]) -> list[ShortcutReport]:
    """Cross-validated accuracies of logistic regressions on simple facts of the images.

    Args:
        entries: images that a set takes.
        names: of the attributes, in the order of cells.

    Returns:
        for each attribute and the whole cell, by each fact alone and by all; nothing where a label
        has fewer images than there are folds.
    """
    chosen = entries[:: max(1, -(-len(entries) // MOST))]
    facts = np.array([[getattr(e.drawn, name) for name in TOLD_BY] for e in chosen], dtype=float)
    labels = {name: [(e.cell or ())[i] for e in chosen] for i, name in enumerate(names)}
    if len(names) > 1:
        labels["cell"] = ["/".join(e.cell or ()) for e in chosen]
    found = []
    for label, values in labels.items():
        frequent = Counter(values)
        if len(frequent) < 2 or min(frequent.values()) < FOLDS:
            continue
        for told_by in (*TOLD_BY, "all"):
            columns = slice(None) if told_by == "all" else [TOLD_BY.index(told_by)]
            right = _right(facts[:, columns], values)
            found.append(
                ShortcutReport(
                    label=label,
                    told_by=told_by,
                    accuracy=wilson(right, len(values)).rounded(),
                    chance=round(max(frequent.values()) / len(values), 6),
                )
            )
    return found


def _right(facts: np.ndarray, labels: Sequence[str]) -> int:
    """How many labels a logistic regression tells that was fitted on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not quite converged tells enough
        told = cross_val_predict(model, facts, np.array(labels), cv=folds)
    return int(np.count_nonzero(told == np.array(labels)))
