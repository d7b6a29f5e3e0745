"""The card of an adapter as text: how to load it, what was measured and verified, what was not.

Markdown with a model-index, after `templates/card.md.j2`.
"""

import itertools
import json
import pathlib
import re
import shlex
from typing import Any

from evenhand.core.adapters import CLIP_NAMES, LORA, Adapter
from evenhand.core.settings import flat
from evenhand.reports.changes import Comparison
from evenhand.reports.headlines import Headline, headlines, number
from evenhand.reports.models import Report
from evenhand.reports.sweep.models import sweep_of
from evenhand.reports.sweep.table import table_of


def readme(adapter: Adapter, comparison: Comparison) -> str:
    """The card, of what `adapter.json` and the report say."""
    described, settings = adapter.described, comparison.after.run.settings
    measured, trainer = described["measured"], described.get("classifier") or {}
    lines = headlines([comparison.before, comparison.after], comparison.change)
    off_target = named_off_target(comparison.after)
    sweep = sweep_of(adapter)
    sampling = ("num_inference_steps", "guidance_scale")
    text = card_template("card.md.j2").render(
        name=pathlib.PurePath(measured["folder"]).name,
        adapter=adapter,
        described=described,
        measured=measured,
        verified=described.get("verified"),
        trained_by=described.get("versions", {}).get("evenhand"),
        target=described.get("settings", {}).get("target", {}).get("shares", {}),
        base=measured["base"]["path"].replace("package:", "src/evenhand/"),
        load=load_lines(adapter, measured["folder"]),
        prompt=_example(comparison.after, described),
        sampling=[option for option in sampling if settings["settings"][option] is not None],
        settings=settings,
        notes=[*comparison.after.cautions, *comparison.notes],
        trainer=trainer.get("name"),
        judge_is_trainer=settings.get("judge_is_trainer")
        or trainer.get("digest") == settings["judge"]["digest"],
        lines=[line for line in lines if not _is_of(line, off_target)],
        off_target=off_target,
        off_lines=[line for line in lines if _is_of(line, off_target)],
        accepted=comparison.accepted,
        sweep=sweep,
        swept=table_of(sweep.points, sweep.suggested) if sweep else None,
        commands=commands(measured, settings),
    )
    return f"---\n{_header(adapter, comparison.after)}\n---\n{text}"


def named_off_target(report: Report) -> list[str]:
    """The attributes that were measured and that the target, where there is one, does not name."""
    entries = report.attributes.items()
    if all(entry.target is None for _, entry in entries):
        return []
    return [name for name, entry in entries if entry.target is None]


def commands(measured: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The commands that measure the numbers of a card again, on the same prompts and seeds.

    Args:
        measured: what `adapter.json` says of the numbers.
        settings: of the run with the adapter.
    """
    options = [
        *(("--prompts", name) for name in settings["prompts"]),
        *(("--split", name) for name in settings["splits"]),
        ("--judge", settings["judge"]["name"]),
        ("--attributes", ",".join(settings["attributes"])),
        *(("--target", _target(a, t)) for a, t in (settings.get("target") or {}).items()),
        *(("--setting", f"{k}={_value(v)}") for k, v in _given(settings["settings"]).items()),
        ("--images", settings["images"]),
        ("--explicit-images", settings["explicit_images"]),
        ("--seed", settings["seed"]),
        ("--batch", settings["batch"]),
    ]
    joint = ["--joint"] if settings.get("joint") else []
    words = ["evenhand", "measure", settings["model"], *map(str, itertools.chain(*options)), *joint]
    folder = measured["folder"]
    place = folder if "/" in folder else f"./{folder}"
    after = [*words, "--adapter", place, "--out", "after"]
    return [
        shlex.join([*words, "--out", "before"]),
        shlex.join(after),
        shlex.join(["evenhand", "compare", "before", "after"]),
    ]


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


def _header(adapter: Adapter, after: Report) -> str:
    """What the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    measured = adapter.described["measured"]
    base, sets = measured["base"], ", ".join(after.run.settings["prompts"])
    verified = adapter.described.get("verified") or {}
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
    licence, _, licence_name = (base["licence"] or "").partition("/")
    header = ModelCardData(
        library_name="diffusers",
        base_model=base["path"].removeprefix("package:"),
        license=licence or None,
        tags=[
            "lora" if adapter.is_lora else "textual_inversion",
            "text-to-image",
            "evenhand",
            "distributional-alignment",
            *(["verified"] if verified.get("passed") else []),
        ],
        model_name=pathlib.PurePath(measured["folder"]).name,
        eval_results=results or None,
    )
    if licence_name:  # fields that the Hub wants beside `other`
        header["license_name"] = licence_name
        header["license_link"] = f"https://huggingface.co/{base['path']}"
    return header.to_yaml()


def _example(report: Report, described: dict[str, Any]) -> str:
    """A prompt that was measured, with the token that stands in front of it."""
    prompts = [p.prompt for entry in report.attributes.values() for p in entry.prompts]
    token = f"{described['token']} " if "token" in described else ""
    return token + (prompts[0] if prompts else "a portrait of a person")


def load_lines(adapter: Adapter, folder: str) -> str:
    """The lines that load the weights in plain diffusers."""
    if adapter.is_lora:
        more = f", weight_name={literal(name)}" if (name := adapter.weights.name) != LORA else ""
        return f"pipe.load_lora_weights({literal(folder)}{more})"
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


def _is_of(line: Headline, attributes: list[str]) -> bool:
    """Whether a line is of one of these attributes."""
    return line.subject.startswith(tuple(f"{a}{sign}" for a in attributes for sign in ":,"))


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the sampler that were named, flat."""
    return {k: v for k, v in flat(settings).items() if v not in (None, {})}


def _target(attribute: str, shares: dict[str, float]) -> str:
    return f"{attribute}={','.join(f'{c}:{share:g}' for c, share in shares.items())}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
