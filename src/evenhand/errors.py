"""What the user can mend. The command line prints the message alone; a program catches a ValueError."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Says what is wrong, where, and what to do."""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name nobody knows: names the nearest, then all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{where + ': ' if where else ''}unknown {kind} {name!r}{hint} Known: {', '.join(known) or 'none'}")
