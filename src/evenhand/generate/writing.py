"""Contexts that a language model writes, of what the vocabulary drew for each row.

The balance is that of the vocabulary: the model is asked for one row at a time and remembers
nothing. An answer that tells a class, is empty, or has been given before is refused, and counted.
"""

import json
import pathlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from evenhand.core import services
from evenhand.core.errors import UserError, loading
from evenhand.core.files import digest_of, write_text
from evenhand.core.locks import lease
from evenhand.core.records import hash63
from evenhand.core.services import Nonsense, ask
from evenhand.core.words import Telltale
from evenhand.generate.asked import linter_of
from evenhand.generate.contexts import check_slots, filled, vocabulary_rows
from evenhand.generate.plan import classes_of, judge_of
from evenhand.recipes.generate import Generate, LanguageModel

LONGEST = 300  # characters of a context
Writer = Callable[[str, int], str]  # a question and a seed -> an answer


@dataclass
class Written:
    """What a writer wrote.

    Attributes:
        texts: of each row, as far as there are any.
        refused: answers that could not be used, by reason.
    """

    texts: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def written(config: Generate, folder: pathlib.Path) -> Written | None:
    """The contexts of a recipe's writer; None where it has none.

    They are kept in the folder, row by row: what was answered once is not asked again.

    Args:
        config: the recipe.
        folder: run directory.

    Raises:
        UserError: a model that cannot be loaded, a service that does not answer, or a row for which
            no answer can be used.
    """
    writer = config.contexts.writer
    if writer is None:
        return None
    rows = vocabulary_rows(config.contexts)
    check_slots(writer.ask, rows[0])
    judge = judge_of(config)
    linter = linter_of(config, judge, classes_of(config, judge))
    name = digest_of([writer.model_dump(mode="json"), rows, sorted(linter.classes)])
    path = folder / f".contexts-{name}.json"
    with lease(folder / ".leases" / "contexts", wait=True):
        found = _read(path)
        answer = _writer(writer) if len(found.texts) < len(rows) else None
        for number in range(len(found.texts), len(rows)):
            assert answer
            text = _row(answer, writer, filled(writer.ask, rows[number]), number, linter, found)
            found.texts.append(text)
            _write(path, found)
    return found


def _row(
    answer: Writer, writer: LanguageModel, asked: str, number: int, linter: Telltale, found: Written
) -> str:
    """The first answer that can be used as the context of a row."""
    reasons: list[str] = []
    for attempt in range(writer.tries):
        try:
            text = _clean(answer(asked, hash63("context", asked, number, attempt) % 2**31))
            _check(text, found.texts, linter)
            return text
        except (Nonsense, UserError) as error:
            if isinstance(error, UserError) and not isinstance(error, Refused | services.Refused):
                raise
            reasons.append(str(error))
            found.refused[error.why if isinstance(error, Refused) else "no answer"] += 1
    raise UserError(
        f"contexts, row {number + 1}: none of {writer.tries} answers of {writer.model} can be "
        f"used; the last: {reasons[-1]}. Ask otherwise (contexts.writer.ask), or raise "
        "contexts.writer.tries"
    )


class Refused(UserError):
    """An answer that cannot be used, with the reason under which it is counted."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


def _clean(text: str) -> str:
    """The first line that says something, without what models put around an answer."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    return re.sub(r"^[-*\d.)\s\"“]+|[\"”.\s]+$", "", lines[0] if lines else "")


def _check(text: str, before: list[str], linter: Telltale) -> None:
    """Raises Refused where a text can be no context."""
    if not text or len(text) > LONGEST or set("{}") & set(text) or not text.isprintable():
        raise Refused("no sentence", f"{text[:60]!r} is empty, too long, or holds odd signs")
    if text.lower() in (x.lower() for x in before):
        raise Refused("said before", f"{text!r} has been said before")
    try:
        linter.refuse(text, "its answer")
    except UserError as error:
        raise Refused("tells a class", str(error)) from error


def _read(path: pathlib.Path) -> Written:
    """What has been written before; nothing where the file is not there, or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Written([str(x) for x in values["texts"]], Counter(values["refused"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Written()


def _write(path: pathlib.Path, found: Written) -> None:
    write_text(path, json.dumps({"texts": found.texts, "refused": found.refused}) + "\n")


def _writer(config: LanguageModel) -> Writer:
    return _service(config) if config.url else _local(config)


def _service(config: LanguageModel) -> Writer:
    """A service that speaks OpenAI's chat protocol."""
    url = f"{(config.url or '').rstrip('/')}/chat/completions"

    def answer(asked: str, seed: int) -> str:
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": "user", "content": asked}],
            "max_tokens": config.tokens,
            "temperature": 1.0,
            "seed": seed,
        }
        found = ask(url, body, key=config.key, timeout=config.timeout, say=print)
        try:
            text = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise Nonsense(f"no choices: {str(found)[:60]}") from error
        if not isinstance(text, str):
            raise Nonsense(f"no text: {str(text)[:60]}")
        return text

    return answer


def _local(config: LanguageModel) -> Writer:
    """A language model of transformers, on this machine."""
    from transformers import pipeline

    from evenhand.devices import default_device
    from evenhand.training.checkpoints import seeded

    with loading(f"language model {config.model}", advice="Name a local folder, or a Hub name"):
        model = pipeline("text-generation", model=config.model, device=default_device())
    talks = bool(getattr(model.tokenizer, "chat_template", None))

    def answer(asked: str, seed: int) -> str:
        question: Any = [{"role": "user", "content": asked}] if talks else asked
        with seeded(seed):
            (found,) = model(
                question,
                max_new_tokens=config.tokens,
                do_sample=True,
                return_full_text=False,
            )
        text = found["generated_text"]
        return text if isinstance(text, str) else str(text[-1]["content"])

    return answer
