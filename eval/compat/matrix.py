"""Adapters of every kind and family, written here and read by plain diffusers, new and old.

    python3.11 eval/compat/matrix.py [--old DIR] [FAMILY ...]

Tiny pipelines of real classes are built from their configs, an adapter of each kind is given random
values, and evenhand writes it. A fresh process that never imports evenhand (`publish/stock.py`)
loads it: once with the libraries of this environment, once with those of `old.txt`, which are laid
over it (the same torch and Python; 0.2 GB in `.venv-old`, made when it is not there). Images are
compared with those that the adapter drew before it was written. About a minute a stack.

Both stacks read one folder of each pipeline. It is written as repositories of the Hub have it,
where the new stack would write what the old one cannot read: tokenizers with `vocab.json` and
`merges.txt`, CLIP text encoders with their level `text_model.`, names of classes that both know.

Writes `matrix.json` and `matrix.md` beside this file.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import environments
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evenhand.core.errors import UserError
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.trainable import attach
from evenhand.recipes.lora import Lora, SoftTokens

HERE = pathlib.Path(__file__).parent
STOCK = environments.ROOT / "src" / "evenhand" / "publish" / "stock.py"
sys.path.insert(0, str(environments.ROOT / "tests"))
import pipelines  # noqa: E402 -- the tests' tiny pipelines

FAMILIES = {
    "sd": "Stable Diffusion 1",
    "sdxl": "SDXL",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX.1",
    "z_image": "Z-Image",
}
KINDS = {
    "text-encoder LoRA": Lora(part="text_encoder", rank=2),
    "denoiser LoRA": Lora(part="denoiser", rank=2),
    "both": Lora(part="both", rank=2),
    "soft tokens": SoftTokens(count=3),
}
EQUAL = 2  # of 255


def sd3() -> Any:
    """The tests' SD 3 with its third text encoder, without which stock loading refuses a folder."""
    pipe = without_t5()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.register_modules(text_encoder_3=pipelines.t5(), tokenizer_3=pipelines.word_tokenizer())
    return pipe


without_t5, pipelines.FAMILIES["sd3"] = pipelines.FAMILIES["sd3"], sd3


def write_base(pipe: Any, folder: pathlib.Path) -> None:
    """Writes a pipeline so that both stacks read it."""
    pipe.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    for name, entry in index.items():
        if not isinstance(entry, list) or not entry[1]:
            continue
        if entry[1] == "CLIPTokenizer":
            tokens = sorted(getattr(pipe, name).get_vocab().items(), key=lambda item: item[1])
            (folder / name / "vocab.json").write_text(json.dumps(dict(tokens)))
            (folder / name / "merges.txt").write_text("#version: 0.2\n")
        elif name.startswith("tokenizer"):
            index[name] = ["transformers", "PreTrainedTokenizerFast"]
            config = folder / name / "tokenizer_config.json"
            kept = json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
            config.write_text(json.dumps(kept))
        elif entry[1].startswith("CLIPText"):
            file = folder / name / "model.safetensors"
            state = {
                key
                if key.startswith(("text_model.", "text_projection."))
                else f"text_model.{key}": x
                for key, x in load_file(file).items()
            }
            save_file(state, file, metadata={"format": "pt"})
    (folder / "model_index.json").write_text(json.dumps(index))


def write_adapter(family: str, kind: str, folder: pathlib.Path) -> list[np.ndarray]:
    """Writes an adapter of random values; returns the images that it drew before.

    Of a LoRA, the folder `merged` beside it is a base model with its changes in the weights.

    Raises:
        UserError: evenhand refuses this kind for this family, by name.
    """
    diffusion = pipelines.make(family, frozen=True)
    trainable = attach(diffusion, KINDS[kind], seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable.parameters:
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    save_adapter(folder, trainable.file, trainable.state(), {"family": family})
    if kind != "soft tokens":
        merged = pipelines.FAMILIES[family]()
        for name, network in pipelines.networks(diffusion).items():
            for path, module in network.named_modules():
                layer: Any = module
                if hasattr(layer, "lora_A"):
                    plain = merged.components[name].get_submodule(path)
                    plain.weight.data += layer.get_delta_weight("default")
        write_base(merged, folder.with_name(f"{folder.name}-merged"))
    with torch.no_grad():
        return levels(pipelines.draw(diffusion))


def levels(images: torch.Tensor) -> list[np.ndarray]:
    """Images `[N, 3, H, W]` in [0, 1] as levels 0 to 255, integers that can be subtracted."""
    return list((images.permute(0, 2, 3, 1) * 255).round().numpy().astype(int))


def read(file: pathlib.Path) -> np.ndarray:
    """An image file's levels."""
    return np.asarray(Image.open(file)).astype(int)


def requests_for(
    family: str, kind: str, base: pathlib.Path, folder: pathlib.Path, out: pathlib.Path
):
    """What `stock.py` is asked to draw: with the adapter, and of a LoRA with its changes merged."""
    settings = {"num_inference_steps": pipelines.STEPS, "guidance_scale": 3.0}
    name = type(pipelines.FAMILIES[family]()).__name__
    common = {
        "rows": list(zip(pipelines.PROMPTS, pipelines.SEEDS, strict=True)),
        "settings": {**settings, "height": 16, "width": 16, **pipelines.OPTIONS.get(name, {})},
    }
    yield {
        **common,
        "base": {"path": str(base)},
        "weights": str(next(folder.glob("*.safetensors"))),
        "kind": "soft tokens" if kind == "soft tokens" else "lora",
        "token": SoftTokens().token,
        "without": True,
        "out": str(out),
    }
    merged = folder.with_name(f"{folder.name}-merged")
    if merged.exists():
        yield {**common, "base": {"path": str(merged)}, "weights": None, "out": str(out / "merged")}


def distance(out: pathlib.Path, expected: list[np.ndarray], name: str = "with") -> int:
    """The largest difference of a pixel between images that a stack drew and others."""
    drawn = [read(out / f"{name}-{i}.png") for i in range(len(expected))]
    return max(int(abs(a - b).max()) for a, b in zip(drawn, expected, strict=True))


def result(out: pathlib.Path, expected: list[np.ndarray], base: list[np.ndarray]) -> dict:
    """What a stack made of an adapter: `equal`, `differs` or `error`, with the distance.

    Where the stack draws another image of the same seed without any adapter, it is compared with
    what that stack draws with the adapter's changes merged into the weights.
    """
    answer = json.loads((out / "answer.json").read_text())
    assert not answer["evenhand"], "the stock process imported evenhand"
    if answer["error"]:
        error = answer["error"]
        return {"result": "error", "said": f"{error['kind']}: {error['message'][:200]}"}
    moved = distance(out, base, "without")
    if moved > EQUAL and (out / "merged").exists():
        merged = [out / "merged" / f"without-{i}.png" for i in range(len(expected))]
        expected = [read(file) for file in merged]
    largest = distance(out, expected)
    whole = not answer["unexpected"] and answer["changed"] == answer["images"]
    return {
        "result": "equal" if whole and largest <= EQUAL else "differs",
        "largest": largest,
        "base_moved": moved,
        "changed": answer["changed"],
        "unexpected": answer["unexpected"][:3],
    }


def measure(families: list[str], site: pathlib.Path, work: pathlib.Path) -> dict:
    """Every cell, by family, kind and stack, and the versions of the stacks."""
    cells: dict = {family: {} for family in families}
    asked: dict[str, list] = {"newest": [], "oldest": []}
    drawn, bases = {}, {}
    for family in families:
        write_base(pipelines.FAMILIES[family](), work / family)
        with torch.no_grad():
            bases[family] = levels(pipelines.draw(pipelines.make(family)))
        for kind in KINDS:
            folder = work / "adapters" / family / kind.replace(" ", "-")
            try:
                drawn[family, kind] = write_adapter(family, kind, folder)
            except UserError as error:
                cells[family][kind] = {"written": False, "said": str(error)}
                continue
            cells[family][kind] = {"written": True}
            for stack, requests in asked.items():
                out = work / stack / family / kind.replace(" ", "-")
                requests += requests_for(family, kind, work / family, folder, out)
    versions = {}
    for stack, requests in asked.items():
        path = work / f"{stack}.json"
        path.write_text(json.dumps(requests))
        environments.run(STOCK, path, site=site if stack == "oldest" else None)
        for family, kind in drawn:
            out = work / stack / family / kind.replace(" ", "-")
            cells[family][kind][stack] = result(out, drawn[family, kind], bases[family])
            versions[stack] = json.loads((out / "answer.json").read_text())["versions"]
    return {"versions": versions, "equal_within": f"{EQUAL}/255", "cells": cells}


def said(cell: dict) -> str:
    """A cell in words."""
    if cell["result"] == "error":
        return cell["said"]
    merged = ", to its changes merged into the weights" if cell["base_moved"] > EQUAL else ""
    return f"{cell['result']}{merged} ({cell['largest']})"


def table(found: dict) -> str:
    """The cells as Markdown."""
    libraries = ("diffusers", "transformers", "peft", "torch")
    stacks = {
        stack: ", ".join(f"{name} {of[name]}" for name in libraries)
        for stack, of in found["versions"].items()
    }
    lines = [
        "# Adapters written by evenhand, read by plain diffusers",
        "",
        "`python3.11 eval/compat/matrix.py`. Tiny pipelines of each family's real classes; two "
        "images a cell, compared with those that the adapter drew before it was written. The "
        "number is the largest difference of a pixel, of 255. `equal`: at most 2, all of the "
        "adapter has loaded, and it changes every image. Where a stack draws other images of a "
        "seed without any adapter too, it is compared with what that stack draws with the "
        "adapter's changes merged into the base model's weights.",
        "",
        f"| family | adapter | newest ({stacks['newest']}) | oldest ({stacks['oldest']}) |",
        "|---|---|---|---|",
    ]
    for family, kinds in found["cells"].items():
        for kind, cell in kinds.items():
            name = FAMILIES[family]
            if not cell["written"]:
                lines.append(f"| {name} | {kind} | refused when it is attached: {cell['said']} | |")
                continue
            texts = [said(cell[stack]) for stack in ("newest", "oldest")]
            lines.append(f"| {name} | {kind} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=pathlib.Path, default=environments.ROOT / ".venv-old")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for all files that are made")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    args = parser.parse_args()
    site = environments.overlay(args.old, HERE / "old.txt")
    work = args.keep or pathlib.Path(tempfile.mkdtemp())
    found = measure(args.families or list(FAMILIES), site, work)
    if not args.keep:
        shutil.rmtree(work)
    print(table(found), end="")
    if not args.families:
        (HERE / "matrix.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (HERE / "matrix.md").write_text(table(found), encoding="utf-8")
    bad = [c for kinds in found["cells"].values() for c in kinds.values() if c["written"]]
    sys.exit(any(c[stack]["result"] != "equal" for c in bad for stack in ("newest", "oldest")))


if __name__ == "__main__":
    main()
