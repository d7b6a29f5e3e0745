"""One job on the device at a time; the others wait, and each knows its place."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from evenhand.core.errors import UserError

T = TypeVar("T")
AWAY = 30.0  # seconds after which a job that nobody asks for is nobody's


class Job(Generic[T]):
    """What is done for one visitor.

    Attributes:
        done: whether it is over.
        replaced: whether its visitor has asked for something else since.
        error: why it ended early; None where it did not, or was stopped.
    """

    def __init__(self, do: Callable[["Job[T]"], Iterator[T]]) -> None:
        self.do = do
        self.done = False
        self.replaced = False
        self.error: str | None = None
        self._latest: T | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._asked = time.monotonic()

    def stop(self) -> None:
        """Asks it to end as soon as it can."""
        self._stop.set()

    @property
    def unwanted(self) -> bool:
        """Whether it shall end: it was stopped, or nobody has asked for it for `AWAY` seconds."""
        return self._stop.is_set() or time.monotonic() - self._asked > AWAY

    def latest(self) -> T | None:
        """What has come of it since it was last asked; None where nothing has."""
        self._asked = time.monotonic()
        with self._lock:
            found, self._latest = self._latest, None
        return found

    def run(self) -> None:
        """Does it, in the thread of the device."""
        try:
            for found in self.do(self):
                with self._lock:
                    self._latest = found
        except UserError as error:
            self.error = str(error)
        except Exception as error:
            traceback.print_exception(error)
            self.error = (
                "The device's memory ran out: ask for a smaller model."
                if type(error).__name__ == "OutOfMemoryError"
                else f"This is a fault of evenhand ({type(error).__name__}); the terminal in which "
                "the app runs says more."
            )
        finally:
            self.done = True


class Desk(Generic[T]):
    """Takes jobs in and does them one after another, in a thread of its own.

    Args:
        waiting: jobs that may wait.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._jobs: list[Job[T]] = []  # the first is at work
        self._of: dict[str, Job[T]] = {}  # by visitor
        self._change = threading.Condition()
        self._open = True
        threading.Thread(target=self._work, daemon=True, name="device").start()

    def submit(self, visitor: str, do: Callable[[Job[T]], Iterator[T]]) -> Job[T]:
        """Puts a job at the end of the queue; another one of the same visitor is stopped.

        Raises:
            UserError: too many wait.
        """
        self.stop(visitor, replaced=True)
        with self._change:
            if sum(not job.unwanted for job in self._jobs) > self.waiting:
                raise UserError(f"{self.waiting} others are waiting already; try again later.")
            job = Job(do)
            self._jobs.append(job)
            self._of[visitor] = job
            self._change.notify_all()
        return job

    def place(self, job: Job[T]) -> int:
        """How many jobs are done before it."""
        with self._change:
            before = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
        return sum(not other.unwanted for other in before)

    def stop(self, visitor: str, *, replaced: bool = False) -> bool:
        """Stops the visitor's job, perhaps for another one. Returns whether there was one."""
        with self._change:
            job = self._of.pop(visitor, None)
            if job is None or job.done:
                return False
            job.replaced = replaced
            job.stop()
            if job is not self._jobs[0]:  # it waits: nothing has to end
                self._jobs.remove(job)
                job.done = True
        return True

    def close(self) -> None:
        """Stops everything and takes nothing in any more."""
        with self._change:
            self._open = False
            for job in self._jobs:
                job.stop()
            self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or not self._open)
                if not self._open:
                    return
                job = self._jobs[0]
            if job.unwanted:
                job.done = True
            else:
                job.run()
            with self._change:
                self._jobs.remove(job)
                self._of = {who: one for who, one in self._of.items() if one is not job}
