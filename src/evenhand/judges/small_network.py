"""The three classifiers of the embedded world.

Small convolutional networks with one head an attribute.

Their architectures and seeds differ: `trainer` trains adapters, `judge` only judges, and `witness`
checks what the judge let through: it neither trains nor filters.
"""

import json
import os
import pathlib

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.core.errors import UserError, unknown
from evenhand.core.files import digest, whole, write_json
from evenhand.judges.base import Predictions
from evenhand.recipes.judge import JudgeConfig


def _strided(widths: list[int]) -> nn.Sequential:
    """3x3 convolutions of stride 2, group norm, SiLU; the last map keeps its places."""
    layers: list[nn.Module] = []
    for inside, outside in zip([3, *widths], widths, strict=False):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.GroupNorm(8, outside), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(widths[-1]), nn.SiLU())


class _Residual(nn.Module):
    """max-pool(x) + two convolutions with batch norm, ReLU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(inside, outside, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def _residual(widths: list[int]) -> nn.Sequential:
    """A stem of stride 2, residual blocks of stride 2, mean and maximum over places."""
    blocks = [
        _Residual(inside, outside) for inside, outside in zip(widths, widths[1:], strict=False)
    ]
    return nn.Sequential(
        nn.Conv2d(3, widths[0], 5, 2, 2),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(widths[-1]),
        nn.ReLU(),
    )


class _Dilated(nn.Module):
    """x + a 3x3 convolution whose places are some apart, with group norm and GELU."""

    def __init__(self, width: int, apart: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=apart, dilation=apart),
            nn.GroupNorm(1, width),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _patches(widths: list[int]) -> nn.Sequential:
    """Patches of 4x4 pixels, then dilated blocks at one resolution, as many as there are widths.

    All widths are equal; the places of a block are 1, 2, ... apart.
    """
    return nn.Sequential(
        nn.Conv2d(3, widths[0], 4, 4),
        nn.GELU(),
        *(_Dilated(width, apart) for apart, width in enumerate(widths, start=1)),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.LazyLinear(widths[-1]),
        nn.GELU(),
    )


ARCHITECTURES = {"strided": _strided, "residual": _residual, "patches": _patches}


class SmallNetwork(nn.Module):
    """Names attributes of 64x64 drawings.

    Args:
        architecture: `strided`, `residual` or `patches`.
        widths: channels of the stages.
        classes: class names of each attribute, one head an attribute.
        size: height and width of the images, pixels.
    """

    def __init__(
        self, *, architecture: str, widths: list[int], classes: dict[str, list[str]], size: int = 64
    ) -> None:
        super().__init__()
        self.config = {
            "architecture": architecture,
            "widths": widths,
            "classes": classes,
            "size": size,
        }
        self.body = ARCHITECTURES[architecture](widths)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1], len(names)) for name, names in classes.items()}
        )
        self.body(torch.zeros(2, 3, size, size))  # fixes the lazy layer's shape

    def features(self, images: Tensor) -> Tensor:
        """`[N, 3, 64, 64]` in [0, 1] -> features `[N, D]`, differentiable in the images."""
        return self.body(images * 2 - 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`[N, 3, 64, 64]` in [0, 1] -> logits `[N, K]` of each attribute, differentiable."""
        features = self.features(images)
        return {name: head(features) for name, head in self.heads.items()}

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `config.json` and `model.safetensors`."""
        folder = pathlib.Path(folder)
        with whole(folder / "model.safetensors") as temporary:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, temporary)
        write_json(folder / "config.json", self.config)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "SmallNetwork":
        """Reads what `save` wrote; frozen, in evaluation mode.

        Raises:
            UserError: a file is missing or damaged.
        """
        folder = pathlib.Path(folder)
        try:
            model = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:  # whatever a damaged file makes the libraries stumble over
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(
                f"{folder}: no readable classifier ({reason}); a classifier's folder holds "
                "config.json and model.safetensors"
            ) from error
        return model.eval().requires_grad_(False)


class SmallNetworkJudge:
    """A judge of the embedded world: a small network in the toolkit's own format.

    Its digest is that of its weights: they and the classes that they were trained on decide what it
    answers. (From which probability on it has seen something, the YAML says.)

    Args:
        config: as `evenhand.recipes.judge.find_judge` found it.
        device: of the network.

    Raises:
        UserError: a file is missing or damaged, or it has other classes than its YAML says.
    """

    def __init__(self, config: JudgeConfig, *, device: str | torch.device = "cpu") -> None:
        folder = pathlib.Path(config.path)
        self.name, self.concept, self._least = config.name, config.concept, config.seen
        self.attributes = config.known
        self.network, self._device = SmallNetwork.load(folder).to(device), device
        for attribute in self.attributes.values():
            if self.network.config["classes"].get(attribute.name) != attribute.classes:
                raise UserError(
                    f"classifier {config.name!r}: {folder} has classes "
                    f"{self.network.config['classes'].get(attribute.name)} for {attribute.name!r}, "
                    f"its YAML says {attribute.classes}"
                )
        if self.concept and self.concept not in self.network.config["classes"]:
            raise unknown(
                "attribute",
                self.concept,
                self.network.config["classes"],
                where=f"classifier {config.name!r}: concept",
            )
        self.digest = digest(folder / "model.safetensors")
        self.side: int | None = self.network.config["size"]

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute, the concept's included, in the order of the logits."""
        return self.network.config["classes"][name]

    def _fit(self, images: Tensor) -> Tensor:
        size, images = self.network.config["size"], images.to(self._device)
        if images.shape[-2:] == (size, size):
            return images
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1].

        Seen where the best concept's probability reaches the YAML's `seen`.
        """
        logits = self.network(self._fit(images))
        seen = torch.ones(len(images), dtype=torch.bool)
        if self.concept:
            seen = logits[self.concept].detach().softmax(-1).amax(-1) >= self._least
        return Predictions(logits, seen).to(images.device)

    def features(self, images: Tensor) -> Tensor:
        """Features `[N, D]` before the heads."""
        return self.network.features(self._fit(images)).to(images.device)
