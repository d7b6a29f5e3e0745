"""Questions to services that speak OpenAI's protocols: asked again where that helps.

Errors are one line, and hold no key.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from evenhand.core.errors import UserError

LATER = {408, 409, 425, 429, 500, 502, 503, 504}
TRIES = 5
PAUSE = 0.5  # seconds; doubled before each further try
LONGEST = 60.0  # seconds of a pause that a service asks for


POLICIES = {"content_policy_violation", "moderation_blocked", "content_filter"}  # codes of errors


class Nonsense(ValueError):
    """An answer that is none of the protocol."""


class Refused(UserError):
    """The service does not do what was asked, since its policy forbids it; `why` says so."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}")
        self.why = why


def ask(
    url: str,
    body: dict[str, Any],
    *,
    key: str,
    timeout: float,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What a service answers to a JSON body.

    Args:
        url: whole, such as `https://.../v1/chat/completions`.
        body: the question.
        key: environment variable that holds the service's key; none is sent where it is not set.
        timeout: seconds to wait for an answer.
        say: called before a question is asked again.

    Raises:
        Refused: its policy forbids what was asked.
        UserError: the service wants money or another key, does not know the model, or did not
            answer however often it was asked.
        Nonsense: it answered with something that is no JSON object.
    """
    content = json.dumps(body).encode()
    return _object(_answered(url, content, key=key, timeout=timeout, say=say))


def fetch(url: str, *, timeout: float, say: Callable[[str], None] = lambda _: None) -> bytes:
    """What lies at an address to which a service leads; no key goes there.

    Raises:
        UserError: it is not there, or was not answered however often it was asked.
    """
    return _answered(url, None, key="", timeout=timeout, say=say)


def _answered(
    url: str, content: bytes | None, *, key: str, timeout: float, say: Callable[[str], None]
) -> bytes:
    """What is answered, after as many tries as it takes; `content` is posted where there is any."""
    secret = os.environ.get(key, "")
    for attempt in range(1, TRIES + 1):
        try:
            request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
            if secret:  # not to where the service may lead: that is another's
                request.add_unredirected_header("Authorization", f"Bearer {secret}")
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            words, code = _words(error, secret)
            if code in POLICIES:
                raise Refused(url, words) from None
            why = f"answers {error.code}: {words}"
            if error.code not in LATER:
                raise UserError(f"{url}: {why}{_advice(error.code, key)}") from None
            asked = error.headers.get("Retry-After", "")
            pause = min(float(asked) if asked.isdecimal() else PAUSE * 2.0**attempt, LONGEST)
        except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, ValueError):  # no address, or one of an unknown kind
                raise UserError(f"{url}: is no address of a service ({error})") from None
            reason = getattr(error, "reason", error)
            late = isinstance(reason, TimeoutError)
            why = f"no answer within {timeout:g} s" if late else f"cannot be reached ({reason})"
            pause = PAUSE * 2.0**attempt
        if attempt < TRIES:
            say(f"{url}: {why}; again in {pause:.0f} s")
            time.sleep(pause)
    raise UserError(f"{url}: {why}, {TRIES} times; the same command goes on")


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Nonsense(f"no JSON: {content[:60]!r}") from error
    if not isinstance(found, dict):
        raise Nonsense(f"no JSON object: {content[:60]!r}")
    return found


def _words(error: urllib.error.HTTPError, secret: str) -> tuple[str, str]:
    """What a service says of an error, in one line without the key; and its code of it, or ""."""
    code = ""
    try:
        text = error.read().decode(errors="replace")
        said = json.loads(text)
        found = said.get("error", said) if isinstance(said, dict) else text
        code = str(found.get("code", "")) if isinstance(found, dict) else ""
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (OSError, ValueError):
        text = str(error.reason)
    line = " ".join(text.split())[:300] or str(error.reason)
    return (line.replace(secret, "***") if secret else line), code


def _advice(status: int, key: str) -> str:
    if status == 402:
        return "; the service wants to be paid: what was answered is kept, the same command goes on"
    if status in (401, 403) and key:
        return f"; put a key that it takes into the environment variable {key}"
    return "; look at the name of the model, and at the address" if status == 404 else ""
