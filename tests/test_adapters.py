"""An adapter is loaded whole or not at all, and a model's source says which weights drew."""

import os
import pathlib
import shutil
import subprocess
import sys

import pipelines
import pytest
import torch
from safetensors.torch import load_file, save_file

from evenhand.core.adapters import LORA, SCHEMA, SOFT_TOKENS, find_adapter, shipped_adapters
from evenhand.core.errors import UserError
from evenhand.core.resources import locate
from evenhand.core.schema import override
from evenhand.diffusion.adapters import load_adapter, save_adapter
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.trainable import attach
from evenhand.recipes.lora import Lora
from evenhand.recipes.model import Model, load_model


@pytest.fixture(scope="module")
def state():
    """A LoRA of both parts of `sd`, with random values in every tensor."""
    diffusion = pipelines.make("sd", frozen=True)
    made = attach(diffusion, Lora(part="both", rank=2), seed=0).state()
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(x.shape, generator=generator) for key, x in made.items()}


def load(folder: pathlib.Path, state: dict[str, torch.Tensor], **how):
    folder.mkdir(exist_ok=True)
    save_file(state, folder / LORA)
    diffusion = pipelines.make("sd", frozen=True)
    return diffusion, load_adapter(diffusion.pipe, find_adapter(folder), **how)


def renamed(state, old, new):
    return {key.replace(old, new): value for key, value in state.items()}


def with_more(state, ending, shape):
    key = next(k for k in state if k.startswith("unet.") and k.endswith("lora_A.weight"))
    return {**state, key.replace("lora_A.weight", ending): torch.ones(shape)}


SECOND = "text_encoder.text_model.encoder.layers.1."
PARTIAL = {
    "another component": lambda s: renamed(s, SECOND, SECOND.replace("encoder.", "encoder_2.", 1)),
    "a layer that is not there": lambda s: renamed(s, ".layers.1.", ".layers.91."),
    "no component": lambda s: renamed(s, SECOND, SECOND.removeprefix("text_encoder.")),
    "another block": lambda s: renamed(s, "unet.up_blocks.0.", "unet.up_blocks.7."),
    "DoRA, as other software writes it": lambda s: with_more(s, "dora_scale", (1, 16)),
    "DoRA in part": lambda s: with_more(s, "lora_magnitude_vector", (16,)),
    "LoHa beside it": lambda s: with_more(s, "hada_w1_a", (16, 2)),
    "a full difference": lambda s: with_more(s, "diff", (16, 16)),
}


@pytest.mark.parametrize("change", PARTIAL.values(), ids=PARTIAL.keys())
def test_a_lora_that_would_load_in_part_is_refused(state, tmp_path, change):
    with pytest.raises(UserError, match=f"adapter .*a'.*{LORA}"):
        load(tmp_path / "a", change(state))


def test_what_is_left_over_is_named(state, tmp_path):
    with pytest.raises(
        UserError, match=r"not loaded all of .*unet\.up_blocks\.7\..* more are left"
    ):
        load(tmp_path / "a", PARTIAL["another block"](state))


def test_the_whole_lora_is_loaded_in_any_type(state, tmp_path):
    for dtype in (torch.float32, torch.float16):
        changed = {key: value.to(dtype) for key, value in state.items()}
        diffusion, (source, prefix) = load(tmp_path / "a", changed)
        assert source == find_adapter(tmp_path / "a").source and prefix == ""
        base = pipelines.make("sd", frozen=True)
        assert (pipelines.draw(diffusion) - pipelines.draw(base)).abs().max() > 0.1


def test_the_names_of_other_software_are_loaded_too(state, tmp_path):
    """kohya's: underscores, up and down, and a strength of each layer."""
    other = {}
    for key, value in state.items():
        if not key.startswith("unet."):
            continue
        layer, _, matrix = key.removesuffix(".weight").rpartition(".lora_")
        name = "lora_unet_" + layer.removeprefix("unet.").replace(".", "_")
        other[f"{name}.lora_{'down' if matrix == 'A' else 'up'}.weight"] = value
        other[f"{name}.alpha"] = torch.tensor(2.0)
    ours, _ = load(tmp_path / "a", {k: v for k, v in state.items() if k.startswith("unet.")})
    theirs, _ = load(tmp_path / "b", other)
    assert torch.allclose(pipelines.draw(ours), pipelines.draw(theirs), atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(state, tmp_path, bad):
    key = next(iter(state))
    value = state[key].clone()
    value[0, 0] = bad
    with pytest.raises(UserError, match="holds values that are not finite in float32: its train"):
        load(tmp_path / "a", {**state, key: value})


def test_weights_too_large_for_the_models_type_are_refused(state, tmp_path):
    diffusion = pipelines.make("sd", frozen=True)
    diffusion.pipe.unet.half()
    (tmp_path / "a").mkdir()
    save_file(
        {k: v * 1e6 for k, v in state.items() if k.startswith("unet.")}, tmp_path / "a" / LORA
    )
    try:
        load_adapter(diffusion.pipe, find_adapter(tmp_path / "a"))
    except UserError as error:
        assert "not finite in float16" in str(error)
    else:  # the library keeps them in float32
        loaded = [p for n, p in diffusion.pipe.unet.named_parameters() if "lora" in n]
        assert {p.dtype for p in loaded} == {torch.float32}


def test_soft_tokens_that_are_not_finite_are_refused(tmp_path):
    tokens = {"<evenhand>": torch.full((3, 32), float("nan"))}
    save_adapter(tmp_path / "a", SOFT_TOKENS, tokens, {"token": "<evenhand>"})
    with pytest.raises(UserError, match="<evenhand> holds values that are not finite"):
        load_adapter(pipelines.make("sd").pipe, find_adapter(tmp_path / "a"))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(state, tmp_path, scale):
    with pytest.raises(UserError, match="its strength is"):
        load(tmp_path / "a", state, scale=scale)


def test_an_adapter_is_described_with_the_version_of_its_schema(state, tmp_path):
    save_adapter(tmp_path / "a", LORA, state, {"recipe": "x"})
    found = find_adapter(tmp_path / "a")
    assert found.described == {
        "schema": SCHEMA,
        "recipe": "x",
        "weights": LORA,
        "digest": found.digest,
    }
    assert found.is_lora and found.folder == tmp_path / "a"


@pytest.mark.parametrize("name", shipped_adapters())
def test_every_adapter_that_ships_loads(name):
    adapter = find_adapter(name)
    diffusion = load_diffusion(load_model("emoji"), adapter=adapter, device="cpu")
    assert diffusion.source.endswith(f"+{name}@{adapter.digest}")


def copy_of_the_embedded_model(folder: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(locate("package:emoji/model"), folder))


def test_the_source_of_a_folder_follows_its_weights(tmp_path):
    folder = copy_of_the_embedded_model(tmp_path / "model")
    first = load_diffusion(Model(path=str(folder)), device="cpu").source
    assert first.startswith("model@") and len(first) == len("model@") + 12  # whatever its place
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v / 2 for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    assert load_diffusion(Model(path=str(folder)), device="cpu").source != first


HUB = """
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.recipes.model import Model
for revision in (None, "v1", "{commit}"):
    print(load_diffusion(Model(path="someone/tiny", revision=revision), device="cpu").source)
"""


def test_the_source_of_a_hub_model_is_its_commit(tmp_path):
    """From the cache that huggingface_hub keeps, without network."""
    commit, other = "0123456789" * 4, "abcdef0123" * 4
    repo = tmp_path / "models--someone--tiny"
    copy_of_the_embedded_model(repo / "snapshots" / commit)
    shutil.copytree(repo / "snapshots" / commit, repo / "snapshots" / other)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "refs" / "v1").write_text(other)
    result = subprocess.run(
        [sys.executable, "-c", HUB.replace("{commit}", commit)],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [f"someone/tiny@{x}" for x in (commit, other, commit)]


CALLS = {
    "options.bogus=1": "unknown setting 'bogus'",
    "options.eat=1": "did you mean 'eta'",
    "options.output_type=pil": "settings.options.output_type: evenhand sets it",
    "scheduler=UNet2DConditionModel": "no scheduler 'UNet2DConditionModel'",
    "scheduler=Nothing": "no scheduler 'Nothing'",
    "scheduler_options.bogus=1": "scheduler .*: unknown option 'bogus'",
    "height=64": "give both height and width",
    "{height: 63, width: 63}": "refuses its settings .*divisible by 8",
}


@pytest.mark.parametrize("setting, message", CALLS.items())
def test_settings_that_the_pipeline_does_not_take_are_refused(setting, message):
    changes = override({}, [f"x={setting}"])["x"] if "{" in setting else override({}, [setting])
    with pytest.raises(UserError, match=message):
        load_diffusion(load_model("emoji"), device="cpu", settings=changes).sample(["a"], [0])


def test_options_of_the_scheduler_are_used_without_naming_it():
    changes = {"scheduler_options": {"timestep_spacing": "trailing"}}
    diffusion = load_diffusion(load_model("emoji"), device="cpu", settings=changes)
    assert diffusion.pipe.scheduler.config.timestep_spacing == "trailing"


def test_a_pipeline_that_draws_no_text_is_refused(tmp_path):
    import diffusers

    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="DDPMPipeline is no pipeline that draws images of a text"):
        load_diffusion(Model(path=str(tmp_path / "m")), device="cpu")
