"""Which words tell a class, so that no context may hold them; and negated wording.

Text-to-image models follow a negation badly ("not smiling" draws smiles), and a context that names
a class decides it in every cell that it is crossed with.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from evenhand.core.errors import UserError
from evenhand.recipes.judge import JudgeConfig

NEGATION = re.compile(r"\b(not|no|without|never|non|nor|neither|none)\b|n't\b", re.I)
PLAIN = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "her", "his", "in", "into", "is", "its"}
    | {"of", "off", "on", "or", "out", "over", "that", "the", "their", "this", "to", "under", "up"}
    | {"who", "with"}
)  # words that tell no class by themselves
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
IRREGULAR = {"children": "child", "people": "person", "ladies": "lady", "wives": "wife"}


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


class Telltale:
    """The words that tell a class of some attributes.

    They are the classes' names, their wording and synonyms, and what the judge calls them. Words
    that stand with every class of an attribute ("with light skin", "with dark skin") tell none of
    them and may be used.

    Args:
        names: of the attributes.
        judge: whose classes they are.
        wording: of the recipe.
        synonyms: of the recipe.
        allow: words that may be used nevertheless.
    """

    def __init__(
        self,
        names: Sequence[str],
        judge: JudgeConfig,
        wording: Mapping[str, Mapping[str, str]],
        synonyms: Mapping[str, Mapping[str, Sequence[str]]],
        allow: Iterable[str] = (),
    ) -> None:
        self.classes: dict[str, tuple[str, str]] = {}
        free = {stem(word) for word in allow}
        for name in names:
            said = {
                cls: {
                    word
                    for text in _texts(name, cls, judge, wording, synonyms)
                    for word in _words(text)
                }
                for cls in judge.known[name].classes
            }
            for cls, words in said.items():
                for word in words - set.intersection(*said.values()) - PLAIN - free:
                    self.classes.setdefault(word, (name, cls))

    def refuse(self, text: str, where: str) -> None:
        """Raises UserError where a text tells a class, with the row and the word."""
        for found in WORD.findall(text):
            for word in [found, *found.split("-")]:
                if stem(word) in self.classes:
                    name, cls = self.classes[stem(word)]
                    raise UserError(
                        f"{where}: {text!r} holds {word!r}, which tells {name} ({cls}): contexts "
                        "stand in every cell; word it otherwise, or put the word under "
                        "contexts.allow"
                    )


def stem(word: str) -> str:
    """A word without plural and possessive endings, in small letters: "Women's" -> "woman"."""
    word = re.sub(r"['’]s?$", "", word.lower())
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("men"):
        return f"{word[:-3]}man"
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^siu]s$", word) else word


def _words(text: str) -> list[str]:
    return [stem(word) for word in WORD.findall(text)]


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
