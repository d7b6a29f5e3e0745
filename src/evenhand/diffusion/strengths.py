"""The strength of an adapter that is loaded, changed without loading it again."""

import contextlib
from collections.abc import Iterator

from evenhand.core.adapters import Adapter
from evenhand.diffusion.adapters import pipe_name
from evenhand.diffusion.lora import without_lora
from evenhand.diffusion.pipeline import Diffusion


@contextlib.contextmanager
def at_strength(diffusion: Diffusion, adapter: Adapter, strength: float) -> Iterator[str]:
    """Draws inside as if an adapter had been loaded at another strength; at 0, as without it.

    Args:
        diffusion: loaded with this adapter alone, at strength 1.
        adapter: the adapter.
        strength: as in `Mix`: of soft tokens 0 or 1.

    Yields:
        the source of the records.

    Raises:
        UserError: the adapter cannot have this strength.
    """
    base = diffusion.source.removesuffix(f"+{adapter.source}")
    pipe, name = diffusion.pipe, pipe_name(adapter)
    if strength == 0:
        parts = pipe.components.values()
        modules = [part for part in parts if name in getattr(part, "peft_config", {})]
        with without_lora(modules), diffusion.without_prefix():
            yield base
        return
    source = f"{base}+{adapter.at(strength).source}"
    if not adapter.is_lora:
        yield source
        return
    pipe.set_adapters([name], [strength])
    try:
        yield source
    finally:
        pipe.set_adapters([name], [1.0])
