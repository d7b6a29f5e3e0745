"""The card of a set of adapters: what each is for, how to load it, whether it was verified."""

import os
import pathlib

from evenhand.core.adapter_sets import AdapterSet, find_set
from evenhand.core.files import write_text
from evenhand.reports.rendering import card_template, load_lines

README = "README.md"


def write_set_card(folder: str | os.PathLike) -> None:
    """Writes the card of a set anew, of what `set.json` says."""
    found = find_set(folder)
    write_text(found.folder / README, set_card(found))


def set_card(found: AdapterSet) -> str:
    """The card as Markdown."""
    described, name = found.described, found.folder.resolve().name
    first = found.members[0]
    group = {a: c for a, c in first.group.items() if f"{{{a}}}" in described.caption}
    prompt = described.caption.replace("{token}", first.token)
    for attribute, cls in group.items():
        prompt = prompt.replace(f"{{{attribute}}}", cls)
    text = card_template("set-card.md.j2").render(
        name=name,
        described=described,
        attributes=list(first.group),
        digests=found.digests,
        load=[
            load_lines(adapter, f"{name}/{adapter.folder.name}") for adapter, _ in first.mix.parts
        ],
        prompt=prompt,
    )
    return f"---\n{_header(found, name)}\n---\n{text}"


def _header(found: AdapterSet, name: str) -> str:
    """What the Hub reads, as YAML."""
    from huggingface_hub import ModelCardData

    base = found.described.base
    licence, _, licence_name = (base.licence or "").partition("/")
    passed = found.described.verified and found.described.verified.passed
    header = ModelCardData(
        library_name="diffusers",
        base_model=base.path.removeprefix("package:"),
        license=licence or None,
        tags=[
            "lora",
            "text-to-image",
            "evenhand",
            "adapter-set",
            *(["verified"] if passed else []),
        ],
        model_name=pathlib.PurePath(name).name,
    )
    if licence_name:  # fields that the Hub wants beside `other`
        header["license_name"] = licence_name
        header["license_link"] = f"https://huggingface.co/{base.path}"
    return header.to_yaml()
