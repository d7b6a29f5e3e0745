"""What draws: a pipeline here, or a service elsewhere."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from evenhand.core.adapters import Adapter, Mix
from evenhand.core.prompts import Row
from evenhand.diffusion.endpoint import Endpoint
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.recipes.model import Model


class Generator(Protocol):
    """Draws the images of prompts and seeds.

    Attributes:
        source: of the records.
        safety: tells of images whether the model's safety checker takes offence; None without one.
        missing: why images are not there, by prompt and seed: the service refused.
    """

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def safety(self) -> Callable[[Tensor], list[bool]] | None: ...  # noqa: D102
    @property
    def missing(self) -> Mapping[tuple[str, int], str]: ...  # noqa: D102
    @property
    def device(self) -> Any: ...  # noqa: D102

    def batch(self, rows: list[Row], **overrides: Any) -> Iterator[tuple[list[Row], Tensor]]:
        """The rows drawn and their images `[N, 3, H, W]` in [0, 1], of one size each time."""
        ...


def load_generator(
    model: Model,
    *,
    answers: pathlib.Path,
    adapter: Adapter | Mix | None = None,
    settings: dict[str, Any] | None = None,
) -> Generator:
    """Loads what draws.

    Args:
        model: which.
        answers: folder in which a service's answers are kept until the run is done.
        adapter: of a pipeline, or several with their strengths.
        settings: changes of the model's sampler settings.

    Raises:
        UserError: as `load_diffusion`.
    """
    if model.endpoint:
        return Endpoint(model, model.sampling(settings or {}), answers)
    return load_diffusion(model, adapter=adapter, settings=settings)
