"""Requests to the Hub: tried again where that helps, else refused in one line without a token."""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from evenhand.core.errors import UserError

T = TypeVar("T")
Say = Callable[[str], None]
TRIES = 5
LONGEST = 60.0  # seconds of a pause that the Hub asks for
LATER = {408, 409, 412, 425, 429, 500, 502, 503, 504}
LOGIN = "`hf auth login`, or set HF_TOKEN (huggingface.co/settings/tokens)"


class NotThere(UserError):
    """The Hub shows no such repository."""


def refuse_without_token() -> None:
    """Raises UserError where huggingface_hub finds no token."""
    if not get_token():
        raise UserError(f"the Hub takes nothing without a token with write access: {LOGIN}")


def tried(repo: str, do: Callable[[], T], *, say: Say = lambda _: None, tries: int = TRIES) -> T:
    """What `do` returns, after as many tries as it takes where the Hub may answer later.

    Raises:
        UserError: what was wrong, in one line that holds no token.
    """
    for left in reversed(range(tries)):
        try:
            return do()
        except UserError:
            raise
        except Exception as error:
            pause = _pause(repo, error, tries - left)
            if not left:
                raise UserError(f"{repo}: {_reason(error)}; the same command goes on") from None
            say(f"{repo}: {_reason(error)}; again in {pause:.0f} s")
            time.sleep(pause)
    raise AssertionError("not reached")


# What the Xet client says where the Hub or its store refuses: not an answer, a text.
_BY_XET = re.compile(r"HTTP status client error \((\d{3})\b.*?domain: (\S+)", re.DOTALL)
_OF_SYSTEM = re.compile(r"\(os error (\d+)\)")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(error: BaseException) -> bool:
    library = type(error).__module__.split(".")[0]
    return library.startswith("httpx") or isinstance(error, ConnectionError)


def _reason(error: Exception) -> str:
    """What went wrong, in one line without the token."""
    text, status = str(error) or type(error).__name__, ""
    for e in _chain(error):
        if isinstance(e, HfHubHTTPError):
            text, status = e.server_message or str(e), f"the Hub answers {e.response.status_code}: "
            break
        if _is_of_the_network(e):
            status = "the Hub cannot be reached: "
    line = " ".join(f"{status}{text}".split())[:300]
    return line.replace(get_token() or "\0", "***")


def _refuse(repo: str, status: int, where: str, *, reads: bool) -> None:
    """Raises UserError where an answer's status says that another try would not help.

    Args:
        repo: of which it was asked.
        status: of the answer.
        where: address that answered.
        reads: whether it was asked to read.
    """
    if status == 401:
        raise UserError(f"{repo}: the Hub does not know the token: {LOGIN}") from None
    if status == 403:
        may = "read this" if reads else "write here"
        raise UserError(f"{repo}: the token may not {may}: {LOGIN}") from None
    if status == 404 and "/xet-" in where:
        raise UserError(f"{repo}: this Hub has no Xet storage; set HF_HUB_DISABLE_XET=1") from None


def _pause(repo: str, error: Exception, tries: int) -> float:
    """Seconds to wait before the next try.

    Raises:
        UserError: another try would not help.
    """
    for e in _chain(error):
        if isinstance(e, OfflineModeIsEnabled):
            raise UserError(f"{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked") from None
        if isinstance(e, GatedRepoError):
            raise UserError(
                f"{repo}: its owner asks you to accept the terms on its page first; then {LOGIN}"
            ) from None
        if isinstance(e, RepositoryNotFoundError | RevisionNotFoundError):
            raise NotThere(f"{repo}: is not on the Hub, or private: {LOGIN}") from None
        if isinstance(e, HfHubHTTPError):
            answer = e.response
            reads = answer.request.method in {"GET", "HEAD"}
            _refuse(repo, answer.status_code, str(answer.url), reads=reads)
            if answer.status_code in LATER:
                asked = answer.headers.get("Retry-After", "")
                return min(float(asked) if asked.isdecimal() else 2.0**tries / 2, LONGEST)
            break
        if found := _BY_XET.search(str(e)):
            _refuse(repo, int(found[1]), found[2], reads="xet-read-token" in found[2])
            if int(found[1]) not in LATER:
                break
        if found := _OF_SYSTEM.search(str(e)):  # the Xet client cannot write: a full disk
            raise OSError(int(found[1]), os.strerror(int(found[1])), repo) from None
        if _is_of_the_network(e):
            return 2.0**tries / 2
        if isinstance(e, OSError) and e.errno:  # a full disk
            raise OSError(e.errno, e.strerror, e.filename or repo) from None
    raise UserError(f"{repo}: {_reason(error)}") from None
