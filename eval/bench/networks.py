"""Pipelines with random weights: Stable Diffusion 1.5 and SDXL as published, at any width.

Widths are multiples of 32 near `width` times the published ones; depths, attention layouts and
resolutions stay. Sources: the config.json files of stable-diffusion-v1-5/stable-diffusion-v1-5 and
stabilityai/stable-diffusion-xl-base-1.0.
"""

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

RESOLUTIONS = {"sd15": 512, "sdxl": 1024}
STEPS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def build(
    name: str, *, width: float, device: str, dtype: torch.dtype
) -> diffusers.DiffusionPipeline:
    """The pipeline of `sd15` or `sdxl`, frozen, in evaluation mode."""
    torch.manual_seed(0)
    with torch.device(device):
        pipe = {"sd15": _sd15, "sdxl": _sdxl}[name](width)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(device, dtype).requires_grad_(False).eval()
    # a scheduler keeps its tables where it was made, and expects them on the processor
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return pipe


def _scaled(widths: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(32, 32 * round(w * factor / 32)) for w in widths)


def _vae(factor: float, scaling: float) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=_scaled((128, 256, 512, 512), factor),
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=scaling,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def _text(hidden: int, layers: int, factor: float, act: str) -> transformers.CLIPTextConfig:
    width = max(64, 64 * round(hidden * factor / 64))
    return transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act=act,
    )


def _tokenizer() -> transformers.CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return transformers.CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77
    )


def _sd15(factor: float) -> diffusers.StableDiffusionPipeline:
    text = transformers.CLIPTextModel(_text(768, 12, factor, "quick_gelu"))
    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        block_out_channels=_scaled((320, 640, 1280, 1280), factor),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=text.config.hidden_size,
    )
    return diffusers.StableDiffusionPipeline(
        _vae(factor, 0.18215),
        text,
        _tokenizer(),
        unet,
        diffusers.DPMSolverMultistepScheduler(**STEPS),
        None,
        None,
        requires_safety_checker=False,
    )


def _sdxl(factor: float) -> diffusers.StableDiffusionXLPipeline:
    small = transformers.CLIPTextModel(_text(768, 12, factor, "quick_gelu"))
    large = transformers.CLIPTextModelWithProjection(_text(1280, 32, factor, "gelu"))
    widths = tuple(max(64, 64 * round(w * factor / 64)) for w in (320, 640, 1280))
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=widths,
        layers_per_block=2,
        attention_head_dim=tuple(w // 64 for w in widths),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=small.config.hidden_size + large.config.hidden_size,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + large.config.projection_dim,
    )
    return diffusers.StableDiffusionXLPipeline(
        _vae(factor, 0.13025),
        small,
        large,
        _tokenizer(),
        _tokenizer(),
        unet,
        diffusers.DPMSolverMultistepScheduler(**STEPS),
        add_watermarker=False,
    )
