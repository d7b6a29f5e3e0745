"""Which kind of judge a YAML means. This file imports the kinds; no kind imports it."""

import torch

from evenhand.devices import default_device
from evenhand.judges.base import Judge
from evenhand.judges.small_network import SmallNetworkJudge
from evenhand.recipes.judge import JudgeConfig


def load_judge(config: JudgeConfig, *, device: str | torch.device | None = None) -> Judge:
    """Loads a judge that `find_judge` found; frozen. The global generator stays as it is.

    Args:
        config: which.
        device: of its networks; `default_device` when None.

    Raises:
        UserError: weights missing or damaged, or classes that differ from the YAML's.
    """
    device = torch.device(device or default_device())
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if config.kind == "emoji":
            return SmallNetworkJudge(config, device=device)
        if config.kind == "vlm":
            from evenhand.judges.vlm import VisionLanguageJudge

            return VisionLanguageJudge(config, device=device)
        from evenhand.judges.photographs import PhotographJudge

        return PhotographJudge(config, device=device)
