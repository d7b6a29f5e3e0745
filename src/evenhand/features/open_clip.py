"""Networks of open_clip, with the steps and the tokenizer that belong to them."""

import pathlib
from typing import Any

import torch

from evenhand.core.files import digest
from evenhand.features.preprocessing import Preprocessing, of_open_clip
from evenhand.features.sources import Source

SCHEMES = ("local-dir:", "hf-hub:")  # open_clip's own: a folder or Hub name with all that it needs
STEPS = ("mean", "std", "interpolation", "resize_mode")


def is_open_clip(model: str, weights: str | None) -> bool:
    """Whether a model is named in open_clip's way."""
    return weights is not None or model.startswith(SCHEMES)


def load_open_clip(
    model: str, weights: str | None, device: str | torch.device
) -> tuple[Any, Any, Preprocessing, list[str]]:
    """A frozen network, its tokenizer, its steps, and its digests.

    A file of weights does not say how images are prepared: that is taken from the published
    weights of its architecture, if they agree. A tokenizer from the Hub (SigLIP's) is read from
    the file's folder where it lies there.

    Args:
        model: architecture, with `weights`; or `local-dir:FOLDER`, `hf-hub:NAME`.
        weights: tag or file.
        device: of the network.
    """
    import open_clip

    file = pathlib.Path(weights) if weights and pathlib.Path(weights).is_file() else None
    network: Any = open_clip.create_model(
        model,
        pretrained=weights,
        device=device,
        force_preprocess_cfg=_published_steps(model) if file else None,
    )
    network.eval().requires_grad_(False)
    steps = of_open_clip(open_clip.get_model_preprocess_cfg(network))
    return network, _tokenizer(model, file), steps, _identity(model, weights, file)


def _published_steps(model: str) -> dict[str, Any]:
    """How the published weights of an architecture have images prepared, where they all agree."""
    import open_clip

    known = [
        open_clip.get_pretrained_cfg(model, tag)
        for tag in open_clip.list_pretrained_tags_by_model(model)
    ]
    found = [{key: cfg[key] for key in STEPS if cfg.get(key)} for cfg in known]
    return found[0] if found and all(steps == found[0] for steps in found) else {}


def _tokenizer(model: str, file: pathlib.Path | None) -> Any:
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    if file and (file.parent / "tokenizer_config.json").is_file():
        texts = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
        return HFTokenizer(
            str(file.parent),
            context_length=texts.get("context_length", 77),
            tokenizer_mode=texts.get("tokenizer_mode"),
            **texts.get("tokenizer_kwargs", {}),
        )
    return open_clip.get_tokenizer(model)


def _identity(model: str, weights: str | None, file: pathlib.Path | None) -> list[str]:
    """The architecture and the digest of the weights; the folder's where it is one."""
    import open_clip
    from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

    if model.startswith("local-dir:"):
        folder = model.removeprefix("local-dir:")
        return Source(folder, None, pathlib.Path(folder)).identity
    if model.startswith("hf-hub:"):
        file = pathlib.Path(download_pretrained_from_hf(model.removeprefix("hf-hub:")))
        return [file.parent.name, digest(file)]  # .../snapshots/COMMIT/file
    if file is None:  # the tag's, in the cache by now
        file = pathlib.Path(download_pretrained(open_clip.get_pretrained_cfg(model, weights or "")))
    return [model, digest(file)]
