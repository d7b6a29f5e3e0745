"""Bad inputs of `evenhand verify`, `evenhand export` and `evenhand push`."""

import pathlib

from hostile_cases.case import Case, adapter, json_of, tensors, text_of

HALF = "pytorch_lora_weights.safetensors"
EXPORT = "export ./mine --out x.safetensors"
MINE = {"mine": adapter()}


def written(folder: pathlib.Path, out: str) -> bool:
    return (folder / "x.safetensors").stat().st_size > 10_000


VERIFY = [
    Case("right, dry", "verify emoji-gender --dry-run", None,
         right=lambda f, out: "emoji" in out),
    Case("adapter misspelt", "verify emoji-gendr", "did you mean"),
    Case("folder of no adapter", "verify ./mine", "holds neither pytorch_lora",
         {"mine/a.txt": "x"}),
    Case("weights cut short", "verify ./mine", HALF,
         {"mine": adapter(change=text_of(HALF, lambda data: data[:-99]))}),
    Case("description that is no JSON", "verify ./mine", "adapter.json",
         {"mine": adapter(change=text_of("adapter.json", lambda _: b"{"))}),
    Case("judge that trained it", "verify ./mine --judge emoji-trainer", "trained the adapter",
         MINE),
    Case("prompt set that is not there", "verify ./mine --prompts nobody", "nobody", MINE),
    Case("rule that is none", "verify ./mine --accept 'gap<'", "gap<", MINE),
    Case("no images", "verify ./mine --images 0", "verify: images: Input should be greater", MINE),
]  # fmt: skip
EXPORTS = [
    Case("right", EXPORT, None, MINE, written),
    Case("adapter misspelt", "export emoji-gendr", "did you mean"),
    Case("file that is there", "export emoji-gender --out a.safetensors", "is there already",
         {"a.safetensors": "x"}),
    Case("strength that is no number", "export emoji-gender --scale nan", "it is a number"),
    Case("format that is none", "export emoji-gender --format comfy", "comfy"),
    Case("soft tokens", "export emoji-gender-tokens", "one file for all software already"),
    Case("weights that say no base model", "export ./a.safetensors", "name it with --model",
         {"a.safetensors": lambda path: path.write_bytes(_weights())}),
    Case("model that is not there", f"{EXPORT} --model emogi", "did you mean", MINE),
    Case("a pickle", "export ./a.pth --model emoji", "a.pth",
         {"a.pth": b"\x80\x04\x95not a state"}),
    Case("weights that are NaN", EXPORT, "NaN|not finite|nan",
         {"mine": adapter(change=tensors(HALF, lambda s: {k: v / 0 for k, v in s.items()}))}),
]  # fmt: skip
PUSH = [
    Case("folder that holds nothing to push", "push mine me/x", "holds no adapter",
         {"mine/a.txt": "x"}),
    Case("adapter that is not verified", "push mine me/x", "it is not verified",
         {"mine": adapter(change=json_of("adapter.json", verified=None))}),
    Case("card in which a number was typed over", "push mine me/x", "README.md, line",
         {"mine": adapter(change=text_of("README.md", lambda t: t.replace(b".5", b".1")))}),
    Case("weights changed after verification", "push mine me/x", "verified with other weights",
         {"mine": adapter(change=tensors(HALF, lambda s: {k: 2 * v for k, v in s.items()}))}),
    Case("no token", "push mine me/x", "takes nothing without a token", MINE,
         process={"HF_TOKEN": "", "HF_HOME": "home"}),
]  # fmt: skip


def _weights() -> bytes:
    from evenhand.core.resources import ROOT

    return (ROOT / "adapters" / "emoji-gender" / HALF).read_bytes()
