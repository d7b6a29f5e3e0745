"""Rows of CSV: the one reader of every table that a user writes."""

import csv
import io
from collections import Counter
from collections.abc import Iterator


def csv_rows(text: str) -> Iterator[dict[str, str]]:
    """Rows of CSV by column; what is no CSV is refused instead of guessed.

    Raises:
        csv.Error: a column that stands twice, a row of another length, quotes that do not close.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = next(reader, [])
    if twice := [name for name, n in Counter(columns).items() if n > 1]:
        raise csv.Error(f"column {twice[0]!r} stands twice")
    for row in reader:
        if row and len(row) != len(columns):
            raise csv.Error(
                f"line {reader.line_num}: {len(row)} values for {len(columns)} columns; a value "
                'with a comma stands in quotes: "..."'
            )
        if row:
            yield dict(zip(columns, row, strict=True))
