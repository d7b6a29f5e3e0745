"""Images from a service that speaks OpenAI's images protocol (`POST .../images/generations`).

One question an image. A service has no seed, so a seed is the number of the question: it names
the answer, which is kept in a folder until the run is done, so that a cut run does not pay twice.
"""

import base64
import binascii
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, whole, write_text
from evenhand.core.prompts import Row
from evenhand.core.records import key
from evenhand.core.services import Nonsense, Refused, ask, fetch
from evenhand.devices import default_device
from evenhand.images.io import Pixels, Unreadable, read_image
from evenhand.images.tensors import in_batches
from evenhand.recipes.model import Endpoint as Service
from evenhand.recipes.model import Model, Settings


class Endpoint:
    """A service, and how it is asked.

    Args:
        model: a model with an `endpoint`.
        settings: size and further keys of the question (`options`).
        answers: folder in which answers are kept.
    """

    safety = None
    prefix = ""

    def __init__(self, model: Model, settings: Settings, answers: pathlib.Path) -> None:
        assert model.endpoint is not None
        self.service: Service = model.endpoint
        self.url = f"{model.path.rstrip('/')}/images/generations"
        self.settings, self.answers = settings, answers
        self.source = f"{urlsplit(model.path).netloc}/{self.service.model}@service"
        self.missing: dict[tuple[str, int], str] = {}

    @property
    def device(self) -> torch.device:
        """Where its images are judged."""
        return default_device()

    def batch(self, rows: list[Row], **overrides: Any) -> Iterator[tuple[list[Row], Tensor]]:
        """The images of rows that the service draws, in batches of one size.

        Why one is not there is in `missing`, by prompt and seed.

        Raises:
            UserError: the service does not answer, or what it answers is no image.
        """
        if overrides:
            raise UserError(f"{self.url}: takes no {', '.join(sorted(overrides))}")
        yield from in_batches(self._drawn(rows), max(len(rows), 1), device=self.device)

    def _drawn(self, rows: list[Row]) -> Iterator[tuple[Row, Pixels]]:
        for row in rows:
            prompt, seed = row
            body = self._question(prompt.text)
            file = self.answers / f"{digest_of([self.url, body, seed])}.png"
            reason = file.with_suffix(".refused")
            if not file.exists() and not reason.exists():
                try:
                    with whole(file) as part:
                        part.write_bytes(self._answer(body))
                except Refused as refusal:
                    write_text(reason, refusal.why)
            if reason.exists():
                self.missing[key(prompt, seed)] = reason.read_text(encoding="utf-8")
            else:
                yield row, read_image(file)

    def _question(self, prompt: str) -> dict[str, Any]:
        size = f"{self.settings.width}x{self.settings.height}" if self.settings.width else None
        named = {"model": self.service.model, "prompt": prompt, "n": 1}
        return {**named, **({"size": size} if size else {}), **self.settings.options}

    def _answer(self, body: dict[str, Any]) -> bytes:
        """The file of an image."""
        try:
            found = ask(self.url, body, key=self.service.key, timeout=self.service.timeout)
            content = self._file(found)
        except Nonsense as error:
            raise UserError(f"{self.url}: answers what is no image: {error}") from error
        try:
            read_image(io.BytesIO(content))
        except Unreadable as error:
            raise UserError(f"{self.url}: answers what is no image: {error}") from error
        return content

    def _file(self, answer: dict[str, Any]) -> bytes:
        """What an answer holds (`b64_json`) or leads to (`url`)."""
        data = answer.get("data")
        entry = data[0] if isinstance(data, list) and data else None
        if not isinstance(entry, dict):
            raise Nonsense(f"no image in {json.dumps(answer)[:100]}")
        if isinstance(text := entry.get("b64_json"), str):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise Nonsense(f"broken base64 ({error})") from error
        if isinstance(url := entry.get("url"), str) and url.startswith(("http://", "https://")):
            return fetch(url, timeout=self.service.timeout)
        raise Nonsense(f"neither b64_json nor url in {json.dumps(entry)[:100]}")
