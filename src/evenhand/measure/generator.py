"""Measuring a generator: prompts x seeds -> images -> perceived classes -> records and a report."""

import os
import pathlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evenhand.core.attributes import attributes_of
from evenhand.core.errors import UserError
from evenhand.core.files import whole
from evenhand.core.prompts import load_prompts
from evenhand.core.records import Record, append, image_seed, key, reopen
from evenhand.core.schema import check
from evenhand.judges.perceive import Row, judged
from evenhand.measure.settings import judging, sure
from evenhand.recipes.judge import find_judge
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import Settings, load_model
from evenhand.reports.tally import counts
from evenhand.stats.stopping import LOOK, enough
from evenhand.training.run_directory import open_run, peak_memory

if TYPE_CHECKING:
    from torch import Tensor

    from evenhand.diffusion.pipeline import Diffusion
    from evenhand.judges.base import Judge


def plan(config: Measure) -> tuple[list[Row], dict[str, Any]]:
    """What a measurement will draw.

    Rows (prompt, seed) in order, and everything that its result depends on.

    No model is loaded: every unknown name and impossible value is found here.

    Raises:
        UserError: what is unknown or impossible, and what is known instead.
    """
    assert config.model
    model, sets = load_model(config.model), [load_prompts(name) for name in config.prompts]
    if not (config.judge or model.judge):
        raise UserError(f"model {config.model!r} names no judge; name a classifier with --judge")
    judgement = judging(
        config, str(config.judge or model.judge), config.domain or model.domain or model.path
    )
    if config.adapter:
        from evenhand.core.adapters import find_adapter

        find_adapter(config.adapter)
    settings = check(Settings, {**model.settings.model_dump(), **config.settings}, where="settings")
    splits = config.splits or None
    rows = [
        (p, image_seed(config.seed, p.text, i))
        for s in sets
        for p in s.prompts(splits)
        for i in range(config.images)
    ]
    explicit = [p for s in sets for p in s.explicit_prompts(list(judgement["attributes"]), splits)]
    unknown_to_judge = [
        p
        for p in explicit
        if any(c not in judgement["attributes"][a]["classes"] for a, c in p.states.items())
    ]
    rows += [
        (p, image_seed(config.seed, p.text, i))
        for p in explicit
        if p not in unknown_to_judge
        for i in range(config.explicit_images)
    ]
    rows = list({key(*row): row for row in rows}.values())  # two sets may share a prompt
    return rows, {
        "model": config.model,
        "dtype": model.dtype,
        "adapter": config.adapter,
        "adapter_scale": config.adapter_scale,
        "prompts": {name: s.version for name, s in zip(config.prompts, sets, strict=True)},
        "texts": {name: s.digest for name, s in zip(config.prompts, sets, strict=True)},
        "splits": config.splits,
        "images": config.images,
        "explicit_images": config.explicit_images,
        "seed": config.seed,
        "batch": config.batch,
        **({"until": {"width": config.until, "every": LOOK}} if config.until else {}),
        **(
            {"left_out": [p.text for p in unknown_to_judge]}
            if unknown_to_judge and config.explicit_images
            else {}
        ),
        "settings": settings.model_dump(mode="json"),
        **judgement,
    }


def measure_generator(
    config: Measure,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int], None] | None = None,
    judge_may_be_trainer: bool = False,
) -> dict[str, Any]:
    """As `measure`, of a generator.

    Every batch holds the same rows however often the run is cut and continued, so the records are
    the same.
    """
    rows, settings = plan(config)
    from evenhand.core.adapters import describe_adapter

    trainer = describe_adapter(config.adapter).get("classifier", {}) if config.adapter else {}
    diffusion, judge = _load(config, settings)
    if trainer.get("digest") == judge.digest and not judge_may_be_trainer:
        raise UserError(
            f"judge {judge.name!r} trained the adapter {config.adapter!r}: its numbers would "
            "flatter. Name another "
            "with --judge, or insist with --judge-may-be-trainer"
        )
    settings["source"] = diffusion.source
    folder = open_run(folder, sure(settings, judge), free=["batch"])
    journal = folder / "records.jsonl"
    done, left, drawn = {key(r, r.seed): r for r in reopen(journal)}, len(rows), 0
    found: dict[
        str, list[Record]
    ] = {}  # of the blocks before: a run that is continued decides as it did
    for block in _blocks(rows, config):
        wanted = [row for row in block if not _may_stop(found.get(row[0].text, []), settings)]
        left -= len(block) - len(wanted)
        for start in range(0, len(wanted), config.batch):
            batch = wanted[start : start + config.batch]
            missing = [i for i, row in enumerate(batch) if key(*row) not in done]
            if missing:
                images = diffusion.sample([p.text for p, _ in batch], [seed for _, seed in batch])
                records = judged(
                    batch,
                    images,
                    judge,
                    settings["attributes"],
                    diffusion.source,
                    flagged=diffusion.safety(images) if diffusion.safety else None,
                )
                for i in missing:
                    _save(images[i], folder / records[i].image)
                    done[key(*batch[i])] = records[i]
                append(journal, [records[i] for i in missing])
            drawn += len(batch)
            if progress:
                progress(drawn, left)
        for row in wanted:
            found.setdefault(row[0].text, []).append(done[key(*row)])
    from evenhand.reports.html import write_report

    return write_report(folder)


def cost(config: Measure) -> tuple[float, int]:
    """What a measurement will cost.

    (seconds, peak memory in bytes), from drawing and judging its first batch twice.
    """
    rows, settings = plan(config)
    diffusion, judge = _load(config, settings)
    batch, seconds = rows[: config.batch], 0.0
    for _ in range(2):  # the first time is slower than all others
        started = time.perf_counter()
        judged(
            batch,
            diffusion.sample([p.text for p, _ in batch], [seed for _, seed in batch]),
            judge,
            settings["attributes"],
            "",
        )
        seconds = time.perf_counter() - started
    return seconds * len(rows) / len(batch), peak_memory()


def _blocks(rows: list[Row], config: Measure) -> list[list[Row]]:
    """All rows at once.

    Or, where prompts may stop, the next images of every prompt, a look at a time.
    """
    if not config.until:
        return [rows]
    place: dict[str, int] = {}
    blocks: dict[int, list[Row]] = {}
    for prompt, seed in rows:
        place[prompt.text] = place.get(prompt.text, -1) + 1
        blocks.setdefault(0 if prompt.states else place[prompt.text] // LOOK, []).append(
            (prompt, seed)
        )
    return [blocks[k] for k in sorted(blocks)]


def _may_stop(found: list[Record], settings: dict[str, Any]) -> bool:
    """Whether every share of a prompt is known well enough from its records."""
    if not found or "until" not in settings:
        return False
    known = attributes_of(settings["attributes"])
    return all(
        enough(counts(found, attribute), **settings["until"]) for attribute in known.values()
    )


def _load(config: Measure, settings: dict[str, Any]) -> tuple["Diffusion", "Judge"]:
    """The generator and the judge of a planned measurement."""
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.judges.registry import load_judge

    diffusion = load_diffusion(
        load_model(config.model or ""),
        adapter=config.adapter,
        adapter_scale=config.adapter_scale,
        settings=settings["settings"],
    )
    return diffusion, load_judge(
        find_judge(settings["judge"]["name"]), device=diffusion.pipe.device
    )


def _save(image: "Tensor", path: pathlib.Path) -> None:
    """Writes one image `[3, H, W]` in [0, 1] as PNG, whole."""
    from PIL import Image

    from evenhand.images.tensors import to_uint8

    with whole(path) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary, format="PNG")
