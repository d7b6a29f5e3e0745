"""The card of a set: `README.md` with the header that the Hub reads."""

import pathlib
from typing import Any

from evenhand.core.files import write_text
from evenhand.generate.ledger import REASONS
from evenhand.generate.plan import SetPlan
from evenhand.generate.report import SetReport
from evenhand.generate.writers import WRITERS
from evenhand.recipes.generate import Format
from evenhand.reports.card import card_template
from evenhand.stats.shares import Estimate


def write_card(folder: pathlib.Path, plan: SetPlan, report: SetReport, command: str) -> None:
    """Writes the card.

    Args:
        folder: of the set.
        plan: of the set.
        report: what it holds.
        command: that makes it again.
    """
    header = _header(plan, report)
    text = card_template("dataset.md.j2").render(
        name=folder.resolve().name,
        report=report,
        settings=report.settings,
        filter=plan.config.filter,
        reasons=REASONS,
        labels=[
            "prompt", "context", "group", "seed", "source", "flagged", *plan.names,
            *(f"{name}_confidence" for name in plan.names),
        ],
        licence=plan.model.licence if plan.model else None,
        made=plan.model is not None,
        command=command,
        percent=percent,
        formats=plan.config.out,
        files_of=files_of,
        tars=_tars(report),
    )  # fmt: skip
    write_text(folder / "README.md", f"---\n{header}\n---\n{text}")


def percent(found: Estimate | None) -> str:
    """A share in percent with its interval; a dash where there is none."""
    if found is None or found.value is None:
        return "–"
    interval = (
        ""
        if found.low is None or found.high is None
        else f" [{100 * found.low:.2f}, {100 * found.high:.2f}]"
    )
    return f"{100 * found.value:.2f} %{interval}"


def _header(plan: SetPlan, report: SetReport) -> str:
    """What the Hub reads: licence, size, and where the images of each split lie."""
    from huggingface_hub import DatasetCardData

    licence, _, licence_name = ((plan.model.licence if plan.model else None) or "").partition("/")
    header = DatasetCardData(
        license=licence or None,
        task_categories=["image-classification"],
        tags=["evenhand", "synthetic" if plan.model else "images"],
        size_categories=_size(report.images),
        configs=[_configuration(plan.config.out[0], report)],
    )
    if licence_name and plan.model:
        header["license_name"] = licence_name
        header["license_link"] = f"https://huggingface.co/{plan.model.path}"
    return header.to_yaml()


def files_of(kind: Format, split: str) -> str:
    """Where the images of a split lie in a format, as a pattern."""
    ending = WRITERS[kind][1]
    return f"{kind}/{split}-*{ending}" if ending else f"{kind}/{split}/**"


def _tars(report: SetReport) -> dict[str, str]:
    """The tar files of each split, as `webdataset` takes them; none where there are none."""
    found = {}
    for split in report.splits:
        shards = [x for x in report.shards if x.split == split and x.path.endswith(".tar")]
        if shards:
            found[split] = f"webdataset/{split}-{{00000..{len(shards) - 1:05d}}}.tar"
    return found


def _configuration(kind: Format, report: SetReport) -> dict[str, Any]:
    """What `datasets` reads: the first format, since it takes one of a repository."""
    files = [{"split": split, "path": files_of(kind, split)} for split in report.splits]
    return {"config_name": "default", "data_files": files}


def _size(n: int) -> str:
    """The Hub's class of sizes."""
    for limit, name in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M")):
        if n < limit:
            return name
    return "1M<n<10M"
