"""What verbs print: progress bars and tables."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from evenhand.page import number

console = Console()


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar; yields `update(done, total, note)`, also usable as `update(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
               TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None, note="")
        started: dict[str, float] = {}

        def update(done: int, total: int, note: str | None = None) -> None:
            now = bar.get_time()
            first, at = started.setdefault("done", done), started.setdefault("at", now)
            rate = f"{(done - first) / (now - at):.1f} images/s" if done > first and now > at else ""
            bar.update(task, completed=done, total=total, note=rate if note is None else note)

        yield update


def summary(report: dict[str, Any], change: dict[str, Any] | None = None, before: dict[str, Any] | None = None) -> Table:
    """The headline numbers of a report, beside those of another when given."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ["", *(["before", "after", "change, same seeds"] if before else ["found"]), "target", "chance floor"]:
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    runs = [before, report] if before else [report]

    def row(name: str, pick: Callable[[dict], Any], difference: Any = None, target: str = "", floor: str = "") -> None:
        table.add_row(name, *(number(pick(r)) for r in runs), *([number(difference) if difference else ""] if change else []),
                      target, floor)

    for a, entry in report["attributes"].items():
        for split, s in entry["splits"].items():
            table.add_row(f"[bold]{a}[/bold], {split}: {s['prompts']} prompts, {s['images']} images")
            delta = change["attributes"][a]["splits"][split] if change else {}
            row(f"  gap {' / '.join(entry['contrast'])}", lambda r, a=a, s=split: r["attributes"][a]["splits"][s]["gap"],
                delta.get("gap"), "", number(s["gap_floor"]))
            if s["distance"]:
                row("  distance to target", lambda r, a=a, s=split: r["attributes"][a]["splits"][s]["distance"],
                    delta.get("distance"), "0", number(s["distance_floor"]))
            for k, c in enumerate(entry["classes"]):
                row(f"  share {c}", lambda r, a=a, s=split, c=c: r["attributes"][a]["splits"][s]["shares"][c],
                    None, f"{entry['target'][k]:.2f}" if entry["target"] else "")
            row("  not seen", lambda r, a=a, s=split: r["attributes"][a]["splits"][s]["unseen"])
        if entry["explicit"]:
            row("  explicit prompts keep the class", lambda r, a=a: r["attributes"][a]["explicit"]["all"],
                change and change["attributes"][a]["explicit"])
    for split in report["concept_fidelity"]:
        row(f"{report['run']['settings']['concept']} as asked, {split}", lambda r, s=split: r["concept_fidelity"][s],
            change and change["concept_fidelity"][split])
    return table
