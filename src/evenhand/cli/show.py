"""What verbs print: progress bars and tables."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from evenhand.reports.changes import Change
from evenhand.reports.headlines import headlines, labels_of, number
from evenhand.reports.models import Report
from evenhand.reports.sentence import in_words

console = Console()
console.width = max(
    console.width, 120
)  # a narrow terminal wraps the table; cut numbers would be worse


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar; yields `update(done, total, note)`, also usable as `update(done, total)`."""
    only_our_bars()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    first = os.environ.get("RANK", "0") == "0"  # of several processes one tells
    if first and not console.is_terminal:
        yield _lines(what)
        return
    with Progress(*columns, console=console, disable=not first) as bar:
        task = bar.add_task(what, total=None, note="")
        started: dict[str, float] = {}

        def update(done: int, total: int, note: str | None = None) -> None:
            now = bar.get_time()
            first, at = started.setdefault("done", done), started.setdefault("at", now)
            rate = (
                f"{(done - first) / (now - at):.1f} images/s" if done > first and now > at else ""
            )
            bar.update(task, completed=done, total=total, note=rate if note is None else note)

        yield update


EVERY = 10.0  # seconds between two lines of progress in a file


def _lines(what: str) -> Callable[..., None]:
    """Progress as lines, for output that goes to a file: one now and then, and the last."""
    started = last = time.monotonic()

    def update(done: int, total: int, note: str | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < EVERY:
            return
        last = now
        after = f", {note}" if note else ""
        print(f"{what}: {done} of {total}, {now - started:.0f} s{after}", flush=True)

    return update


def only_our_bars() -> None:
    """Silences the bars with which the model libraries accompany every file they load."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def tell(runs: list[Report], change: Change | None, notes: list[str]) -> None:
    """Says what was found: in sentences, as a table, and what a reader must know of it."""
    for sentence in in_words(runs, change):
        print(sentence)
    console.print(summary(runs, change))
    for note in [*runs[-1].cautions, *notes]:
        print(note)


def tell_page(page: pathlib.Path, runs: list[Report], pictures: bool) -> None:
    """Says where the page is, and that it holds photographs where it does."""
    print(f"report: {page}")
    if pictures and any(r.run.settings.get("images_from") for r in runs):
        print(
            "The page holds some of the photographs themselves: whoever gets it sees the faces in "
            "them. --no-images writes it without."
        )


def summary(runs: list[Report], change: Change | None = None) -> Table:
    """The headline numbers of one report, or of two beside each other with their change."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    found = labels_of(runs, change)
    for heading in [
        "",
        *found,
        *(["between both" if change.agreement else "change"] if change else []),
        "target",
        "chance floor",
    ]:
        table.add_column(
            heading, justify="right" if heading else "left", no_wrap=bool(heading)
        )  # subjects may wrap, numbers not
    subject = None
    for line in headlines(runs, change):
        if line.subject != subject:
            subject = line.subject
            table.add_row(Text(subject, style="bold"))
        extra = [*([line.change] if change else []), line.target, line.floor]
        table.add_row(
            Text(f"  {line.what}"),  # names are text, whatever signs they hold
            *map(number, line.found),
            *("" if x is None else number(x) for x in extra),
        )
    return table
