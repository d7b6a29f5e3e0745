"""Tiny random pipelines of real diffusers classes, one a family, and their gradients."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import diffusers as d
import tokenizers
import torch
import transformers as t
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.replay import attach, record
from evenhand.recipes.model import Settings

PROMPTS, SEEDS, STEPS = ["a nurse", "a judge"], [3, 4], 4
LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
WORDS = ["<pad>", "<eos>", "<unk>", "a", "nurse", "judge"]
FAMILIES: dict[str, Callable[[], Any]] = {}
OPTIONS = {
    "QwenImagePipeline": {"true_cfg_scale": 3.0, "negative_prompt": ""},  # it has another guidance
    "Flux2KleinPipeline": {"max_sequence_length": 8, "text_encoder_out_layers": [1, 2]},
}


def family(build: Callable[[], Any]) -> Callable[[], Any]:
    """Lists a function in FAMILIES; the weights are the same at every call."""

    @functools.wraps(build)
    def seeded() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build()

    FAMILIES[build.__name__] = seeded
    return seeded


def clip_tokenizer() -> t.CLIPTokenizer:
    tokens = [*LETTERS, *(x + "</w>" for x in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return t.CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=12,
    )


def clip_config(**more) -> t.CLIPTextConfig:
    return t.CLIPTextConfig(
        vocab_size=54,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=12,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
        **more,
    )


def word_tokenizer() -> t.PreTrainedTokenizerFast:
    words = tokenizers.Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return t.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template="{{ messages[0]['content'] }}",
    )


def t5() -> t.T5EncoderModel:
    return t.T5EncoderModel(
        t.T5Config(vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    )


def llm_config(**more) -> dict[str, Any]:
    return {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        **more,
    }


def autoencoder(blocks: int = 2, **more) -> d.AutoencoderKL:
    """Each block after the first halves the sides."""
    return d.AutoencoderKL(
        block_out_channels=[8] * blocks,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        **more,
    )


def unet(**more) -> d.UNet2DConditionModel:
    return d.UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            **more,
        }
    )


def scheduler(**more) -> d.DPMSolverMultistepScheduler:
    return d.DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **more
    )


@family
def sd():
    return d.StableDiffusionPipeline(
        autoencoder(),
        t.CLIPTextModel(clip_config()),
        clip_tokenizer(),
        unet(),
        scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@family
def sd2():
    return d.StableDiffusionPipeline(
        autoencoder(),
        t.CLIPTextModel(clip_config(hidden_act="gelu")),
        clip_tokenizer(),
        unet(use_linear_projection=True, attention_head_dim=(1, 2)),
        scheduler(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@family
def sdxl():
    config = clip_config(projection_dim=32)
    return d.StableDiffusionXLPipeline(
        autoencoder(),
        t.CLIPTextModel(config),
        t.CLIPTextModelWithProjection(config),
        clip_tokenizer(),
        clip_tokenizer(),
        unet(
            use_linear_projection=True,
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
        ),
        scheduler(),
        add_watermarker=False,
    )


@family
def sd3():
    transformer = d.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    )
    config = clip_config(projection_dim=32)
    return d.StableDiffusion3Pipeline(
        transformer,
        d.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.06, scaling_factor=1.5),
        t.CLIPTextModelWithProjection(config),
        clip_tokenizer(),
        t.CLIPTextModelWithProjection(config),
        clip_tokenizer(),
        None,
        None,
    )


@family
def flux():
    transformer = d.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 2, 2),
    )
    return d.FluxPipeline(
        d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        autoencoder(shift_factor=0.06, scaling_factor=1.5),
        t.CLIPTextModel(clip_config()),
        clip_tokenizer(),
        t5(),
        word_tokenizer(),
        transformer,
    )


@family
def flux2():
    vae = d.AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    vae.bn.running_mean.fill_(0.1)
    vae.bn.running_var.fill_(2.0)
    transformer = d.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        guidance_embeds=False,
        axes_dims_rope=(2, 2, 2, 2),
    )
    return d.Flux2KleinPipeline(
        d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae,
        t.Qwen3ForCausalLM(t.Qwen3Config(**llm_config())),
        word_tokenizer(),
        transformer,
    )


@family
def sana():
    # with the sample_size, the sides that the pipeline draws at before it resizes to those asked
    # for
    blocks = 6
    vae = d.AutoencoderDC(
        latent_channels=4,
        scaling_factor=0.4,
        attention_head_dim=4,
        **{f"{x}_block_out_channels": (4,) * blocks for x in ("encoder", "decoder")},
        **{f"{x}_layers_per_block": (1,) * blocks for x in ("encoder", "decoder")},
        **{f"{x}_qkv_multiscales": ((),) * blocks for x in ("encoder", "decoder")},
    )
    transformer = d.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=16,
    )
    return d.SanaPipeline(
        word_tokenizer(),
        t.Gemma2Model(t.Gemma2Config(**llm_config())),
        vae,
        transformer,
        scheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    )


@family
def pixart_sigma():
    transformer = d.PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=32,
        caption_channels=32,
        norm_num_groups=4,
        use_additional_conditions=False,
        sample_size=32,
    )
    return d.PixArtSigmaPipeline(
        word_tokenizer(), t5(), autoencoder(blocks=4), transformer, scheduler()
    )


@family
def z_image():
    transformer = d.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=32,
        axes_dims=[4, 2, 2],
        axes_lens=[1024, 32, 32],
    )
    return d.ZImagePipeline(
        d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        autoencoder(shift_factor=0.06, scaling_factor=1.5),
        t.Qwen3Model(t.Qwen3Config(**llm_config())),
        word_tokenizer(),
        transformer,
    )


@family
def qwen_image():
    vae = d.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    config = t.Qwen2_5_VLConfig(
        text_config=llm_config(
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
        ),
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_heads": 4,
            "out_hidden_size": 32,
        },
    )
    transformer = d.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        axes_dims_rope=(4, 2, 2),
    )
    return d.QwenImagePipeline(
        d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae,
        t.Qwen2_5_VLForConditionalGeneration(config),
        word_tokenizer(),
        transformer,
    )


def make(
    name: str,
    scheduler: str | None = None,
    *,
    frozen: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Diffusion:
    pipe = FAMILIES[name]().to(dtype)
    settings = Settings(
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        height=16,
        width=16,
        scheduler=scheduler,
        options=OPTIONS.get(type(pipe).__name__, {}),
    )
    diffusion = Diffusion(pipe, settings=settings)
    for network in networks(diffusion).values():
        network.requires_grad_(not frozen)
    return diffusion


def networks(diffusion: Diffusion) -> dict[str, nn.Module]:
    """The denoiser and the text encoders by their names in the pipeline."""
    return {
        name: part
        for name, part in diffusion.pipe.components.items()
        if part is diffusion.denoiser or (name.startswith("text_encoder") and part is not None)
    }


def draw(diffusion: Diffusion, **overrides) -> Tensor:
    return diffusion.call(PROMPTS, SEEDS, **overrides)


def loss_of(images: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, images.numel()).reshape(images.shape)
    return (images * weights).sum() + images.square().mean()


def gradients(diffusion: Diffusion) -> dict[str, Tensor]:
    """Takes the gradient of each network, flat; a network that none has reached is left out."""
    found = {}
    for name, network in networks(diffusion).items():
        if any(p.grad is not None for p in network.parameters()):
            found[name] = torch.cat(
                [
                    torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
                    for p in network.parameters()
                ]
            )
        network.zero_grad()
    return found


def one_graph(diffusion: Diffusion) -> dict[str, Tensor]:
    """The published formulation.

    The whole chain in one graph, latents detached at the denoiser's input.
    """
    forward = diffusion.denoiser.forward

    def detached(*args, **kwargs):
        """The latents are the first argument, whatever their name.

        Some families pass a list of them.
        """
        latents, *others = inspect.signature(forward).bind(*args, **kwargs).arguments.items()
        return forward(**{latents[0]: tree_map(Tensor.detach, latents[1])}, **dict(others))

    diffusion.denoiser.forward = detached
    try:
        loss_of(draw(diffusion)).backward()
    finally:
        del diffusion.denoiser.forward
    return gradients(diffusion)


def replayed(diffusion: Diffusion, recorded: bool = False, **how) -> dict[str, Tensor]:
    run = functools.partial(draw, diffusion)
    tape = attach(diffusion.denoiser, run, record(diffusion.denoiser, run) if recorded else None)
    tape.backward(loss_of(tape.images), **how)
    return gradients(diffusion)


def relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """That of the worst network."""
    assert found.keys() == expected.keys()
    assert all(x.norm() > 1e-4 for x in expected.values())
    return max(float((found[name] - x).norm() / x.norm()) for name, x in expected.items())
