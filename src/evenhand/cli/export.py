"""`evenhand export`: an adapter for other software, or one of other software for here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evenhand.cli.options import WeightName


class Format(StrEnum):
    """Layouts that an adapter is written in."""

    kohya = "kohya"
    diffusers = "diffusers"


AdapterName = Annotated[
    str,
    Argument(
        help="An adapter that ships, a folder, a file, or a repository of the Hub "
        "(USER/REPO[@REVISION])."
    ),
]
Layout = Annotated[
    Format,
    Option(
        "--format",
        help="kohya: one file that ComfyUI and AUTOMATIC1111 read (Stable Diffusion 1, 2, XL). "
        "diffusers: a folder that evenhand and diffusers read.",
    ),
]
Out = Annotated[
    Path | None, Option(help="File (kohya) or folder (diffusers) to write. Default: its name.")
]
Scale = Annotated[float, Option(help="Strength that becomes the full strength of what is written.")]
BaseModel = Annotated[
    str | None,
    Option(
        help="Base model: one that ships, a folder or a Hub name. Default: the one that the "
        "adapter's adapter.json names."
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be written, and write nothing.")]


def export(
    adapter: AdapterName,
    layout: Layout = Format.kohya,
    out: Out = None,
    scale: Scale = 1.0,
    model: BaseModel = None,
    weight_name: WeightName = None,
    dry_run: DryRun = False,
) -> None:
    """Write an adapter in the layout of other software, or one made elsewhere in ours.

    The base model is loaded: what is not of it is refused, and what was written is read again by
    stock diffusers and compared.

    Examples:
        evenhand export emoji-gender --format kohya

        evenhand export some-user/some-lora --format diffusers --model sdxl --out my-adapter

        evenhand export styles/gender.safetensors --model sd15 --scale 0.7 --out g.safetensors
    """
    import math

    from evenhand.core.adapters import find_adapter
    from evenhand.core.errors import UserError
    from evenhand.core.weights import with_file
    from evenhand.recipes.model import load_model

    if not math.isfinite(scale):
        raise UserError(f"--scale {scale}: it is a number, usually from 0 to 1")
    found = find_adapter(with_file(adapter, weight_name))
    base = model or found.described.get("settings", {}).get("model")
    if not base:
        raise UserError(f"adapter {adapter!r} does not say its base model: name it with --model")
    name = found.source.partition("@")[0].split("/")[-1]
    target = out or Path(f"{name}.safetensors" if layout == Format.kohya else name)
    if target.exists():
        raise UserError(f"{target}: is there already; name another with --out, or remove it")
    loaded = load_model(base)
    if dry_run:
        print(f"{target}: {found.source} of {base} in the layout of {layout}, strength {scale:g}")
        return
    from evenhand.diffusion.export import export as write

    write(found, loaded, target, layout=layout, strength=scale)
    print(target)
