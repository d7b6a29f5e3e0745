"""Work that several processes share.

A plan is cut into units. A process that holds a unit's lease does it and writes what came of it,
its *part*, whole. A unit is done if and only if its part exists: a process that dies holds up
nobody, and any other, now or later, does what it left. No process talks to another, so nothing
hangs and nothing is counted twice.
"""

import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import TypeVar

from evenhand.core.errors import UserError
from evenhand.core.files import write_text
from evenhand.core.locks import lease

T = TypeVar("T", bound=Sized)
PAUSE = 0.1  # seconds between two looks at units that others hold


@dataclass(frozen=True)
class Share:
    """Which of the units a process does.

    Attributes:
        rank: of this process, 0 to world - 1.
        world: number of processes.
        only: it does its own units alone. Else it begins with these, helps the others, and waits
            until all are done.
    """

    rank: int = 0
    world: int = 1
    only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UserError(
                f"shard {self.rank}/{self.world}: the first number is 0 to {self.world - 1}"
            )


def share_of(shard: str | None = None) -> Share:
    """The share that `--shard i/n` names; else the one that the launcher says.

    Launchers are torchrun and accelerate (RANK, WORLD_SIZE), and Slurm (SLURM_PROCID,
    SLURM_NTASKS).

    Raises:
        UserError: a shard that is none.
    """
    if shard:
        rank, slash, world = shard.partition("/")
        if not (slash and rank.isdecimal() and world.isdecimal() and int(world)):
            raise UserError(f"shard {shard!r}: write i/n, such as 0/8 for the first of eight")
        return Share(int(rank), int(world), only=True)
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if os.environ.get(rank, "").isdecimal() and os.environ.get(world, "").isdecimal():
            return Share(int(os.environ[rank]), int(os.environ[world]))
    return Share()


def part_of(folder: pathlib.Path, unit: str) -> pathlib.Path:
    """The file of a unit's part, in a run directory."""
    return folder / "parts" / f"{unit}.jsonl"


def work(
    units: Mapping[str, T],
    folder: pathlib.Path,
    do: Callable[[T], str],
    *,
    share: Share,
    progress: Callable[[int], None] | None = None,
) -> bool:
    """Does units until none is left to do.

    Args:
        units: by name, in the order of the plan. A name says all that the unit's result depends on
            and a run's settings do not.
        folder: the run directory.
        do: makes a unit's part, a text.
        share: of this process.
        progress: called with the number of items in the units that are done, by whomever.

    Returns:
        whether all units are done; they are, unless `share.only`.
    """
    names, tell = list(units), progress or (lambda _: None)
    ranks = [share.rank] if share.only else [*range(share.rank, share.world), *range(share.rank)]
    left = [name for rank in ranks for name in names[rank :: share.world]]
    while True:
        done = {name for name in names if part_of(folder, name).exists()}
        items = sum(len(units[name]) for name in done)
        tell(items)
        waiting, left = left, [name for name in left if name not in done]
        if not left:
            return len(done) == len(names)
        if waiting == left:
            time.sleep(PAUSE)
        for name in left:
            with lease(folder / ".leases" / name) as held:
                if held and not part_of(folder, name).exists():
                    write_text(part_of(folder, name), do(units[name]))
                    items += len(units[name])
                    tell(items)
