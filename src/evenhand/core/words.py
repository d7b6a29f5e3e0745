"""Which words tell a class of an attribute, so that texts that shall leave it open hold none."""

import re
from collections.abc import Iterable, Mapping

from evenhand.core.errors import UserError

PLAIN = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "her", "his", "in", "into", "is", "its"}
    | {"of", "off", "on", "or", "out", "over", "that", "the", "their", "this", "to", "under", "up"}
    | {"who", "with"}
)  # words that tell no class by themselves
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
IRREGULAR = {"children": "child", "people": "person", "ladies": "lady", "wives": "wife"}
Wordings = Mapping[str, Mapping[str, Iterable[str]]]  # {attribute: {class: texts}}


class Telltale:
    """The words that tell a class of some attributes.

    Words that stand with every class of an attribute ("with light skin", "with dark skin") tell
    none of them and may be used.

    Args:
        texts: by which each class is called.
        allow: words that may be used nevertheless.
        advice: what is to be done about a text that holds one, for errors.
    """

    def __init__(self, texts: Wordings, allow: Iterable[str], advice: str) -> None:
        self.classes: dict[str, tuple[str, str]] = {}
        self._advice, free = advice, {stem(word) for word in allow}
        for name, table in texts.items():
            said = {
                cls: {stem(word) for text in those for word in WORD.findall(text)}
                for cls, those in table.items()
            }
            for cls, words in said.items():
                for word in words - set.intersection(*said.values()) - PLAIN - free:
                    self.classes.setdefault(word, (name, cls))

    def word(self, text: str) -> str | None:
        """The first word of a text that tells a class; None where none does."""
        words = (word for found in WORD.findall(text) for word in [found, *found.split("-")])
        return next((word for word in words if stem(word) in self.classes), None)

    def refuse(self, text: str, where: str) -> None:
        """Raises UserError where a text tells a class, with its place and the word."""
        if (word := self.word(text)) is not None:
            name, cls = self.classes[stem(word)]
            raise UserError(
                f"{where}: {text!r} holds {word!r}, which tells {name} ({cls}): {self._advice}"
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
