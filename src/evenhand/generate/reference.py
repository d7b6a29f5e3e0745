"""A reference set for transfer: balanced images of the model's own, captioned without classes.

The model draws prompts that say a class, a judge filters them, and each taken image gets the same
prompt without the class: what `evenhand train fairtl/...` learns from.
"""

import os
import pathlib
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import whole, write_json
from evenhand.generate import generate, plan
from evenhand.generate.asked import neutral_prompts
from evenhand.generate.contexts import contexts_of
from evenhand.generate.fill import Tell, quiet
from evenhand.generate.writing import written
from evenhand.recipes.generate import Generate
from evenhand.training.run_directory import versions

FILE = "reference.parquet"


def reference(
    config: Generate,
    folder: str | os.PathLike,
    *,
    progress: Tell = quiet,
    command: str = "",
) -> pathlib.Path:
    """Makes a reference set in a folder; the same call goes on where it was cut.

    Args:
        config: of the image set; its prompts say the class.
        folder: becomes the image set (as `evenhand generate` makes it), with `reference.parquet`
            (columns `image`, `text` without the class, `said`, and the classes) and
            `reference.json`, which says where it is from.
        progress: as of `generate`.
        command: that makes the set again.

    Returns:
        the file `reference.parquet`.

    Raises:
        UserError: prompts that do not say their class, another set's folder, and as `generate`.
    """
    if config.from_images or config.cells_by != "words":
        raise UserError(
            "reference: its images are drawn of prompts that say the class (cells_by: words), or "
            "nobody could tell how it was balanced"
        )
    if "parquet" not in config.out:
        raise UserError("reference: out shall hold parquet")
    folder = pathlib.Path(folder)
    contexts = written(config, folder)
    texts = contexts.texts if contexts else None
    planned = plan(config, texts)
    rows = contexts_of(config.contexts, texts)
    neutral = neutral_prompts(config, planned.classes, rows, planned.drawers)
    report = generate(config, folder, progress=progress, command=command)
    rows = _rows(folder, neutral)
    with whole(folder / FILE) as temporary:
        rows.to_parquet(temporary)
    counts: dict[str, dict[str, int]] = {}
    for name in planned.names:
        found = list(rows[name])
        counts[name] = {cls: found.count(cls) for cls in planned.classes[name]}
    write_json(
        folder / "reference.json",
        {
            "images": len(rows),
            "classes": counts,
            "captions": len(set(rows["text"])),
            "drawn": report.drawn,
            "of": report.digest,
            "source": sorted(set(rows["source"])),
            "judge": planned.judge.name,
            "command": command,
            "versions": versions(),
        },
    )
    return folder / FILE


def _rows(folder: pathlib.Path, neutral: dict[str, str]) -> Any:
    """The images of a set with both captions."""
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(p) for p in (folder / "parquet").rglob("*.parquet"))
    parts = [datasets.Dataset.from_parquet(file) for file in files]
    rows: Any = datasets.concatenate_datasets(parts)
    return rows.rename_column("prompt", "said").add_column(
        "text", [neutral[text] for text in rows["prompt"]]
    )
