"""Negated wording, and which words tell a class of a recipe, so that no context may hold them.

Text-to-image models follow a negation badly ("not smiling" draws smiles), and a context that names
a class decides it in every cell that it is crossed with.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from evenhand.core.errors import UserError
from evenhand.core.words import Telltale
from evenhand.recipes.judge import JudgeConfig

NEGATION = re.compile(r"\b(not|no|without|never|non|nor|neither|none)\b|n't\b", re.I)
ADVICE = "contexts stand in every cell; word it otherwise, or put the word under contexts.allow"


def refuse_negated(wording: Mapping[str, Mapping[str, str]]) -> None:
    """Raises UserError where the words of a class negate another one."""
    for name, table in wording.items():
        for cls, words in table.items():
            if found := NEGATION.search(words):
                raise UserError(
                    f"wording.{name}.{cls}: {words!r} says what is not there ({found[0]!r}), and "
                    "models draw it nevertheless; say what is there, such as 'a serious face' for "
                    "'not smiling'"
                )


def telltale(
    names: Sequence[str],
    judge: JudgeConfig,
    wording: Mapping[str, Mapping[str, str]],
    synonyms: Mapping[str, Mapping[str, Sequence[str]]],
    allow: Iterable[str] = (),
) -> Telltale:
    """The words that tell a class: names, wording and synonyms, and what the judge calls them.

    Args:
        names: of the attributes.
        judge: whose classes they are.
        wording: of the recipe.
        synonyms: of the recipe.
        allow: words that may be used nevertheless.
    """
    texts = {
        name: {
            cls: _texts(name, cls, judge, wording, synonyms) for cls in judge.known[name].classes
        }
        for name in names
    }
    return Telltale(texts, allow, ADVICE)


def _texts(
    name: str,
    cls: str,
    judge: JudgeConfig,
    wording: Mapping[str, Mapping[str, str]],
    synonyms: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[str]:
    """All by which a class is called."""
    labels = judge.networks[name].labels if name in judge.networks else {}
    return [
        cls,
        *([wording[name][cls]] if cls in wording.get(name, {}) else []),
        *synonyms.get(name, {}).get(cls, []),
        *judge.descriptions.get(name, {}).get(cls, []),
        *(label for label, meant in labels.items() if meant == cls),
    ]
