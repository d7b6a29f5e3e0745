"""Prompts: what is asked of a generator. A prompt set is one YAML file under `prompts/`."""

import pathlib
import re
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, model_validator

from evenhand.core.errors import UserError, unknown
from evenhand.core.files import digest_of
from evenhand.core.resources import find_yaml
from evenhand.core.schema import check, read_yaml


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: what the generator is given.
        concept: what it is about ("firefighter").
        family: the kind of prompt ("occupations").
        split: `train`, `validation` or `test`.
        states: attribute values that the text itself fixes, `{"gender": "woman"}` in "a woman
            firefighter".
    """

    text: str
    concept: str
    family: str
    split: str
    states: dict[str, str] = field(default_factory=dict)


Row = tuple[Prompt, int]  # what is asked, and the seed of the image's own generator


class PromptSet(BaseModel):
    """A prompt file.

    Attributes:
        version: raised whenever a prompt changes, since numbers of different versions do not
            compare.
        source: where the concepts come from.
        licence: of the list.
        family: name of the family.
        templates: neutral wordings with `{concept}`, optionally `{a}` for the article.
        concepts: `{split: [concept, ...]}`; a concept stands in one split.
        explicit: `{attribute: {class: wording}}` with `{concept}`: prompts that say the attribute.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int
    source: str
    licence: str
    family: str
    templates: list[str]
    concepts: dict[str, list[str]]
    explicit: dict[str, dict[str, str]] = {}

    @model_validator(mode="after")
    def _check(self) -> "PromptSet":
        seen: dict[str, str] = {}
        problems = []
        for split, concepts in self.concepts.items():
            for concept in concepts:
                if concept in seen:
                    problems.append(
                        f"concept {concept!r} stands in {seen[concept]} and {split}; remove one"
                    )
                seen[concept] = split
        if "" in {c.strip() for c in seen}:
            problems.append("a concept is empty")
        wordings = self.templates + [w for table in self.explicit.values() for w in table.values()]
        problems += [f"{w!r} has no {{concept}}" for w in wordings if "{concept}" not in w]
        problems += [
            f"{w!r} cannot be filled in: besides {{concept}} only {{a}} may stand in braces"
            for w in wordings
            if set("{}") & set(w.replace("{concept}", "").replace("{a}", ""))
        ]
        if not seen:
            problems.append("no concept")
        if not wordings:
            problems.append("no wording: neither templates nor explicit prompts")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def digest(self) -> str:
        """Of everything that makes its prompts, twelve hex digits."""
        return digest_of([self.templates, self.concepts, self.explicit])

    def prompts(self, splits: list[str] | None = None) -> list[Prompt]:
        """Neutral prompts of the splits (all when None), template by template within a concept."""
        return [
            Prompt(_fill(t, c), c, self.family, s)
            for s in self._splits(splits)
            for c in self.concepts[s]
            for t in self.templates
        ]

    def explicit_prompts(
        self, attributes: list[str], splits: list[str] | None = None
    ) -> list[Prompt]:
        """Prompts that name a class of one of the attributes."""
        return [
            Prompt(_fill(wording, c), c, self.family, s, {attribute: cls})
            for s in self._splits(splits)
            for c in self.concepts[s]
            for attribute in attributes
            for cls, wording in self.explicit.get(attribute, {}).items()
        ]

    def _splits(self, splits: list[str] | None) -> list[str]:
        for split in splits or []:
            if split not in self.concepts:
                raise unknown("split", split, self.concepts, where=f"prompt family {self.family!r}")
        chosen = splits or list(self.concepts)
        if not any(self.concepts[s] for s in chosen):
            raise UserError(f"prompt family {self.family!r}: no concept in {', '.join(chosen)}")
        return chosen


_CONSONANT = re.compile(
    r"eu|one\b|u[rst][aeiou]|uni[^nm]", re.I
)  # vowels that sound like one: "a university professor"
_VOWEL = re.compile(r"[aeiou]|heir|honest|honou?r|hour", re.I)
_SPELT = re.compile(  # said letter by letter: two consonants or a vowel first ("FBI"; not "NASA")
    r"([B-DF-HJ-NP-TV-Z]{2}[A-Z]{0,3}|[AEIOU][A-Z]{1,4}|[A-Z](?=-))\b"
)
_VOWEL_NAMES = "AEFHILMNORSX"  # letters whose names begin with a vowel: "an FBI agent"


def article(phrase: str) -> str:
    """The indefinite article before a phrase: "a" or "an"."""
    vowel = _VOWEL.match(phrase) and not _CONSONANT.match(phrase)
    if _SPELT.match(phrase):
        vowel = phrase[0] in _VOWEL_NAMES
    return "an" if vowel else "a"


def _fill(template: str, concept: str) -> str:
    return template.format(a=article(concept), concept=concept)


def load_prompts(name: str) -> PromptSet:
    """A prompt set by name or path; a `.txt` file holds one training prompt a line.

    `concepts: NAME` in the file stands for the concepts and splits of the set of that name.

    Raises:
        UserError: there is none, every problem of the file, or sets that name each other in a
            circle.
    """
    return _txt(pathlib.Path(name)) if name.lower().endswith(".txt") else _yaml(name, ())


def _yaml(name: str, asking: tuple[pathlib.Path, ...]) -> PromptSet:
    """A prompt set of a YAML; `asking` are the files that want its concepts."""
    path = find_yaml("prompts", name)
    if path.resolve() in asking:
        raise UserError(
            f"{path}: concepts: {name} leads back to this file; list the concepts in one of them"
        )
    values = read_yaml(path)
    if isinstance(values.get("concepts"), str):
        values["concepts"] = _yaml(values["concepts"], (*asking, path.resolve())).concepts
    return check(PromptSet, values, where=path.name)


def _txt(path: pathlib.Path) -> PromptSet:
    """A text file. Only a line feed ends a prompt: U+2028 and its kin may stand inside one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line.strip() for line in text.split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not lines:
        raise UserError(f"{path}: holds no prompt; write one a line")
    values = {
        "version": 1,
        "source": path.name,
        "licence": "",
        "family": path.stem,
        "templates": ["{concept}"],
        "concepts": {"train": list(dict.fromkeys(lines))},
    }
    return check(PromptSet, values, where=str(path))
