"""A vision-language model as a judge.

It is asked a question with the classes as options, and its next token is read.
"""

from typing import Any

import torch
from torch import Tensor

from evenhand.core.errors import UserError, loading
from evenhand.features.sources import find
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Predictions
from evenhand.recipes.judge import JudgeConfig

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class VisionLanguageJudge:
    """Asks an image-text-to-text model of transformers about every image.

    Judging only, no gradient passes.

    The answer is constrained to the options: of the logits of the next token only those of their
    letters count. An image counts as seen where "unclear", the last option, is the likeliest answer
    to no question.

    Args:
        config: as `evenhand.recipes.judge.find_judge` found it.
        device: of the network.

    Raises:
        UserError: weights that cannot be had, or more classes than letters.
    """

    concept: str | None = None

    side: int | None = None

    def __init__(self, config: JudgeConfig, *, device: str | torch.device = "cpu") -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.name, self.attributes = config.name, config.known
        if (most := max(len(a.classes) for a in self.attributes.values())) >= len(LETTERS):
            raise UserError(
                f"classifier {self.name!r}: {most} classes are more than there are letters"
            )
        with loading(f"vision-language model {config.model!r}"):
            source = find(config.model)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(
                source.path, revision=source.revision
            )
            self._processor: Any = AutoProcessor.from_pretrained(
                source.path, revision=source.revision
            )
            self.digest = config.digest({"vlm": source.identity})
        self._model.eval().requires_grad_(False).to(device)
        self._processor.tokenizer.padding_side = "left"
        self._device = device
        self._texts = {
            a: self._prompt(config.questions[a], attribute.classes)
            for a, attribute in self.attributes.items()
        }
        self._letters = [
            self._processor.tokenizer.encode(letter, add_special_tokens=False)[-1]
            for letter in LETTERS
        ]

    def _prompt(self, question: str, classes: list[str]) -> str:
        options = "\n".join(
            f"{letter}. {cls}" for letter, cls in zip(LETTERS, [*classes, "unclear"], strict=False)
        )
        text = f"{question}\n{options}\nAnswer with the letter alone."
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        return self._processor.apply_chat_template([turn], add_generation_prompt=True)

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute."""
        return self.attributes[name].classes

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1]; the logits are those of the classes' letters."""
        pictures = list(to_uint8(images))
        logits, seen = {}, torch.ones(len(images), dtype=torch.bool, device=images.device)
        for name, attribute in self.attributes.items():
            inputs = self._processor(
                images=pictures,
                text=[self._texts[name]] * len(pictures),
                padding=True,
                return_tensors="pt",
            )
            scores = self._model(**inputs.to(self._device)).logits[:, -1].float().to(images.device)
            answers = scores[:, self._letters[: len(attribute.classes) + 1]]
            logits[name] = answers[:, :-1]
            seen &= answers.argmax(-1) < len(attribute.classes)
        return Predictions(logits, seen)

    def features(self, images: Tensor) -> Tensor:
        """Refuses: it has none."""
        raise UserError(f"classifier {self.name!r} is asked in words: it has no features")
