"""What both kinds of measurement share: who judges, and a record for each image judged."""

import re
from typing import TYPE_CHECKING, Any

from evenhand.attributes import Target
from evenhand.calibration import read_calibration
from evenhand.classifier_config import load_classifier_config
from evenhand.config import Measure
from evenhand.errors import UserError, unknown
from evenhand.prompts import Prompt
from evenhand.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from evenhand.classifiers import AttributeClassifier

Row = tuple[Prompt, int]


def judging(config: Measure, judge_name: str, domain: str) -> dict[str, Any]:
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


def sure(settings: dict[str, Any], judge: "AttributeClassifier") -> dict[str, Any]:
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


def judged(batch: list[Row], images: "Tensor", judge: "AttributeClassifier", attributes: dict[str, Any],
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
