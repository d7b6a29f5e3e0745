"""Which images a set takes: one after the other, in the order of the plan, never by arrival.

What it decides follows from the parts alone, so every process decides alike.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evenhand.generate.drawn import Drawn, unpacked
from evenhand.generate.quotas import Cell, Quotas, Stream, Tally

DUPLICATE, SURPLUS, OTHER = "duplicate", "surplus", "no cell"
REASONS = {
    "refused": "the service refused to draw it",
    "unreadable": "the file cannot be read as an image",
    "size": "smaller than asked for",
    "black": "black, or empty",
    "unsafe": "the model's safety checker takes offence",
    "not seen": "the judge found nothing to judge",
    "disagrees": "the judge perceives another class than was asked for",
    "unsure": "the judge is less sure than asked for",
    OTHER: "a class that the table does not have",
    DUPLICATE: "nearly the same as one taken before, of the same prompt",
    SURPLUS: "its cell was full",
}  # in the order in which they are looked for


@dataclass(frozen=True)
class Entry:
    """An image that the set takes, or one that it does not.

    Attributes:
        drawn: its row.
        stream: number of the stream that asked for it.
        cell: that it is of, as perceived; None where the filter stopped it before.
        group: of contexts.
        why: reason for which it is not taken, of `REASONS`; "" where it is.
        twin: file of the image that it nearly repeats.
        distance: from that one.
    """

    drawn: Drawn
    stream: int
    cell: Cell | None
    group: str
    why: str
    twin: str = ""
    distance: float = 0.0


class Ledger:
    """What the set has taken so far.

    Args:
        names: of the attributes, in the order of cells.
        streams: of the plan.
        duplicates: least distance of features within a prompt; None: not looked at.

    Attributes:
        quotas: of the places; they may grow.
        tally: numbers for `next_round`.
        entries: of all images, in the order of the plan.
        taken: those that the set takes.
    """

    def __init__(
        self, names: Sequence[str], streams: Sequence[Stream], duplicates: float | None
    ) -> None:
        self.names, self.streams, self.duplicates = list(names), streams, duplicates
        self.quotas: Quotas = {}
        self.tally = Tally()
        self.entries: list[Entry] = []
        self.taken: list[Entry] = []
        self._vectors: dict[str, np.ndarray] = {}  # [capacity, D], as many rows as files
        self._files: dict[str, list[str]] = defaultdict(list)

    @property
    def drawn(self) -> int:
        """Images drawn."""
        return len(self.entries)

    def open(self, quotas: Quotas, again: bool) -> None:
        """Sets the quotas, which may have grown.

        Args:
            quotas: of the places.
            again: offer the images again for which there was no need before.
        """
        self.quotas = quotas
        for i, entry in enumerate(self.entries if again else ()):
            if entry.why in (SURPLUS, OTHER):
                self.entries[i] = self._entry(entry.drawn, entry.stream)
                self._take(self.entries[i])

    def _take(self, entry: Entry) -> None:
        if entry.why or not entry.cell:
            return
        place, record = (entry.cell, entry.group), entry.drawn.record
        self.tally.taken[place] = self.tally.taken.get(place, 0) + 1
        self.taken.append(entry)
        if entry.drawn.vector and self.duplicates:
            self._remember(record.prompt, unpacked(entry.drawn.vector), record.image)

    def _remember(self, prompt: str, vector: np.ndarray, file: str) -> None:
        """Keeps the features of an image that was taken; their array doubles when it is full."""
        n = len(self._files[prompt])
        before = self._vectors.get(prompt)
        if before is None or n == len(before):
            after = np.zeros((max(2 * n, 8), len(vector)), dtype=np.float32)
            if before is not None:
                after[:n] = before
            self._vectors[prompt] = after
        self._vectors[prompt][n] = vector
        self._files[prompt].append(file)

    def add(self, rows: Sequence[Drawn], streams: Sequence[int]) -> None:
        """Takes what the set needs of some images, in their order."""
        for row, stream in zip(rows, streams, strict=True):
            entry, tally = self._entry(row, stream), self.tally
            tally.drawn[stream] = tally.drawn.get(stream, 0) + 1
            if entry.cell and entry.why != DUPLICATE:  # a quota of 0 may grow later
                tally.fits[stream, entry.cell] = tally.fits.get((stream, entry.cell), 0) + 1
            self._take(entry)
            self.entries.append(entry)

    def _entry(self, row: Drawn, stream: int) -> Entry:
        group = self.streams[stream].group
        if row.why:
            return Entry(row, stream, None, group, row.why)
        cell = tuple(row.record.perceived[name] for name in self.names)
        if (cell, group) not in self.quotas or not self.quotas[cell, group]:
            return Entry(row, stream, cell, group, OTHER)
        if self.tally.taken.get((cell, group), 0) >= self.quotas[cell, group]:
            return Entry(row, stream, cell, group, SURPLUS)
        twin, distance = self._twin(row)
        if twin:
            return Entry(row, stream, cell, group, DUPLICATE, twin, distance)
        return Entry(row, stream, cell, group, "")

    def _twin(self, row: Drawn) -> tuple[str, float]:
        """The image that this one nearly repeats, and how far it is from it."""
        n = len(self._files[row.record.prompt])
        if not (self.duplicates and row.vector and n):
            return "", 0.0
        distances = 1 - self._vectors[row.record.prompt][:n] @ unpacked(row.vector)
        k = int(distances.argmin())
        if distances[k] >= self.duplicates:
            return "", 0.0
        return self._files[row.record.prompt][k], round(max(float(distances[k]), 0.0), 5)

    def reasons(self) -> dict[str, int]:
        """How many images were not taken, by reason."""
        found = Counter(entry.why for entry in self.entries if entry.why)
        return {why: found[why] for why in REASONS if found[why]}
