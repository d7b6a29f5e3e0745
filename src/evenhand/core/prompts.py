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
        wordings = self.templates + [w for table in self.explicit.values() for w in table.values()]
        problems += [f"{w!r} has no {{concept}}" for w in wordings if "{concept}" not in w]
        problems += [
            f"{w!r} cannot be filled in: besides {{concept}} only {{a}} may stand in braces"
            for w in wordings
            if set("{}") & set(w.replace("{concept}", "").replace("{a}", ""))
        ]
        if not seen:
            problems.append("no concept")
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
_VOWEL = re.compile(r"[aeiou]|heir|hono|hour", re.I)


def _fill(template: str, concept: str) -> str:
    article = "an" if _VOWEL.match(concept) and not _CONSONANT.match(concept) else "a"
    return template.format(a=article, concept=concept)


def load_prompts(name: str) -> PromptSet:
    """A prompt set by name or path; a `.txt` file holds one training prompt a line.

    `concepts: NAME` in the file stands for the concepts and splits of the set of that name.
    """
    if not name.endswith(".txt"):
        path = find_yaml("prompts", name)
        values = read_yaml(path)
        if isinstance(values.get("concepts"), str):
            values["concepts"] = load_prompts(values["concepts"]).concepts
        return check(PromptSet, values, where=path.name)
    path = pathlib.Path(name)
    try:
        lines = [
            line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not lines:
        raise UserError(f"{path}: holds no prompt; write one a line")
    return PromptSet(
        version=1,
        source=path.name,
        licence="",
        family=path.stem,
        templates=["{concept}"],
        concepts={"train": list(dict.fromkeys(lines))},
    )
