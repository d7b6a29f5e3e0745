"""What the bad inputs of `measure` share: commands, recipes and their changes."""

import json
import pathlib

LINES = {"p.txt": "an emoji of a judge\nan emoji of a pilot\n"}
QUICK = "--images 2 --explicit-images 0 --setting num_inference_steps=2 --out r"
TXT = "--prompts p.txt --attributes gender"
G = f"measure emoji {TXT} {QUICK}"


def report(folder: pathlib.Path) -> dict:
    return json.loads((folder / "r" / "report.json").read_text())


def images(n: int):
    return lambda folder, out: report(folder)["images"] == n


def nan(state: dict) -> dict:
    return {k: v * float("nan") if v.is_floating_point() else v for k, v in state.items()}


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]
