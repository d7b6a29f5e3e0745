"""Which kind of judge a YAML means. This file imports the kinds; no kind imports it."""

import torch

from evenhand.judges.base import Judge
from evenhand.judges.small_network import SmallNetworkJudge
from evenhand.recipes.judge import load_judge_config


def load_judge(name: str, *, device: str | torch.device = "cpu") -> Judge:
    """Loads a classifier by the name of its YAML; frozen.

    Raises:
        UserError: unknown name, weights missing or damaged, or classes that differ from the
            YAML's.
    """
    kind = load_judge_config(name).kind
    if kind == "emoji":
        return SmallNetworkJudge(name, device=device)
    if kind == "vlm":
        from evenhand.judges.vlm import VisionLanguageJudge

        return VisionLanguageJudge(name, device=device)
    from evenhand.judges.photographs import PhotographJudge

    return PhotographJudge(name, device=device)
