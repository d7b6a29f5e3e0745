"""Adapters made elsewhere: every layout at the strength its maker trained, or one clear line."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import peft
import pipelines
import pytest
import torch
from hub_server import TOKEN, Hub, Repo
from safetensors.torch import load_file, save_file

from evenhand.cli.export import Format
from evenhand.cli.export import export as command
from evenhand.core.adapters import LORA, SOFT_TOKENS, find_adapter
from evenhand.core.errors import UserError
from evenhand.core.resources import ROOT
from evenhand.core.weights import with_file
from evenhand.diffusion.adapters import load_adapter, save_adapter
from evenhand.diffusion.export import export
from evenhand.diffusion.trainable import attach
from evenhand.recipes.lora import Lora
from evenhand.recipes.model import Model, load_model

LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def random_lora(family="sd", part="both", rank=2):
    """A LoRA of ours with random values in every tensor, alpha equal to the rank."""
    made = attach(pipelines.make(family, frozen=True), Lora(part=part, rank=rank), seed=0).state()
    generator = torch.Generator().manual_seed(0)
    return {k: 0.5 * torch.randn(x.shape, generator=generator) for k, x in made.items()}


@pytest.fixture(scope="module")
def ours():
    return random_lora()


def loaded(name, family="sd", **how):
    diffusion = pipelines.make(family, frozen=True)
    load_adapter(diffusion.pipe, find_adapter(name), **how)
    return diffusion


def drawn(name, family="sd", **how):
    return pipelines.draw(loaded(name, family, **how))


def change_of(layer):
    """What the only LoRA of a layer adds to its weights."""
    return layer.get_delta_weight(layer.active_adapters[0])


def folder(path, state, file=LORA):
    path.mkdir(parents=True, exist_ok=True)
    save_file(state, path / file)
    return path


def part_of(state, component):
    start = f"{component}."
    return {k.removeprefix(start): x for k, x in state.items() if k.startswith(start)}


def as_kohya(state, alpha=None, starts=None):
    """What kohya's trainer would have written, by hand; alpha of a layer from its name and rank."""
    starts = starts or {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    found = {}
    for key, value in state.items():
        component, _, rest = key.partition(".")
        layer, _, matrix = rest.removesuffix(".weight").rpartition(".lora_")
        name = starts[component] + layer.replace(".", "_")
        found[f"{name}.lora_{'down' if matrix == 'A' else 'up'}.weight"] = value
        if alpha and matrix == "A":
            found[f"{name}.alpha"] = torch.tensor(alpha(layer, len(value)))
    return found


def peft_folder(path, state, component="unet", *, alpha, **more):
    """What peft itself writes for a network, with these values in its matrices."""
    network = getattr(pipelines.make("sd", frozen=True).pipe, component)
    layers = LAYERS if component == "unet" else ["q_proj", "k_proj", "v_proj", "out_proj"]
    model = peft.get_peft_model(
        network, peft.LoraConfig(r=2, lora_alpha=alpha, target_modules=layers, **more)
    )
    held = part_of(state, component)
    if not hasattr(network, "text_model"):
        held = {k.removeprefix("text_model."): x for k, x in held.items()}
    peft.set_peft_model_state_dict(model, {f"base_model.model.{k}": x for k, x in held.items()})
    model.save_pretrained(path)
    return model


def test_one_lora_in_every_layout_draws_the_same(ours, tmp_path):
    """Rank 2, alpha 4: twice what the matrices alone say."""
    unet = {k: x for k, x in ours.items() if k.startswith("unet.")}
    doubled = {k: x * (2 if "lora_B" in k else 1) for k, x in unet.items()}
    expected = drawn(folder(tmp_path / "ours", doubled))
    peft_folder(tmp_path / "peft", ours, alpha=4)
    pipelines.make("sd").pipe.save_lora_weights(
        tmp_path / "header",
        unet_lora_layers=part_of(ours, "unet"),
        unet_lora_adapter_metadata={"r": 2, "lora_alpha": 4, "target_modules": LAYERS},
    )
    twice = {"alpha": lambda layer, rank: 4.0}
    folder(tmp_path / "kohya", as_kohya(unet, **twice), "any name.safetensors")
    lycoris = as_kohya(unet, **twice, starts={"unet": "lycoris_"})
    folder(tmp_path / "lycoris", lycoris, "x.safetensors")
    (tmp_path / "torch").mkdir()
    torch.save(as_kohya(unet, **twice), tmp_path / "torch" / "x.bin")
    assert (expected - pipelines.draw(pipelines.make("sd", frozen=True))).abs().max() > 0.1
    for name in ("peft", "header", "kohya", "lycoris", "torch"):
        assert torch.allclose(drawn(tmp_path / name), expected, atol=1e-5), name
    one = drawn(tmp_path / "kohya" / "any name.safetensors", scale=0.5)
    assert torch.allclose(one, drawn(folder(tmp_path / "plain", unet)), atol=1e-5)


@pytest.mark.parametrize("more", [{"use_rslora": True}, {"alpha_pattern": {"to_q": 1}}])
def test_the_strength_is_that_of_pefts_configuration(ours, tmp_path, more):
    model = peft_folder(tmp_path / "a", ours, alpha=3, **more)
    unet = loaded(tmp_path / "a").pipe.unet
    for name, layer in model.base_model.model.named_modules():
        if hasattr(layer, "lora_A"):
            expected = layer.get_delta_weight("default")
            found = change_of(unet.get_submodule(name))
            assert torch.allclose(found, expected, atol=1e-6)


def test_ranks_and_alphas_that_differ_give_the_change_worked_out_by_hand(ours, tmp_path):
    generator, mixed, alphas = torch.Generator().manual_seed(1), {}, {}
    for i, key in enumerate(k for k in ours if "lora_A" in k):
        rank, up = 1 + i % 3, key.replace("lora_A", "lora_B")
        mixed[key] = torch.randn(rank, ours[key].shape[1], generator=generator)
        mixed[up] = torch.randn(len(ours[up]), rank, generator=generator)
        alphas[key.partition(".")[2].rpartition(".lora_")[0]] = [0.1, 1.0, 3.0, 8.0][i % 4]
    file = as_kohya(mixed, alpha=lambda layer, rank: alphas[layer])
    pipe = loaded(folder(tmp_path / "a", file, "a.safetensors")).pipe
    for key, down in mixed.items():
        if "lora_A" in key:
            component, _, layer = key.rpartition(".lora_")[0].partition(".")
            network = getattr(pipe, component)
            here = layer if hasattr(network, "text_model") else layer.removeprefix("text_model.")
            found = change_of(network.get_submodule(here))
            change = alphas[layer] / len(down) * mixed[key.replace("lora_A", "lora_B")] @ down
            assert torch.allclose(found, change, atol=1e-5), key


def test_sdxl_in_the_names_of_its_first_publication(tmp_path):
    """Blocks that count on as input_blocks; both text encoders, of one of which a few layers."""
    state = {
        k: x
        for k, x in random_lora("sdxl").items()
        if "down_blocks.1.attentions.0." in k or "text_encoder_2." in k or "q_proj" in k
    }
    expected = drawn(folder(tmp_path / "ours", state), "sdxl")
    starts = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    theirs = as_kohya(state, lambda layer, rank: float(rank), starts)
    assert torch.allclose(
        drawn(folder(tmp_path / "kohya", theirs, "x.safetensors"), "sdxl"), expected, atol=1e-5
    )
    old = {
        k.replace("down_blocks_1_attentions_0", "input_blocks_3_1"): x
        for k, x in theirs.items()
        if "q_proj" not in k or "te2" in k
    }
    without = {k: x for k, x in state.items() if "q_proj" not in k or "encoder_2" in k}
    assert torch.allclose(
        drawn(folder(tmp_path / "old", old, "x.safetensors"), "sdxl"),
        drawn(folder(tmp_path / "fewer", without), "sdxl"),
        atol=1e-5,
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft
def test_dora_is_what_peft_draws_or_refused_by_name(ours, tmp_path):
    for component in ("unet", "text_encoder"):
        place = tmp_path / component
        model = peft_folder(place, ours, component, alpha=4, use_dora=True)
        for name, value in model.named_parameters():
            if "magnitude" in name:
                value.data *= 1.5
        model.save_pretrained(place)
        if component == "text_encoder":  # transformers takes all of it but the magnitudes
            with pytest.raises(UserError, match=r"has not loaded all of .*magnitude"):
                drawn(place)
            continue
        base = pipelines.make("sd", frozen=True)
        setattr(base.pipe, component, model.base_model.model)
        assert torch.allclose(drawn(place), pipelines.draw(base), atol=1e-5), component
    kohya = as_kohya({k: x for k, x in ours.items() if k.startswith("unet.")})
    layer = next(iter(kohya)).partition(".")[0]
    file = {**kohya, f"{layer}.dora_scale": torch.ones(16, 1)}
    with pytest.raises(UserError, match=rf"has not loaded all of .*{layer}.dora_scale"):
        loaded(folder(tmp_path / "scale", file, "x.safetensors"))


def test_joined_layers_that_the_converter_splits_arrive_and_one_too_many_is_named(tmp_path):
    """FLUX.1 in kohya's names: query, key and value in one matrix, which diffusers takes apart."""
    down, up = torch.randn(2, 32), torch.randn(96, 2)
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    file = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    file[f"{name}.alpha"] = torch.tensor(0.5)
    pipe = loaded(folder(tmp_path / "a", file, "x.safetensors"), "flux").pipe
    attention = pipe.transformer.transformer_blocks[0].attn
    for part, expected in zip("qkv", up.chunk(3), strict=True):
        found = change_of(getattr(attention, f"to_{part}"))
        assert torch.allclose(found, 0.25 * expected @ down, atol=1e-5)
    more = {k.replace("blocks_0", "blocks_77"): x.clone() for k, x in file.items()}
    with pytest.raises(UserError, match=r"double_blocks_77_img_attn_qkv\."):
        loaded(folder(tmp_path / "b", {**file, **more}, "x.safetensors"), "flux")


def test_the_published_systems_files_are_loaded(ours, tmp_path):
    """Names of one network alone, in diffusers' spelling of 2023, parameters in a pickle."""
    text = part_of(ours, "text_encoder")
    names = {".lora_A.": ".lora_linear_layer.down.", ".lora_B.": ".lora_linear_layer.up."}
    file = {}
    for key, value in text.items():
        old = next(a for a in names if a in key)
        file[key.replace(old, names[old])] = torch.nn.Parameter(value)
    torch.save(file, tmp_path / "text_encoder_lora_EMA.pth")
    whole = {k: x for k, x in ours.items() if k.startswith("text_encoder.")}
    expected = drawn(folder(tmp_path / "ours", whole))
    found = find_adapter(tmp_path / "text_encoder_lora_EMA.pth")
    assert found.is_lora and found.source == f"text_encoder_lora_EMA@{found.digest}"
    assert torch.allclose(drawn(tmp_path / "text_encoder_lora_EMA.pth"), expected, atol=1e-5)
    unet = {}
    for key, value in part_of(ours, "unet").items():
        layer, _, matrix = key.removesuffix(".weight").rpartition(".lora_")
        block, _, name = layer.rpartition(".to_")
        matrix = "down" if matrix == "A" else "up"
        unet[f"{block}.processor.to_{name.removesuffix('.0')}_lora.{matrix}.weight"] = value
    torch.save(unet, tmp_path / "unet_lora.pth")
    whole = {k: x for k, x in ours.items() if k.startswith("unet.")}
    expected = drawn(folder(tmp_path / "theirs", whole))
    assert torch.allclose(drawn(tmp_path / "unet_lora.pth"), expected, atol=1e-5)


def test_a_file_that_fits_two_networks_says_which_by_its_folder(tmp_path):
    second = part_of(random_lora("sdxl", "text_encoder"), "text_encoder_2")
    file = {f"base_model.model.{k}": x for k, x in second.items()}
    folder(tmp_path / "a", file, "adapter_model.safetensors")
    with pytest.raises(UserError, match="fits several text encoders; give its folder the name"):
        loaded(tmp_path / "a", "sdxl")
    folder(tmp_path / "text_encoder_2", file, "adapter_model.safetensors")
    same = folder(tmp_path / "b", {f"text_encoder_2.{k}": x for k, x in second.items()})
    assert torch.equal(drawn(tmp_path / "text_encoder_2", "sdxl"), drawn(same, "sdxl"))


class Harm:
    """A pickle that makes a file where it is opened."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return pathlib.Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["x.bin", "x.pth", "x.pt", "x.safetensors", LORA])
def test_a_pickle_runs_no_code(tmp_path, name):
    trace = tmp_path / "trace"
    torch.save({"lora": Harm(trace)}, tmp_path / name)
    with pytest.raises(UserError, match=f"{name}.*cannot be (loaded|read)"):
        loaded(tmp_path / name)
    assert not trace.exists()


def test_damaged_files_are_refused_before_anything_is_loaded(ours, tmp_path):
    good = (folder(tmp_path / "good", ours) / LORA).read_bytes()
    bad = {
        "cut short": good[:-100],
        "its header cut": good[:50],
        "nothing": b"",
        "words": b"x" * 90,
    }
    for name, content in bad.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / LORA).write_bytes(content)
        with pytest.raises(UserError, match=f"{LORA} cannot be loaded: .* cut short, or no safe"):
            find_adapter(tmp_path / name)
    with pytest.raises(UserError, match="holds no tensor"):
        find_adapter(folder(tmp_path / "empty", {}))
    (tmp_path / "renamed.bin").write_bytes(good)  # another ending, the same content
    assert torch.equal(drawn(tmp_path / "renamed.bin"), drawn(tmp_path / "good"))


def peft_config(**values):
    return {"adapter_config.json": json.dumps({"r": 2, "lora_alpha": 2, **values})}


METHODS = {
    "LOHA": peft_config(peft_type="LOHA"),
    "LoRA begun by pissa_niter_16": peft_config(init_lora_weights="pissa_niter_16"),
    "layer_replication": peft_config(layer_replication=[[0, 2]]),
}


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_refused_by_name(ours, tmp_path, method):
    folder(tmp_path / "a", part_of(ours, "unet"), "adapter_model.safetensors")
    for name, text in METHODS[method].items():
        (tmp_path / "a" / name).write_text(text)
    with pytest.raises(UserError, match=f"it was made by {method}, which stock pipelines"):
        loaded(tmp_path / "a")


def test_what_is_not_of_this_model_is_refused_with_its_keys(ours, tmp_path):
    starts = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    of_xl = folder(tmp_path / "a", as_kohya(random_lora("sdxl"), None, starts), "x.safetensors")
    with pytest.raises(UserError, match=r"text_encoder_2\..*are left over|size mismatch for"):
        loaded(of_xl)
    loha = {"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.ones(4, 2)}
    file = {**as_kohya({k: x for k, x in ours.items() if k.startswith("unet.")}), **loha}
    with pytest.raises(UserError, match="cannot be loaded: .*mid_block_attentions_0_proj_in.hada"):
        loaded(folder(tmp_path / "b", file, "x.safetensors"))
    alone = {**ours, "unet.mid_block.attentions.0.proj_in.alpha": torch.tensor(3.0)}
    with pytest.raises(UserError, match=r"all of .*unet.mid_block.attentions.0.proj_in.alpha"):
        loaded(folder(tmp_path / "c", alone))


def test_soft_tokens_of_any_name_are_loaded(tmp_path):
    tokens = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    save_adapter(tmp_path / "ours", SOFT_TOKENS, {"my-style": tokens}, {"token": "my-style"})
    expected = loaded(tmp_path / "ours").pipe
    save_file({"emb_params": tokens}, tmp_path / "my style.safetensors")
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": tokens}}, tmp_path / "x.pt")
    for name in ("my style.safetensors", "x.pt"):
        adapter = find_adapter(tmp_path / name)
        pipe = pipelines.make("sd", frozen=True).pipe
        _, prefix = load_adapter(pipe, adapter)
        assert not adapter.is_lora and prefix == ("<x> " if name == "x.pt" else "<my-style> ")
        found = pipe.text_encoder.get_input_embeddings().weight
        assert torch.equal(found, expected.text_encoder.get_input_embeddings().weight)


def test_several_files_are_listed_and_one_is_named(ours, tmp_path, monkeypatch):
    for name in ("a.safetensors", "b.safetensors"):
        folder(tmp_path, ours, name)
    (tmp_path / "optimizer.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"several files .*\(a.safetensors, b.safetensors\); name"):
        find_adapter(tmp_path)
    found = find_adapter(with_file(str(tmp_path), "b.safetensors"))
    assert found.weights == tmp_path / "b.safetensors" and found.source.startswith("b@")
    with pytest.raises(UserError, match=r"holds no 'c.safetensors'; it holds a.safetensors, b"):
        find_adapter(with_file(str(tmp_path), "c.safetensors"))
    for outside in ("../x.safetensors", "/etc/x.bin", "a/../../x.bin"):
        with pytest.raises(UserError, match="leads out of"):
            with_file(str(tmp_path), outside)
    with pytest.raises(UserError, match="ships with one file"):
        with_file("emoji-gender", "x.safetensors")
    (tmp_path / "empty" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty" / "here")
    for name in ("..", "../prompts", "emoji-gender/../../prompts"):
        with pytest.raises(UserError, match="unknown adapter|holds neither"):
            find_adapter(name)


def evenhand(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "evenhand", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    said = done.stdout + done.stderr
    assert TOKEN not in said and "Traceback" not in said, said
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_an_exported_file_draws_the_same_in_stock_diffusers(family, tmp_path):
    """Of mixed ranks, at half its strength."""
    state = random_lora(family)
    last = list(state)[-2:]
    first, second = (state[key] for key in last)
    state |= {last[0]: first[:1], last[1]: second[:, :1].contiguous()}
    adapter = folder(tmp_path / "adapter", state)
    pipelines.make(family).pipe.save_pretrained(tmp_path / "model")
    base = Model(path=str(tmp_path / "model"))
    expected = drawn(adapter, family, scale=0.5)
    for layout, out in {"kohya": "x.safetensors", "diffusers": "folder"}.items():
        export(find_adapter(adapter), base, tmp_path / out, layout=layout, strength=0.5)
        stock = pipelines.make(family, frozen=True)
        stock.pipe.load_lora_weights(
            tmp_path, weight_name=out if layout == "kohya" else f"{out}/{LORA}"
        )
        assert torch.allclose(pipelines.draw(stock), expected, atol=1e-5), layout
        assert torch.allclose(drawn(tmp_path / out, family), expected, atol=1e-5), layout
    keys = load_file(tmp_path / "x.safetensors")
    starts = {key[:9] for key in keys}
    assert starts == {"lora_unet", "lora_te_t" if family == "sd" else "lora_te1_", *starts}
    assert all(float(x) == 2 for key, x in keys.items() if key.endswith(".alpha"))
    described = find_adapter(tmp_path / "folder").described
    assert described["made_elsewhere"]["source"] == find_adapter(adapter).source
    assert "measured" not in described and described["made_elsewhere"]["strength"] == 0.5


def test_what_kohyas_layout_has_no_name_for_is_refused(ours, tmp_path):
    pipelines.make("flux").pipe.save_pretrained(tmp_path / "flux")
    adapter = find_adapter(folder(tmp_path / "a", random_lora("flux", "denoiser")))
    with pytest.raises(UserError, match="not of FluxPipeline: ComfyUI reads its adapters in diff"):
        base = Model(path=str(tmp_path / "flux"))
        export(adapter, base, tmp_path / "x.safetensors", layout="kohya")
    with pytest.raises(UserError, match="soft tokens are one file for all software already"):
        export(find_adapter("emoji-gender-tokens"), load_model("emoji"), tmp_path / "x", layout="k")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_committed_matrix_holds_every_family_kind_and_stack():
    found = json.loads((ROOT / "eval" / "compat" / "matrix.json").read_text(encoding="utf-8"))
    assert found["versions"]["oldest"]["diffusers"] == "0.36.0"
    assert {"sd", "sdxl", "sd3", "z_image"} <= found["cells"].keys()
    for kinds in found["cells"].values():
        assert len(kinds) == 4
        for cell in kinds.values():
            read = (
                [cell[stack]["result"] for stack in ("newest", "oldest")] if cell["written"] else []
            )
            assert read == ["equal"] * 2 or cell["said"]


def test_the_command_exports_and_says_what_it_would(tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    command("emoji-gender", out=out, dry_run=True)
    assert "in the layout of kohya" in capsys.readouterr().out and not out.exists()
    code, said, err = evenhand("export", "emoji-gender", "--format", "kohya", "--out", out)
    assert code == 0 and said.strip() == str(out), err
    with pytest.raises(UserError, match="x.safetensors: is there already; name another"):
        command("emoji-gender", out=out)
    with pytest.raises(UserError, match="does not say its base model: name it with --model"):
        command(str(out), layout=Format.diffusers, out=tmp_path / "y")
    with pytest.raises(UserError, match="--scale nan: it is a number"):
        command("emoji-gender", scale=float("nan"), out=tmp_path / "y")


NAMES = """
import sys
from evenhand.core.adapters import find_adapter
for name in sys.argv[1:]:
    try:
        found = find_adapter(name)
        recipe = found.described.get("recipe")
        print("found", found.source, found.weights.name, found.is_lora, recipe)
    except ValueError as error:
        print("refused", error)
"""


def names(hub, home, *given, **environment):
    """What `find_adapter` says of names, in a process whose Hub is that of the test."""
    asked = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", NAMES, *given],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(home), **asked},
    )
    assert done.returncode == 0 and TOKEN not in done.stdout, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("found", "refused"))]


def test_adapters_of_the_hub(tmp_path):
    shipped = ROOT / "adapters" / "emoji-gender"
    ours = {p.name: p.read_bytes() for p in shipped.iterdir() if p.is_file()}
    weights = ours[LORA]
    several = {"a.safetensors": weights, "old/b.safetensors": weights, "c.safetensors": weights}
    with Hub() as hub:
        repo = hub.repos["model", "user/mine"] = Repo()
        first = repo.commit({"x.safetensors": weights, "big.txt": b"x"})
        second = repo.commit(ours)
        hub.repos["model", "user/several"] = Repo()
        of_several = hub.repos["model", "user/several"].commit(several)
        hub.repos["model", "user/gated"] = Repo(gated=True)
        hub.repos["model", "user/gated"].commit(ours)
        hub.repos["model", "user/private"] = Repo(private=True)
        hub.repos["model", "user/private"].commit(ours)
        found = names(
            hub.url,
            tmp_path,
            "user/mine",
            f"user/mine@{first}",
            "user/several",
            "user/several/old/b.safetensors",
            "user/several/../x.safetensors",
            "user/gated",
            "user/private",
            "user/mine@gone",
        )
        digest = find_adapter("emoji-gender").digest
        assert found[0] == f"found user/mine@{second}@{digest} {LORA} True dft/emoji-gender"
        assert found[1] == f"found user/mine@{first}@{digest} x.safetensors True None"
        assert "holds several files of weights (a.safetensors, c.safetensors, old/b" in found[2]
        assert found[3] == f"found user/several@{of_several}@{digest} b.safetensors True None"
        assert "holds no '../x.safetensors'" in found[4]
        assert "its owner asks you to accept the terms on its page first; then `hf aut" in found[5]
        for line in found[6:]:
            assert "is not on the Hub, or private: `hf auth login`, or set HF_TOKEN" in line
        got = {path.rpartition("/")[2] for verb, path, _ in hub.log if "/resolve/" in path}
        assert got == {LORA, "adapter.json", "x.safetensors", "b.safetensors"}
        more = names(hub.url, tmp_path, "user/private", HF_TOKEN=TOKEN)
        assert more[0].startswith("found user/private@")
    gone = names(hub.url, tmp_path, "user/mine")
    assert "refused user/mine: the Hub cannot be reached: " in gone[0]
    cached = names(hub.url, tmp_path, "user/mine", "user/none", HF_HUB_OFFLINE="1")
    assert cached[0] == found[0] and "cache does not hold this repository" in cached[1]


def test_measuring_with_an_adapter_of_the_hub_records_its_commit(tmp_path):
    state = load_file(ROOT / "adapters" / "emoji-gender" / LORA)
    folder(tmp_path / "kohya", as_kohya(state, lambda layer, rank: float(rank)), "x.safetensors")
    content = (tmp_path / "kohya" / "x.safetensors").read_bytes()
    (tmp_path / "p.txt").write_text("a doctor\n")
    with Hub() as hub:
        repo = hub.repos["model", "user/mine"] = Repo()
        commit = repo.commit({"x.safetensors": content, "y.safetensors": content})
        code, _, err = evenhand(
            "measure",
            "emoji",
            *("--prompts", tmp_path / "p.txt", "--images", 1, "--attributes", "gender"),
            *("--setting", "num_inference_steps=2", "--out", tmp_path / "run", "--no-images"),
            *("--adapter", "user/mine", "--weight-name", "x.safetensors"),
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE="0",
            HF_HUB_DISABLE_XET="1",
            HF_HOME=str(tmp_path / "home"),
        )
    assert code == 0, err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert f"+user/mine@{commit}@" in json.dumps(run)
    shutil.rmtree(tmp_path / "run")
