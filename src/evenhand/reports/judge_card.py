"""The card of an attribute classifier of one's own: what it names, and how often it errs."""

import pathlib

from evenhand.core.files import write_text
from evenhand.reports.rendering import card_template
from evenhand.stats.calibration import Calibration


def write_judge_card(folder: pathlib.Path, calibration: Calibration) -> None:
    """Writes `README.md` into the folder of a classifier that was trained and calibrated here.

    Args:
        folder: of the classifier, as `evenhand classifier train` writes it.
        calibration: the tables that the card shows, shares of each class by what it was called.
    """
    tables = calibration.attributes
    called = {
        name: list(dict.fromkeys(c for row in rows.values() for c in row))
        for name, rows in tables.items()
    }
    text = card_template("judge-card.md.j2").render(
        calibration=calibration, tables=tables, called=called
    )
    write_text(folder / "README.md", text)
