"""What the app is started with, and what a visitor of it asks for."""

import ipaddress
from typing import Annotated

from pydantic import Field

from evenhand.core.errors import UserError
from evenhand.core.schema import Count, Seed, Strict, check

LONGEST = 1000  # characters of a prompt
MOST = 400  # images of a click, of each generator
STEP = 4  # images drawn together by an accelerator, and between two numbers of images
STRONGEST, GUIDED = 2.0, 20.0


class App(Strict):
    """How the app is served.

    Attributes:
        models: that visitors choose from; the first is loaded at the start. All that ship when
            empty, and visitors may type others, where only this machine reaches the app; else the
            embedded one alone.
        adapters: likewise.
        judge: classifier that judges; each model's own when None.
        host: address to listen on; the loopback address lets nobody in but this machine.
        port: to listen on; 0 for any that is free.
        runs: folder whose reports the app opens; none when None.
        waiting: visitors in the queue, at most.
    """

    models: list[str] = []
    adapters: list[str] = []
    judge: str | None = None
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: int = Field(default=7860, ge=0, le=65535)
    runs: str | None = None
    waiting: Count = 16

    @property
    def alone(self) -> bool:
        """Whether nobody but this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Asked(Strict):
    """What a visitor asks for with a click.

    Attributes:
        model: the generator.
        adapter: beside which it is drawn; none when None.
        strength: of the adapter.
        guidance: the pipeline's `guidance_scale`; the model's own when None.
        prompt: what is to be drawn.
        seed: the first of the numbers from which the images' seeds follow.
        images: of each generator.
        width: to which every share shall be known, +-.
    """

    model: Annotated[str, Field(min_length=1)]
    adapter: str | None = None
    strength: float = Field(default=1.0, ge=-STRONGEST, le=STRONGEST)
    guidance: float | None = Field(default=None, ge=0, le=GUIDED)
    prompt: Annotated[str, Field(min_length=1)]
    seed: Seed = 0
    images: int = Field(default=24, ge=1, le=MOST)
    width: float = Field(default=0.1, ge=0.01, le=0.45)


def asked(**values: object) -> Asked:
    """What a visitor asks for, checked.

    Raises:
        UserError: what is missing or impossible, in words for the page.
    """
    prompt = " ".join(str(values.get("prompt") or "").split())
    if not prompt:
        raise UserError("Write a prompt first: what is to be drawn?")
    if len(prompt) > LONGEST:
        raise UserError(
            f"The prompt has {len(prompt):,} characters; the app takes {LONGEST:,}, and most "
            "models read fewer. Shorten it."
        )
    if values.get("model") in (None, ""):
        raise UserError("Choose a model first.")
    try:
        float(str(values.get("guidance") or 0))
    except ValueError:
        raise UserError(f"Guidance is a number from 0 to {GUIDED:g}, or empty.") from None
    given = {name: value for name, value in values.items() if value is not None}
    return check(Asked, {**given, "prompt": prompt}, where="the page")
