"""What `run.json` of a run directory holds, as far as reports need it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from evenhand.core.attributes import attributes_of
from evenhand.core.concept_targets import WrittenShares
from evenhand.core.errors import UserError
from evenhand.core.schema import check, read_json, versioned


class _Open(BaseModel):
    """A model that keeps keys it does not know: other versions write others."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class JudgeInfo(_Open):
    """Who judged."""

    name: str
    digest: str


class Until(_Open):
    """The rule by which prompts stopped: half the width of every interval, images between looks."""

    width: Annotated[float, Field(gt=0, lt=0.5)]
    every: Annotated[int, Field(ge=1, le=1000)]


class MeasureInfo(_Open):
    """The settings of a measurement that reports name or compute with."""

    judge: JudgeInfo
    attributes: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    prompts: dict[str, int | str] = {}
    splits: list[str] = []
    settings: dict[str, Any] = {}
    model: str | None = None
    images_from: str | None = None
    source: str | None = None
    concept: str | None = None
    domain: str | None = None
    joint: bool = False
    target: WrittenShares | None = None
    until: Until | None = None
    calibration: dict[str, Any] | None = None
    left_out: list[str] = []
    shared: list[str] = []
    cut: list[str] = []


class RunFile(_Open):
    """The file."""

    settings: MeasureInfo
    versions: dict[str, str] = {}
    threads: int | None = None
    device: str | None = None


def read_run_file(path: Any, *, newest: int) -> dict[str, Any]:
    """What `run.json` of a measurement holds, checked; the values are as they stand there.

    Args:
        path: of the file.
        newest: schema that this evenhand writes.

    Raises:
        UserError: it is none of a measurement, damaged, or of a newer evenhand.
    """
    folder = path.parent
    none = f"{folder}: is no run directory of `evenhand measure`"
    if not path.is_file():
        raise UserError(f"{none} (no readable run.json)")
    run = read_json(path, what="a run's settings", advice="measure anew, with another --out")
    versioned(run, kind="run", newest=newest, where=str(folder))
    settings = run.get("settings")
    if not isinstance(settings, dict) or not {"judge", "attributes"} <= settings.keys():
        raise UserError(f"{none}: its run.json names no judge")
    if "cells" in settings:
        raise UserError(f"{folder}: is an image set; its page is {folder / 'dataset.html'}")
    info = check(RunFile, run, where=str(path)).settings
    attributes_of(info.attributes)
    if info.model is None and info.images_from is None:
        raise UserError(f"{path}: settings name neither a model nor images_from")
    return run
