"""The card of an adapter: how to load it, what was measured, what was not.

Markdown with a model-index, after `templates/card.md.j2`.
"""

import json
import os
import pathlib
import re
from dataclasses import asdict
from typing import Any

from evenhand.core.adapters import CLIP_NAMES, Adapter, find_adapter, strengths_in
from evenhand.core.errors import UserError
from evenhand.core.files import write_json, write_text
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.recipes.model import Model, load_model
from evenhand.reports.changes import Comparison
from evenhand.reports.headlines import Found, Headline, headlines, number
from evenhand.reports.models import Report
from evenhand.reports.sweep.models import sweep_of
from evenhand.reports.sweep.table import table_of
from evenhand.stats.shares import Estimate


def write_card(folder: str | os.PathLike, comparison: Comparison) -> None:
    """Writes an adapter's `README.md` and puts the numbers into its `adapter.json`.

    What `evenhand sweep` found of these weights stands there already, and is put into the card.

    Args:
        folder: of the adapter.
        comparison: of the base model with the adapter; the adapter was loaded from its file.
    """
    folder = pathlib.Path(folder)
    lines = headlines([comparison.before, comparison.after], comparison.change)
    adapter = find_adapter(folder)
    described = {k: v for k, v in adapter.described.items() if k != "measured"}
    settings = comparison.after.run.settings
    write_json(folder / "adapter.json", {**described, "measured": _measured(settings, lines)})
    model = load_model(settings["model"])
    sweep = sweep_of(adapter)
    trainer = described.get("classifier", {})
    text = card_template("card.md.j2").render(
        name=folder.name,
        adapter=adapter,
        trained_by=described.get("versions", {}).get("evenhand"),
        target=described.get("settings", {}).get("target", {}).get("shares", {}),
        base=model.path.replace("package:", "src/evenhand/"),
        load=_load(adapter, _shown(folder)),
        prompt=_example(comparison.after, described),
        sampling=[
            option
            for option in ("num_inference_steps", "guidance_scale")
            if settings["settings"][option] is not None
        ],
        settings=settings,
        notes=[*comparison.after.cautions, *comparison.notes],
        trainer=trainer.get("name"),
        judge_is_trainer=settings.get("judge_is_trainer")
        or trainer.get("digest") == settings["judge"]["digest"],
        lines=lines,
        sweep=sweep,
        swept=table_of(sweep.points, sweep.suggested) if sweep else None,
        licence=model.licence,
    )
    header = _header(adapter, model, comparison.after)
    write_text(folder / "README.md", f"---\n{header}\n---\n{text}")


def card_of(
    folder: pathlib.Path, before: str | os.PathLike, after: str | os.PathLike
) -> pathlib.Path:
    """The folder of an adapter, if a comparison of these two runs can be its card.

    Raises:
        UserError: the first run has an adapter, the second has not this one at full strength, or
            one of them measured no generator.
    """
    adapter = find_adapter(str(folder))
    runs = [read_run(run)[0]["settings"] for run in (before, after)]
    none, loaded = (strengths_in(r) for r in runs)
    if none or list(loaded) != [adapter.digest]:
        names = [r.get("adapter") or "none" for r in runs]
        raise UserError(
            f"--card {folder}: the first run must be without an adapter, the second with this one "
            f"(digest {adapter.digest}) alone; they have {names[0]} and {names[1]}"
        )
    if loaded[adapter.digest] != 1:
        raise UserError(
            f"--card {folder}: the second run has it at strength {loaded[adapter.digest]}, not 1"
        )
    return adapter.folder


def card_template(name: str) -> Any:
    """A card's template; names put into it pass a filter that makes them safe in Markdown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evenhand.reports", "templates"),
        autoescape=False,  # the filters below make names safe in Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "md": markdown, "code": code, "text": literal}
    return environment.get_template(name)


def markdown(text: object) -> str:
    """Text as Markdown that shows it as it is, in one line, in a table too."""
    line = " ".join(str(text).split())
    return re.sub(
        r"[\\`*_\[\]|#~<>&$]",
        lambda sign: f"&#{ord(sign[0])};" if sign[0] in "<>&$" else f"\\{sign[0]}",
        line,
    )


def code(text: object) -> str:
    """Text as inline code of Markdown, whatever backticks it holds."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def literal(text: object) -> str:
    """Text as a string literal of Python."""
    return json.dumps(str(text), ensure_ascii=False)


def _header(adapter: Adapter, model: Model, after: Report) -> str:
    """What the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    sets = ", ".join(after.run.settings["prompts"])
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="prompts",
            dataset_name=f"{sets} ({split})",
            metric_type=f"gap-{a}",
            metric_value=s.gap.value,
            metric_name=f"gap {entry.among}",
        )
        for a, entry in after.attributes.items()
        for split, s in entry.splits.items()
        if s.gap.value is not None
    ]
    licence, _, licence_name = (model.licence or "").partition("/")
    header = ModelCardData(
        library_name="diffusers",
        base_model=model.path.removeprefix("package:"),
        license=licence or None,
        tags=[
            "lora" if adapter.is_lora else "textual_inversion",
            "text-to-image",
            "evenhand",
            "distributional-alignment",
        ],
        model_name=adapter.folder.name,
        eval_results=results or None,
    )
    if licence_name:  # fields that the Hub wants beside `other`
        header["license_name"] = licence_name
        header["license_link"] = f"https://huggingface.co/{model.path}"
    return header.to_yaml()


def _shown(folder: pathlib.Path) -> str:
    """The folder as a reader would name it: no paths of this machine."""
    outside = folder.name if folder.is_absolute() else folder.as_posix()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else outside


def _example(report: Report, described: dict[str, Any]) -> str:
    """A prompt that was measured, with the token that stands in front of it."""
    prompts = [p.prompt for entry in report.attributes.values() for p in entry.prompts]
    token = f"{described['token']} " if "token" in described else ""
    return token + (prompts[0] if prompts else "a portrait of a person")


def _load(adapter: Adapter, folder: str) -> str:
    """The lines that load the weights in plain diffusers."""
    if adapter.is_lora:
        return f"pipe.load_lora_weights({literal(folder)})"
    from safetensors import safe_open

    with safe_open(adapter.weights, "pt") as file:
        several = set(CLIP_NAMES) <= set(file.keys())
    path = literal(f"{folder}/{adapter.weights.name}")
    if not several:
        return f"pipe.load_textual_inversion({path})"
    lines = ["from safetensors.torch import load_file", f"tokens = load_file({path})"]
    for name, suffix in zip(CLIP_NAMES, ("", "_2"), strict=True):
        lines.append(
            f'pipe.load_textual_inversion(tokens["{name}"], '
            f"token={literal(adapter.described.get('token'))}, "
            f"text_encoder=pipe.text_encoder{suffix}, tokenizer=pipe.tokenizer{suffix})"
        )
    return "\n".join(lines)


def _measured(settings: dict[str, Any], lines: list[Headline]) -> dict[str, Any]:
    """The numbers as `adapter.json` holds them."""
    kept = ("prompts", "splits", "images", "explicit_images", "seed", "judge", "settings")
    trained = {"judge_is_trainer": True} if settings.get("judge_is_trainer") else {}
    return {
        **{k: settings[k] for k in kept},
        **trained,
        "numbers": [
            {
                "subject": x.subject,
                "what": x.what,
                "before": _plain(x.found[0]),
                "after": _plain(x.found[1]),
                "change": _plain(x.change),
            }
            for x in lines
        ],
    }


def _plain(found: Found) -> Any:
    """The number as JSON."""
    return asdict(found) if isinstance(found, Estimate) else found
