"""What the user can mend.

The command line prints the message alone; a program catches a ValueError.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """Says what is wrong, where, and what to do."""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name nobody knows: names the nearest, then all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(
        f"{where + ': ' if where else ''}unknown {kind} {name!r}{hint} Known: "
        f"{', '.join(known) or 'none'}"
    )


@contextlib.contextmanager
def loading(what: str, *, advice: str = "") -> Iterator[None]:
    """Context in which whatever a library raises becomes one line.

    The line says that `what` cannot be loaded, why, and the advice.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{what} cannot be loaded: {reason}{'. ' + advice if advice else ''}"
        ) from error
