"""Measuring a generator: prompts x seeds -> images -> perceived classes -> records and a report."""

import json
import os
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from evenhand.attributes import Target
from evenhand.classifier_config import load_classifier_config
from evenhand.config import Measure, Settings, attributes_of, check, load_model, load_prompts
from evenhand.correction import read_calibration
from evenhand.errors import UserError, unknown
from evenhand.files import whole, write_text
from evenhand.pictures import Picture, by_folder, read_table
from evenhand.prompts import Prompt
from evenhand.records import Record, append, image_seed, key, reopen
from evenhand.report import counts
from evenhand.runs import open_run, peak_memory
from evenhand.stopping import LOOK, enough

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
    assert config.model
    model, sets = load_model(config.model), [load_prompts(name) for name in config.prompts]
    if not (config.judge or model.judge):
        raise UserError(f"model {config.model!r} names no judge; name a classifier with --judge")
    judging = _judging(config, str(config.judge or model.judge), config.domain or model.domain or model.path)
    if config.adapter:
        from evenhand.adapters import find_adapter

        find_adapter(config.adapter)
    settings = check(Settings, {**model.settings.model_dump(), **config.settings}, where="settings")
    splits = config.splits or None
    rows = [(p, image_seed(config.seed, p.text, i)) for s in sets for p in s.prompts(splits) for i in range(config.images)]
    rows += [(p, image_seed(config.seed, p.text, i)) for s in sets
             for p in s.explicit_prompts(list(judging["attributes"]), splits) for i in range(config.explicit_images)]
    rows = list({key(*row): row for row in rows}.values())  # two sets may share a prompt
    return rows, {
        "model": config.model, "adapter": config.adapter, "adapter_scale": config.adapter_scale,
        "prompts": {name: s.version for name, s in zip(config.prompts, sets, strict=True)}, "splits": config.splits,
        "images": config.images, "explicit_images": config.explicit_images, "seed": config.seed, "batch": config.batch,
        **({"until": {"width": config.until, "every": LOOK}} if config.until else {}),
        "settings": settings.model_dump(mode="json"), **judging}


def _judging(config: Measure, judge_name: str, domain: str) -> dict[str, Any]:
    """The settings of a run that say what is perceived, by whom, and what is known of that classifier's errors."""
    judge = load_classifier_config(judge_name)
    names = config.attributes or list(judge.known)
    for name in names:
        if name not in judge.known:
            raise unknown("attribute", name, judge.known, where=f"judge {judge_name!r}")
    if config.target:
        Target(shares=config.target).check(judge.known)
    file = config.calibration or judge.beside("calibration.json")
    calibration = read_calibration(file) if file else None
    if calibration:
        calibration = calibration.of(names)
    if config.calibration and calibration:
        for name in names:
            calibration.confusion(judge.known[name])  # what cannot be corrected is refused now
    return {"judge": {"name": judge_name}, "concept": judge.concept, "domain": domain,
            "attributes": {name: judge.attributes[name] for name in names},
            "calibration": calibration.model_dump(mode="json") if calibration else None,
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
    if config.images_from:
        return _measure_images(config, pathlib.Path(folder), progress)
    rows, settings = plan(config)
    from evenhand.adapters import describe_adapter

    trainer = describe_adapter(config.adapter).get("classifier", {}) if config.adapter else {}
    diffusion, judge = _load(config, settings)
    if trainer.get("digest") == judge.digest and not judge_may_be_trainer:
        raise UserError(f"judge {judge.name!r} trained the adapter {config.adapter!r}: its numbers would flatter. Name another "
                        "with --judge, or insist with --judge-may-be-trainer")
    settings["source"] = diffusion.source
    folder = open_run(folder, _sure(settings, judge))
    journal = folder / "records.jsonl"
    done, left, drawn = {key(r, r.seed): r for r in reopen(journal)}, len(rows), 0
    found: dict[str, list[Record]] = {}  # of the blocks before: a run that is continued decides as it did
    for block in _blocks(rows, config):
        wanted = [row for row in block if not _may_stop(found.get(row[0].text, []), settings)]
        left -= len(block) - len(wanted)
        for start in range(0, len(wanted), config.batch):
            batch = wanted[start : start + config.batch]
            missing = [i for i, row in enumerate(batch) if key(*row) not in done]
            if missing:
                images = diffusion.sample([p.text for p, _ in batch], [seed for _, seed in batch])
                records = _judged(batch, images, judge, settings["attributes"], diffusion.source,
                                  flagged=diffusion.safety(images) if diffusion.safety else None)
                for i in missing:
                    _save(images[i], folder / records[i].image)
                    done[key(*batch[i])] = records[i]
                append(journal, [records[i] for i in missing])
            drawn += len(batch)
            if progress:
                progress(drawn, left)
        for row in wanted:
            found.setdefault(row[0].text, []).append(done[key(*row)])
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


def _blocks(rows: list[Row], config: Measure) -> list[list[Row]]:
    """All rows at once; or, where prompts may stop, the next images of every prompt, a look at a time."""
    if not config.until:
        return [rows]
    place: dict[str, int] = {}
    blocks: dict[int, list[Row]] = {}
    for prompt, seed in rows:
        place[prompt.text] = place.get(prompt.text, -1) + 1
        blocks.setdefault(0 if prompt.states else place[prompt.text] // LOOK, []).append((prompt, seed))
    return [blocks[k] for k in sorted(blocks)]


def _may_stop(found: list[Record], settings: dict[str, Any]) -> bool:
    """Whether every share of a prompt is known well enough from its records."""
    if not found or "until" not in settings:
        return False
    known = attributes_of(settings["attributes"])
    return all(enough(counts(found, attribute), **settings["until"]) for attribute in known.values())


def plan_images(config: Measure) -> tuple[list[Picture], dict[str, Any]]:
    """As `plan`, of images that are there already: the files with their prompts, and everything that the result depends on."""
    pictures = config.images_from or ""
    if not config.judge:
        raise UserError("images made elsewhere have no judge of their own: name a classifier with --judge")
    settings = {"images_from": str(pathlib.Path(pictures).resolve()), "source": f"folder:{pictures}", "seed": config.seed,
                "prompts": dict.fromkeys(config.prompts, "table"), "splits": [],
                **_judging(config, config.judge, config.domain or pictures)}
    return (read_table(config.prompts[0], pictures) if config.prompts else by_folder(pictures)), settings


def _measure_images(config: Measure, folder: pathlib.Path, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Judges images that are there already; what cannot be read is left out, counted and named in `skipped.jsonl`."""
    from evenhand.classifiers import load_classifier
    from evenhand.images import in_batches, read_images

    listed, settings = plan_images(config)
    judge = load_classifier(settings["judge"]["name"])
    folder = open_run(folder, _sure(settings, judge))
    journal, skipped = folder / "records.jsonl", []
    done = {key(r, r.seed) for r in reopen(journal)}
    missing = [picture for picture in listed if key(picture.prompt, picture.seed) not in done]
    drawn = len(listed) - len(missing)

    def readable() -> Iterator[tuple[Picture, "Tensor"]]:
        for picture, image in read_images(missing):
            if isinstance(image, Exception):
                skipped.append({"image": str(picture.path), "why": str(image)})
            else:
                yield picture, image

    for batch, images in in_batches(readable(), config.batch):
        rows = [(p.prompt, p.seed) for p in batch]
        append(journal, _judged(rows, images, judge, settings["attributes"], settings["source"], [str(p.path) for p in batch]))
        drawn += len(batch)
        if progress:
            progress(drawn, len(listed))
    write_text(folder / "skipped.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped))
    if len(skipped) == len(listed):
        raise UserError(f"{config.images_from}: no image could be read; {folder / 'skipped.jsonl'} says why")
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(listed)} images could not be read: {folder / 'skipped.jsonl'} says why",
                      stacklevel=2)
    from evenhand.page import write_report

    return write_report(folder)


def _sure(settings: dict[str, Any], judge: "AttributeClassifier") -> dict[str, Any]:
    """The settings with the judge's digest.

    Raises:
        UserError: the calibration is of another classifier.
    """
    settings["judge"]["digest"] = judge.digest
    calibration = settings["calibration"]
    if calibration and calibration["digest"] != judge.digest:
        raise UserError(f"the calibration is of classifier {calibration['classifier']}@{calibration['digest']}, the judge is "
                        f"{judge.name}@{judge.digest}: calibrate it anew with `evenhand calibrate`")
    return settings


def _load(config: Measure, settings: dict[str, Any]) -> tuple["Diffusion", "AttributeClassifier"]:
    """The generator and the judge of a planned measurement."""
    from evenhand.classifiers import load_classifier
    from evenhand.diffusion import load_diffusion

    diffusion = load_diffusion(load_model(config.model or ""), adapter=config.adapter, adapter_scale=config.adapter_scale,
                               settings=settings["settings"])
    return diffusion, load_classifier(settings["judge"]["name"], device=diffusion.pipe.device)


def _judged(batch: list[Row], images: "Tensor", judge: "AttributeClassifier", attributes: dict[str, Any],
            source: str, files: list[str] | None = None, flagged: list[bool] | None = None) -> list[Record]:
    """A record for each image `[N, 3, H, W]`, with its file's name and what the safety checker said, where there is one."""
    import torch

    with torch.no_grad():
        predictions = judge(images)
    names = [*attributes, *([judge.concept] if judge.concept and judge.concept not in attributes else [])]
    classes = {name: judge.classes(name) for name in names}
    probs = {name: predictions.probs[name].cpu().tolist() for name in names}
    return [Record(prompt=p.text, concept=p.concept, family=p.family, split=p.split, seed=seed, source=source,
                   image=files[i] if files else _file(p.text, seed),
                   probs={a: {c: round(x, 4) for c, x in zip(classes[a], probs[a][i], strict=True)} for a in names},
                   seen=bool(predictions.seen[i]), flagged=flagged[i] if flagged else None, states=p.states)
            for i, (p, seed) in enumerate(batch)]


def _file(prompt: str, seed: int) -> str:
    """Where an image is kept, relative to the run directory."""
    return f"images/{re.sub(r'[^a-z0-9]+', '-', prompt.lower())[:60].strip('-')}-{seed:08x}.png"


def _save(image: "Tensor", path: pathlib.Path) -> None:
    """Writes one image `[3, H, W]` in [0, 1] as PNG, whole."""
    from PIL import Image

    array = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with whole(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")
