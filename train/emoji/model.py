"""Trains the embedded text-to-image model and writes it in diffusers format.

    python train/emoji/model.py

Needs runs/emoji/autoencoder; goes on with runs/emoji/model.pt where it exists; writes
src/evenhand/emoji/model/. A word-level CLIP text encoder and a U-Net on 16x16x4 latents, trained
together from nothing on captions of the world. About an hour on two cores (8,000 steps of 48). The
weights that ship saw the captions of the world's version 3 (no words in front of what is said,
fewer that leave a class open) in the first 6,000 steps, and those of version 4 in the rest.
"""

import argparse
import copy
import json
import pathlib
import time

import torch
from cycles import rate
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from evenhand.devices import autocast, best_dtype
from evenhand.emoji.world import HERE, Scene, caption, draw, load_world, sample_scene
from evenhand.training.checkpoints import load_state, save_state, step_generator

BOS, EOS, LENGTH, WIDTH = "<|startoftext|>", "<|endoftext|>", 24, 128
# The text encoder learns more slowly and in float32: at the U-Net's rate under bfloat16 its
# residual stream grew to norms of 300, below whose resolution the words of tones drowned.
RATES = {"unet": 1.5e-3, "text_encoder": 3e-4}
CYCLES = ((6000, 1.0), (2000, 0.5))  # steps, and factor on the rates


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer: its vocabulary is the bytes and every word of the world's captions."""
    world = load_world()
    texts = [
        caption(title, {"gender": g, "tone": t}, open_=list(world.classes), template=i)
        for title in world.titles
        for g in world.classes["gender"]
        for t in world.classes["tone"]
        for i in range(len(world.captions["templates"]))
    ]
    words = sorted({word for text in texts for word in text.replace("-", " - ").split()})
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bpe.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=10_000, min_frequency=1, show_progress=False, end_of_word_suffix="</w>"
        ),
    )
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *dict.fromkeys(map("".join, merges)),
        BOS,
        EOS,
    ]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=EOS,
        model_max_length=LENGTH,
    )


def noise_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's schedule with a larger last beta, for velocities (Salimans & Ho 2022).

    Stable Diffusion's beta_end .012 leaves a signal-to-noise ratio of .005 at t = 999: the low
    frequencies of the noise, not the caption, then decide colours that fill an area, such as skin.
    .025 leaves 4e-5.
    """
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.025,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def keep_tokenizer(folder: pathlib.Path) -> CLIPTokenizer:
    """The run's tokenizer, built once.

    The order of equally frequent merges, and so some words' ids, differs between buildings.
    """
    if not folder.exists():
        build_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def build_pipeline(vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """The untrained pipeline around a trained autoencoder."""
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return StableDiffusionPipeline(
        vae,
        text_encoder,
        tokenizer,
        unet,
        noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@torch.no_grad()
def encode_drawings(vae: AutoencoderKL, each: int) -> Tensor:
    """Latents `[occupation * gender * tone, each, 4, 16, 16]`, scaled, of every sprite."""
    world = load_world()
    shape = (len(world.occupations), len(world.classes["gender"]), len(world.classes["tone"]), each)
    index = torch.cartesian_prod(*(torch.arange(size) for size in shape))
    generator = step_generator(world.seeds["model"], "drawings")
    parts = []
    for rows in index.split(100):
        images = draw(Scene(rows[:, 0], rows[:, 1], rows[:, 2], []), generator=generator)
        with autocast(best_dtype("cpu"), "cpu"):
            parts.append(vae.encode(images * 2 - 1).latent_dist.mode().float())
    return (torch.cat(parts) * vae.config.scaling_factor).unflatten(0, (-1, each))


def batch_of(latents: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    """Latents `[n, 4, 16, 16]` and their captions."""
    scene, world = sample_scene(n, generator=generator), load_world()
    row = (scene.occupation * len(world.classes["gender"]) + scene.gender) * len(
        world.classes["tone"]
    ) + scene.tone
    return latents[row, torch.randint(latents.shape[1], (n,), generator=generator)], scene.captions


def loss_of(
    pipe: StableDiffusionPipeline,
    clean: Tensor,
    captions: list[str],
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the predicted velocity of noised latents `[n, 4, 16, 16]`."""
    tokens = pipe.tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    )
    noise, t = (
        torch.randn(clean.shape, generator=generator),
        torch.randint(1000, (len(clean),), generator=generator),
    )
    signal = pipe.scheduler.alphas_cumprod[t][:, None, None, None]
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    condition = pipe.text_encoder(tokens.input_ids).last_hidden_state
    with autocast(best_dtype("cpu"), "cpu"):
        output = pipe.unet(alpha * clean + sigma * noise, t, condition).sample
    return F.mse_loss(output.float(), alpha * noise - sigma * clean)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=sum(length for length, _ in CYCLES))
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--drawings", type=int, default=128, help="of each sprite, encoded once")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/emoji"))
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "model")
    args = parser.parse_args()
    seed = load_world().seeds["model"]
    torch.manual_seed(seed)
    pipe = build_pipeline(
        AutoencoderKL.from_pretrained(args.runs / "autoencoder").requires_grad_(False),
        keep_tokenizer(args.runs / "tokenizer"),
    )
    trained = torch.nn.ModuleDict({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    average = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(
        [{"params": trained[name].parameters(), "peak": peak} for name, peak in RATES.items()],
        betas=(0.9, 0.99),
        weight_decay=1e-3,
        fused=True,
    )
    parts = {"trained": trained, "average": average, "optimizer": optimizer}
    state = load_state(args.runs / "model.pt") or {"step": 0}
    for key in parts.keys() & state.keys():
        parts[key].load_state_dict(state[key])
    latents, started = encode_drawings(pipe.vae, args.drawings), time.monotonic()
    total = 0.0
    trained.train()
    for step in range(state["step"], args.steps):
        generator = step_generator(seed, step)
        loss = loss_of(pipe, *batch_of(latents, args.batch, generator), generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step, CYCLES)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(trained)
        total += loss.item()
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            print(
                f"step {step + 1}: loss {total / 250:.4f}, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            total = 0.0
            save_state(
                args.runs / "model.pt",
                {"step": step + 1, **{k: v.state_dict() for k, v in parts.items()}},
            )
            export(pipe, average, args.out)


def export(pipe: StableDiffusionPipeline, average: AveragedModel, folder: pathlib.Path) -> None:
    """Writes the averaged weights in diffusers format, fp16 safetensors."""
    parts = {name: copy.deepcopy(part).half() for name, part in average.module.items()}
    half = StableDiffusionPipeline(
        **{**pipe.components, **parts, "vae": copy.deepcopy(pipe.vae).half()},
        requires_safety_checker=False,
    )
    half.save_pretrained(folder)
    config = (
        folder / "text_encoder" / "config.json"
    )  # else transformers loads it in half precision, diffusers the rest in full
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))


if __name__ == "__main__":
    main()
