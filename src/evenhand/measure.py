"""Measuring a generator: prompts x seeds -> images -> perceived classes -> records and a report."""

import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evenhand.attributes import Target
from evenhand.config import Measure, Settings, check, load_classifier_config, load_model, load_prompts
from evenhand.errors import UserError, unknown
from evenhand.files import whole
from evenhand.prompts import Prompt
from evenhand.records import Record, append, image_seed, key, reopen
from evenhand.runs import open_run, peak_memory

if TYPE_CHECKING:
    from torch import Tensor

    from evenhand.classifiers import AttributeClassifier
    from evenhand.diffusion import Diffusion

Row = tuple[Prompt, int]


def plan(config: Measure) -> tuple[list[Row], dict[str, Any]]:
    """What a measurement will draw: rows (prompt, seed) in order, and everything that its result depends on.

    No model is loaded: every unknown name and impossible value is found here.

    Raises:
        UserError: what is unknown or impossible, and what is known instead.
    """
    model, sets = load_model(config.model), [load_prompts(name) for name in config.prompts]
    judge_name = config.judge or model.judge
    if not judge_name:
        raise UserError(f"model {config.model!r} names no judge; name a classifier with --judge")
    judge = load_classifier_config(judge_name)
    names = config.attributes or list(judge.known)
    for name in names:
        if name not in judge.known:
            raise unknown("attribute", name, judge.known, where=f"judge {judge_name!r}")
    target = Target(shares=config.target) if config.target else None
    if target:
        target.check(judge.known)
    if config.adapter:
        from evenhand.adapters import find_adapter

        find_adapter(config.adapter)
    settings = check(Settings, {**model.settings.model_dump(), **config.settings}, where="settings")
    splits = config.splits or None
    rows = [(p, image_seed(config.seed, p.text, i)) for s in sets for p in s.prompts(splits) for i in range(config.images)]
    rows += [(p, image_seed(config.seed, p.text, i)) for s in sets for p in s.explicit_prompts(names, splits)
             for i in range(config.explicit_images)]
    rows = list({key(*row): row for row in rows}.values())  # two sets may share a prompt
    return rows, {
        "model": config.model, "adapter": config.adapter, "adapter_scale": config.adapter_scale,
        "prompts": {name: s.version for name, s in zip(config.prompts, sets, strict=True)}, "splits": config.splits,
        "images": config.images, "explicit_images": config.explicit_images, "seed": config.seed, "batch": config.batch,
        "settings": settings.model_dump(mode="json"), "judge": {"name": judge_name}, "concept": judge.concept,
        "attributes": {name: judge.attributes[name] for name in names},
        **({"joint": True} if config.joint and len(names) > 1 else {}),
        "target": {a: config.target[a] for a in names if a in config.target}}


def measure(config: Measure, folder: str | os.PathLike, *, progress: Callable[[int, int], None] | None = None,
            judge_may_be_trainer: bool = False) -> dict[str, Any]:
    """Measures a generator into a run directory and returns the report.

    Every batch holds the same rows however often the run is cut and continued, so the records are the same.

    Args:
        config: what to measure.
        folder: run directory; a run of the same settings in it is continued.
        progress: called with (images done, images in all).
        judge_may_be_trainer: judge even an adapter that was trained against the judge.

    Raises:
        UserError: bad settings, another run's folder, or a judge that trained the adapter.
    """
    rows, settings = plan(config)
    from evenhand.adapters import describe_adapter

    trainer = describe_adapter(config.adapter).get("classifier", {}) if config.adapter else {}
    diffusion, judge = _load(config, settings)
    if trainer.get("digest") == judge.digest and not judge_may_be_trainer:
        raise UserError(f"judge {judge.name!r} trained the adapter {config.adapter!r}: its numbers would flatter. Name another "
                        "with --judge, or insist with --judge-may-be-trainer")
    settings["judge"]["digest"], settings["source"] = judge.digest, diffusion.source
    folder = open_run(folder, settings)
    journal = folder / "records.jsonl"
    done = {key(r, r.seed) for r in reopen(journal)}
    for start in range(0, len(rows), config.batch):
        batch = rows[start : start + config.batch]
        missing = [i for i, row in enumerate(batch) if key(*row) not in done]
        if missing:
            images = diffusion.sample([p.text for p, _ in batch], [seed for _, seed in batch])
            records = _judged(batch, images, judge, settings["attributes"], diffusion.source)
            for i in missing:
                _save(images[i], folder / records[i].image)
            append(journal, [records[i] for i in missing])
        if progress:
            progress(min(start + config.batch, len(rows)), len(rows))
    from evenhand.page import write_report

    return write_report(folder)


def probe(config: Measure) -> tuple[float, int]:
    """What a measurement will cost: (seconds, peak memory in bytes), from drawing and judging its first batch twice."""
    rows, settings = plan(config)
    diffusion, judge = _load(config, settings)
    batch, seconds = rows[: config.batch], 0.0
    for _ in range(2):  # the first time is slower than all others
        started = time.perf_counter()
        _judged(batch, diffusion.sample([p.text for p, _ in batch], [seed for _, seed in batch]), judge, settings["attributes"], "")
        seconds = time.perf_counter() - started
    return seconds * len(rows) / len(batch), peak_memory()


def _load(config: Measure, settings: dict[str, Any]) -> tuple["Diffusion", "AttributeClassifier"]:
    """The generator and the judge of a planned measurement."""
    from evenhand.classifiers import load_classifier
    from evenhand.diffusion import load_diffusion

    diffusion = load_diffusion(load_model(config.model), adapter=config.adapter, adapter_scale=config.adapter_scale,
                               settings=settings["settings"])
    return diffusion, load_classifier(settings["judge"]["name"], device=diffusion.pipe.device)


def _judged(batch: list[Row], images: "Tensor", judge: "AttributeClassifier", attributes: dict[str, Any],
            source: str) -> list[Record]:
    """A record for each image `[N, 3, H, W]`."""
    import torch

    with torch.no_grad():
        predictions = judge(images)
    names = [*attributes, *([judge.concept] if judge.concept and judge.concept not in attributes else [])]
    classes = {name: judge.classes(name) for name in names}
    probs = {name: predictions.probs[name].cpu().tolist() for name in names}
    return [Record(prompt=p.text, concept=p.concept, family=p.family, split=p.split, seed=seed, source=source,
                   image=f"images/{re.sub(r'[^a-z0-9]+', '-', p.text.lower())[:60].strip('-')}-{seed:08x}.png",
                   probs={a: {c: round(x, 4) for c, x in zip(classes[a], probs[a][i], strict=True)} for a in names},
                   seen=bool(predictions.seen[i]), states=p.states)
            for i, (p, seed) in enumerate(batch)]


def _save(image: "Tensor", path: pathlib.Path) -> None:
    """Writes one image `[3, H, W]` in [0, 1] as PNG, whole."""
    from PIL import Image

    array = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with whole(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")
