"""Questions to services that speak OpenAI's protocols: asked again where that helps.

Errors are one line, and hold no key.
"""

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


class Nonsense(ValueError):
    """An answer that is none of the protocol."""


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
        UserError: the service wants money or another key, does not know the model, or did not
            answer however often it was asked.
        Nonsense: it answered with something that is no JSON object.
    """
    secret = os.environ.get(key, "")
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    for attempt in range(1, TRIES + 1):
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return _object(answer.read())
        except urllib.error.HTTPError as error:
            why = f"answers {error.code}: {_words(error, secret)}"
            if error.code not in LATER:
                raise UserError(f"{url}: {why}{_advice(error.code, key)}") from None
            asked = error.headers.get("Retry-After", "")
            pause = min(float(asked) if asked.isdecimal() else PAUSE * 2.0**attempt, LONGEST)
        except (urllib.error.URLError, OSError, ValueError) as error:
            if isinstance(error, Nonsense):
                raise
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


def _words(error: urllib.error.HTTPError, secret: str) -> str:
    """What a service says of an error, in one line without the key."""
    try:
        text = error.read().decode(errors="replace")
        said = json.loads(text)
        found = said.get("error", said) if isinstance(said, dict) else text
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (OSError, ValueError):
        text = str(error.reason)
    line = " ".join(text.split())[:300] or str(error.reason)
    return line.replace(secret, "***") if secret else line


def _advice(status: int, key: str) -> str:
    if status == 402:
        return "; the service wants to be paid: what was answered is kept, the same command goes on"
    if status in (401, 403):
        return f"; put a key that it takes into the environment variable {key}"
    return "; look at the name of the model, and at the address" if status == 404 else ""
