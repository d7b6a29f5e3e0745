"""Tiny random pipelines of real diffusers classes."""

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]


def tokenizer() -> CLIPTokenizer:
    tokens = [*LETTERS, *(x + "</w>" for x in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], pad_token="<|endoftext|>",
                         unk_token="<|endoftext|>", model_max_length=12)


def text_config(**more) -> CLIPTextConfig:
    return CLIPTextConfig(vocab_size=54, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
                          max_position_embeddings=12, bos_token_id=52, eos_token_id=53, pad_token_id=53, **more)


def autoencoder(channels: int = 4, **more) -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=[8, 8], latent_channels=channels, norm_num_groups=4, sample_size=16,
                         down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, **more)


def tiny_sd() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=32,
                                attention_head_dim=2, norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    return StableDiffusionPipeline(autoencoder(), CLIPTextModel(text_config()), tokenizer(), unet, scheduler,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def tiny_sd3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
                                        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32,
                                        pooled_projection_dim=64, out_channels=4)
    config = text_config(projection_dim=32)
    return StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(), autoencoder(shift_factor=0.06, scaling_factor=1.5),
        CLIPTextModelWithProjection(config), tokenizer(), CLIPTextModelWithProjection(config), tokenizer(), None, None)
