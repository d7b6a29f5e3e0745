"""An adapter's file in a fresh process, by diffusers alone: does it load, and draw what it did?"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.prompts import Row
from evenhand.core.references import FILE, FOLDER, IMAGES, Reference, References
from evenhand.core.resources import locate
from evenhand.devices import default_device
from evenhand.diffusion.pipeline import only_variant
from evenhand.images.io import Unreadable, read_image
from evenhand.measure.plan import GeneratorPlan
from evenhand.recipes.model import Model, Settings
from evenhand.reports.headlines import number_of

STOCK = pathlib.Path(__file__).with_name("stock.py")
EQUAL = 2  # levels of 255 by which images that count as equal may differ


@dataclass(frozen=True)
class FileCheck:
    """What came of it.

    Attributes:
        answer: of `stock.py`.
        rows: prompts and seeds of the images that were drawn.
        said: what was done and found, in sentences.
        wrong: what stands against the file, in sentences.
    """

    answer: dict[str, Any]
    rows: list[tuple[str, int]]
    said: list[str]
    wrong: list[str]


def check_file(
    plan: GeneratorPlan, references: References | None, folder: pathlib.Path
) -> FileCheck:
    """Loads an adapter's file in a fresh process and draws a few images without and with it.

    Args:
        plan: of the measurement with the adapter.
        references: images that it must draw again; None where there are none.
        folder: for the images.

    Raises:
        UserError: the file is damaged, or the model's own loader does not take it.
    """
    ((adapter, _),) = plan.adapters.parts
    refuse_damaged(adapter)
    if references and references.digest == adapter.digest:
        settings, dtype = Settings(**references.settings), references.dtype
        rows = [(x.prompt, x.seed) for x in references.images]
    else:
        settings, dtype = Settings(**plan.settings["settings"]), plan.model.dtype
        rows = [(p.text, seed) for p, seed in _first_of_each(plan.rows)]
    request = request_of(adapter, plan.model, settings, rows, folder, dtype=dtype)
    (answer,) = stock([request])
    if answer["error"]:
        raise UserError(
            f"{adapter.weights}: plain diffusers {answer['versions']['diffusers']} cannot use it "
            f"with {plan.model.name!r}: {answer['error']['kind']}: {answer['error']['message']}"
        )
    said, wrong = read_answer(answer)
    if references:
        more, less = against(references, adapter, folder)
        said, wrong = [*said, *more], [*wrong, *less]
    return FileCheck(answer, rows, said, wrong)


def request_of(
    adapter: Adapter,
    model: Model,
    settings: Settings,
    rows: list[tuple[str, int]],
    out: pathlib.Path,
    *,
    dtype: str | None = None,
) -> dict[str, Any]:
    """What `stock.py` is asked for: some images of a model without and with an adapter."""
    path = locate(model.path)
    local = pathlib.Path(path).is_dir()
    with safe_open(adapter.weights, "pt") as file:
        first = next(iter(file.keys()), "")
    return {
        "base": {
            "path": str(pathlib.Path(path).resolve()) if local else path,
            "revision": None if local else model.revision,
            "variant": model.variant or (only_variant(pathlib.Path(path)) if local else None),
            "dtype": dtype or model.dtype,
        },
        "weights": str(adapter.weights.resolve()),
        "kind": "lora" if adapter.is_lora else "soft tokens",
        "token": adapter.described.get("token", first),
        "rows": rows,
        "settings": settings.call(),
        "scheduler": settings.scheduler,
        "scheduler_options": settings.scheduler_options,
        "without": True,
        "device": str(default_device()),
        "out": str(out.resolve()),
    }


def stock(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of `stock.py`, in a process that knows nothing of evenhand.

    Raises:
        UserError: it ended without an answer.
    """
    folders = [pathlib.Path(r["out"]) for r in requests]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    write_json(folders[0] / "request.json", requests)
    done = subprocess.run(
        [sys.executable, "-I", str(STOCK), str(folders[0] / "request.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"},
    )
    files = [folder / "answer.json" for folder in folders]
    if done.returncode or not all(file.is_file() for file in files):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"plain diffusers ended with code {done.returncode}: {last}")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def refuse_damaged(adapter: Adapter) -> None:
    """Refuses a file that holds no tensors, or cannot be read to its end."""
    try:
        with safe_open(adapter.weights, "np") as file:
            keys = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{adapter.weights}: is no safetensors file, or not all of one ({error}); download or "
            "export it again"
        ) from error
    if not keys:
        raise UserError(f"{adapter.weights}: holds no tensor; export it again")


def keep_references(plan: GeneratorPlan, drawn: pathlib.Path, file: FileCheck) -> None:
    """Keeps the images that were just drawn from the file as the adapter's reference images.

    Args:
        plan: of the measurement with the adapter.
        drawn: folder of the images.
        file: what came of them.
    """
    ((adapter, _),) = plan.adapters.parts
    (adapter.folder / FOLDER).mkdir(exist_ok=True)
    images = []
    for i, (prompt, seed) in enumerate(file.rows):
        images.append(Reference(prompt=prompt, seed=seed, file=f"{FOLDER}/{i}.png"))
        shutil.copy(drawn / f"with-{i}.png", adapter.folder / images[-1].file)
    found = References(
        drawn_from="file",
        digest=adapter.digest,
        images=images,
        settings=plan.settings["settings"],
        dtype=plan.model.dtype,
        **{k: file.answer[k] for k in ("threads", "device", "versions")},
    )
    write_json(adapter.folder / FILE, found.model_dump(mode="json"))


def _first_of_each(rows: list[Row]) -> list[Row]:
    """The first image of each of the first few prompts."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row[0].text, row)
    return list(first.values())[:IMAGES]


def read_answer(answer: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What an answer says, and what of it stands against the file."""
    versions = answer["versions"]
    said = [
        f"Its file was loaded in a fresh process by diffusers {versions['diffusers']} "
        f"(transformers {versions['transformers']}, peft {versions['peft']}) alone; it changed "
        f"{answer['changed']} of {number_of(answer['images'], 'image')}, by up to "
        f"{answer['largest']:.2f} of a pixel's range."
    ]
    wrong = []
    if left := answer["unexpected"]:
        wrong.append(f"The loader left {len(left)} tensors of the file over, such as {left[0]}.")
    if answer["zero_matters"]:
        zero = answer["zero"]
        wrong.append(f"{len(zero)} tensors that the model uses are zero, such as {zero[0]}.")
    if not answer["changed"]:
        wrong.append("It loads and does nothing: no image changed.")
    return said, wrong


def against(
    references: References, adapter: Adapter, drawn: pathlib.Path
) -> tuple[list[str], list[str]]:
    """How the images drawn compare with the reference images, and what stands against the file."""
    if references.digest != adapter.digest:
        return [], [
            f"The reference images are of other weights (digest {references.digest}): the file was "
            "changed, or delete references.json and references/."
        ]
    far, images = [], references.images
    for i, image in enumerate(images):
        try:
            kept = read_image(adapter.folder / image.file)
        except (Unreadable, OSError) as error:
            raise UserError(
                f"{adapter.folder / image.file}: is no image ({error}); delete references.json and "
                "references/, or export the adapter again"
            ) from error
        now = read_image(drawn / f"with-{i}.png")
        same = kept.shape == now.shape
        far.append(int(np.abs(np.subtract(kept, now, dtype=int)).max()) if same else 255)
    source = "the model in training" if references.drawn_from == "training" else "its file, once"
    line = (
        f"{sum(x <= EQUAL for x in far)} of {len(images)} reference images, drawn by {source}, "
        f"were drawn again within {EQUAL}/255 (largest difference {max(far)}/255)."
    )
    return ([line], []) if max(far) <= EQUAL else ([], [line])
