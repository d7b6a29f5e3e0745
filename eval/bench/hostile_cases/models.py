"""Bad models and adapters to measure."""

import pathlib

from hostile_cases.case import Case, adapter, json_of, model, tensors, text_of
from hostile_cases.measuring import LINES, QUICK, TXT, G, half, images, nan

ADAPTED = f"{G} --adapter ./a"
OTHER = f"measure ./m {TXT} --judge emoji-judge {QUICK}"


def fp16(folder: pathlib.Path) -> None:
    for part in ("unet", "vae"):
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        weights.rename(folder / part / "diffusion_pytorch_model.fp16.safetensors")
    weights = folder / "text_encoder" / "model.safetensors"
    weights.rename(folder / "text_encoder" / "model.fp16.safetensors")


LORA, TOKENS = "pytorch_lora_weights.safetensors", "soft_tokens.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
MODELS = [
    Case("folder not there", OTHER, "", LINES),
    Case("folder without a model", OTHER, "cannot be loaded", {**LINES, "m/x.txt": "x"}),
    Case(
        "index cut",
        OTHER,
        "cannot be loaded",
        {**LINES, "m": model(text_of("model_index.json", half))},
    ),
    Case("weights cut", OTHER, "cannot be loaded", {**LINES, "m": model(text_of(UNET, half))}),
    Case("weights nan", OTHER, "not finite", {**LINES, "m": model(tensors(UNET, nan))}, fault=1),
    Case(
        "a part missing",
        OTHER,
        "cannot be loaded",
        {**LINES, "m": model(lambda m: (m / UNET).unlink())},
    ),
    Case(
        "another class of pipeline",
        OTHER,
        "StableDiffusionInpaintPipeline",
        {
            **LINES,
            "m": model(json_of("model_index.json", _class_name="StableDiffusionInpaintPipeline")),
        },
        fault=26,
    ),
    Case(
        "a pipeline of no text",
        OTHER,
        "",
        {**LINES, "m": model(json_of("model_index.json", _class_name="DDPMPipeline"))},
        fault=20,
    ),
    Case(
        "a single file",
        f"measure model.safetensors {TXT} {QUICK}",
        "from_single_file",
        {**LINES, "model.safetensors": b"x"},
        fault=26,
    ),
    Case("files of fp16 alone are read", OTHER, None, {**LINES, "m": model(fp16)}, images(4), 26),
    Case(
        "a folder named as what ships does not hide it",
        G,
        None,
        {**LINES, "emoji/x.txt": "x"},
        images(4),
        24,
    ),
]
ADAPTERS = [
    Case("no weights", ADAPTED, "holds neither", {**LINES, "a/x.txt": "x"}),
    *(
        Case(
            f"adapter.json {x}",
            ADAPTED,
            "adapter.json",
            {**LINES, "a": adapter(change=change)},
            None,
            19,
        )
        for x, change in {
            "a list": text_of("adapter.json", lambda _: b"[]"),
            "null": text_of("adapter.json", lambda _: b"null"),
            "cut": text_of("adapter.json", half),
            "bytes": text_of("adapter.json", lambda _: b"\xff"),
            "deep": text_of("adapter.json", lambda _: b"[" * 99999),
            "of a later version": json_of("adapter.json", schema=99),
            "schema in words": json_of("adapter.json", schema="two"),
            "trainer a word": json_of("adapter.json", classifier="emoji-trainer"),
            "settings a list": json_of("adapter.json", settings=[]),
        }.items()
    ),
    Case(
        "token empty",
        ADAPTED,
        "token",
        {**LINES, "a": adapter("emoji-gender-tokens", json_of("adapter.json", token=""))},
        fault=26,
    ),
    Case(
        "the file instead of the folder is found",
        f"{G} --adapter ./a/{LORA}",
        None,
        {**LINES, "a": adapter()},
        images(4),
        26,
    ),
    Case(
        "a file that is no safetensors file",
        f"{G} --adapter lora.safetensors",
        "no safetensors file",
        {**LINES, "lora.safetensors": b"x"},
        fault=26,
    ),
    Case(
        "half of its modules unknown",
        ADAPTED,
        "not loaded all of|cannot be loaded",
        {
            **LINES,
            "a": adapter(
                change=tensors(
                    LORA, lambda s: {k.replace("layers.1.", "layers.91."): v for k, v in s.items()}
                )
            ),
        },
        fault=3,
    ),
    *(
        Case(
            f"keys of another method: {ending}",
            ADAPTED,
            "not loaded all of|cannot be loaded",
            {
                **LINES,
                "a": adapter(
                    change=tensors(
                        LORA,
                        lambda s, ending=ending: {
                            **s,
                            next(iter(s)).split(".lora_")[0] + ending: next(
                                iter(s.values())
                            ).clone(),
                        },
                    )
                ),
            },
            fault=3,
        )
        for ending in (".dora_scale", ".lora_magnitude_vector", ".hada_w1_a")
    ),
    Case(
        "weights nan",
        ADAPTED,
        "not finite",
        {**LINES, "a": adapter(change=tensors(LORA, nan))},
        fault=1,
    ),
    Case(
        "weights of 1e38",
        ADAPTED,
        "not finite",
        {
            **LINES,
            "a": adapter(change=tensors(LORA, lambda s: {k: v * 1e38 for k, v in s.items()})),
        },
        fault=1,
    ),
    Case(
        "of another model",
        ADAPTED,
        "cannot be loaded",
        {
            **LINES,
            "a": adapter(
                change=tensors(
                    LORA,
                    lambda s: {k: v[:, :3].clone() if "lora_A" in k else v for k, v in s.items()},
                )
            ),
        },
    ),
    Case("cut", ADAPTED, "cannot be loaded", {**LINES, "a": adapter(change=text_of(LORA, half))}),
    Case(
        "the judge trained it",
        f"{G} --adapter emoji-gender --judge emoji-trainer",
        "would flatter",
        LINES,
    ),
]
