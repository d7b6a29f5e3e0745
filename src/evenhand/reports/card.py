"""The card of an adapter: how to load it, what was measured, what was not.

Markdown with a model-index.
"""

import os
import pathlib
from typing import Any

from evenhand.core.adapters import CLIP_NAMES, LORA, find_adapter
from evenhand.core.files import write_json, write_text
from evenhand.core.resources import ROOT
from evenhand.recipes.model import load_model
from evenhand.reports.headlines import Headline, among, headlines
from evenhand.reports.html import number

TEXT = """
# {name}

{kind} for `{model}`, fine-tuned with evenhand so that what it draws approaches a
distribution its maker asked for: {target}. Weights{strength}: `{weights}`, digest `{digest}`.

## Load it

```python
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained("{base}")
{load}
image = pipe("{prompt}"{sampling}).images[0]
```

## Measured

Prompts: `{prompts}`, split {splits}, {images} images a prompt, same seeds before and after.
Perceived by `{judge}` (digest `{judge_digest}`), which is not the classifier trained against
(`{trainer}`). 95 % intervals, for prompts like these.

{table}

{sweep}The chance floor is what a generator exactly on target would score on as many images; "chance
removed" is the gap less what chance is expected to add, of which near equality a part is left.
Shares are as the classifier called them, errors included, where a line does not say that they are
corrected.

## Limits

- Classes are *as perceived by a named classifier*; they say nothing of who a person is. Other
  classifiers may disagree.
- Measured on the prompts above and nothing else: no other wording, concept, sampler or guidance,
  and no attribute but those in the table. Attributes not in the target may have shifted.
- The target was chosen by whoever trained the adapter. Measure it on your own prompts before you
  rely on it.
"""


def write_card(
    folder: str | os.PathLike,
    comparison: dict[str, Any],
    *,
    sweep: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Writes an adapter's `README.md` and puts the numbers into its `adapter.json`.

    Args:
        folder: of the adapter.
        comparison: of the base model with the adapter, as `evenhand.reports.comparison.compare`
            returns it; the adapter was loaded from its file.
        sweep: reports by strength of the adapter ("0.5"), of the same prompts.
    """
    from huggingface_hub import EvalResult, ModelCardData

    folder = pathlib.Path(folder)
    lines = headlines([comparison["before"], comparison["after"]], comparison["change"])
    adapter = find_adapter(folder)
    described = {k: v for k, v in adapter.described.items() if k != "measured"}
    after, settings = comparison["after"], comparison["after"]["run"]["settings"]
    write_json(folder / "adapter.json", {**described, "measured": _measured(settings, lines)})
    model, weights, lora = load_model(settings["model"]), adapter.weights, adapter.is_lora
    sets = ", ".join(settings["prompts"])
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="prompts",
            dataset_name=f"{sets} ({split})",
            metric_type=f"gap-{a}",
            metric_value=s["gap"]["value"],
            metric_name=f"gap {among(e)}",
        )
        for a, e in after["attributes"].items()
        for split, s in e["splits"].items()
    ]
    header = ModelCardData(
        library_name="diffusers",
        base_model=model.path.removeprefix("package:"),
        license="apache-2.0",
        tags=[
            "lora" if lora else "textual_inversion",
            "text-to-image",
            "evenhand",
            "distributional-alignment",
        ],
        model_name=folder.name,
        eval_results=results,
    )
    shares = described.get("settings", {}).get("target", {}).get("shares", {})
    outside = folder.name if folder.is_absolute() else folder.as_posix()
    shown = folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else outside
    prefix = f"{described['token']} " if "token" in described else ""
    text = TEXT.format(
        name=folder.name,
        model=settings["model"],
        weights=weights.name,
        kind="LoRA" if lora else "Soft tokens",
        strength=" at strength 1" if lora else "",
        load=_load(weights, shown, described),
        digest=described.get("digest", "?"),
        target="; ".join(
            f"{a}: " + ", ".join(f"{c} {s:g}" for c, s in t.items()) for a, t in shares.items()
        )
        or "see adapter.json",
        base=model.path.replace("package:", "src/evenhand/"),
        prompt=prefix + next(iter(after["attributes"].values()))["prompts"][0]["prompt"],
        sampling="".join(
            f", {name}={settings['settings'][name]}"
            for name in ("num_inference_steps", "guidance_scale")
            if settings["settings"][name] is not None
        ),
        prompts=", ".join(
            f"{name} version {version}" for name, version in settings["prompts"].items()
        ),
        splits=", ".join(settings["splits"]) or "all",
        images=settings["images"],
        judge=settings["judge"]["name"],
        judge_digest=settings["judge"]["digest"],
        trainer=described.get("classifier", {}).get("name", "unknown"),
        table=_table(lines),
        sweep=_sweep({"0": comparison["before"], **sweep, "1": after}) if sweep else "",
    )
    write_text(folder / "README.md", f"---\n{header.to_yaml()}\n---\n{text}")


def _load(weights: pathlib.Path, folder: str, described: dict[str, Any]) -> str:
    """The lines that load the weights in plain diffusers."""
    if weights.name == LORA:
        return f'pipe.load_lora_weights("{folder}")'
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        several = set(CLIP_NAMES) <= set(file.keys())
    if not several:
        return f'pipe.load_textual_inversion("{folder}/{weights.name}")'
    lines = [
        "from safetensors.torch import load_file",
        f'tokens = load_file("{folder}/{weights.name}")',
    ]
    for name, suffix in zip(CLIP_NAMES, ("", "_2"), strict=True):
        lines.append(
            f'pipe.load_textual_inversion(tokens["{name}"], token="{described.get("token")}", '
            f"text_encoder=pipe.text_encoder{suffix}, tokenizer=pipe.tokenizer{suffix})"
        )
    return "\n".join(lines)


def _table(lines: list[Headline]) -> str:
    rows = [
        "| | | before | after | change, same seeds | target | chance floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for x in lines:
        cells = [
            x.subject,
            x.what,
            *map(number, x.found),
            *("" if v is None else number(v) for v in (x.change, x.target, x.floor)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _sweep(reports: dict[str, dict[str, Any]]) -> str:
    """A table over the adapter's strength of the headline numbers there are at every one."""
    columns = {
        strength: {(x.subject.split(":")[0], x.what): x.found[0] for x in headlines([report])}
        for strength, report in reports.items()
    }
    rows = [
        "By strength of the adapter (`pipe.set_adapters(name, strength)`; between 0 and 1 on "
        "fewer images):",
        "",
        f"| | | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for subject, what in next(iter(columns.values())):
        if all((subject, what) in column for column in columns.values()):
            rows.append(
                f"| {subject} | {what} | "
                f"{' | '.join(number(column[subject, what]) for column in columns.values())} |"
            )
    return "\n".join(rows) + "\n\n"


def _measured(settings: dict[str, Any], lines: list[Headline]) -> dict[str, Any]:
    kept = ("prompts", "splits", "images", "explicit_images", "seed", "judge", "settings")
    return {
        **{k: settings[k] for k in kept},
        "numbers": [
            {
                "subject": x.subject,
                "what": x.what,
                "before": x.found[0],
                "after": x.found[1],
                "change": x.change,
            }
            for x in lines
        ],
    }
