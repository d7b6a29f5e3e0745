"""What holds for one model holds for any: gradients, LoRA, export.

One line a family says how far its stock pipeline goes.
"""

import functools

import pytest
import torch
from pipelines import FAMILIES, draw, gradients, loss_of, make, one_graph, relative_error, replayed

from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError
from evenhand.diffusion.adapters import load_adapter, save_adapter
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.replay import attach
from evenhand.diffusion.trainable import Trainable
from evenhand.diffusion.trainable import attach as attach_trainable
from evenhand.recipes.lora import Lora

PARTS = ("denoiser", "text_encoder", "both")
# the networks that gradients reach, and the parts whose LoRA the pipeline's own loader reads
TABLE = {
    "sd": ({"unet", "text_encoder"}, PARTS),
    "sd2": ({"unet", "text_encoder"}, PARTS),
    "sdxl": ({"unet", "text_encoder", "text_encoder_2"}, PARTS),
    "sd3": ({"transformer", "text_encoder", "text_encoder_2"}, PARTS),
    "flux": ({"transformer", "text_encoder", "text_encoder_2"}, PARTS),
    "flux2": ({"transformer", "text_encoder"}, PARTS[:1]),
    "sana": ({"transformer", "text_encoder"}, PARTS[:1]),
    "pixart_sigma": ({"transformer", "text_encoder"}, ()),
    "z_image": ({"transformer", "text_encoder"}, PARTS[:1]),
    "qwen_image": ({"transformer", "text_encoder"}, PARTS[:1]),
}
ALL = [(name, part) for name in FAMILIES for part in PARTS]
LORA = [(name, part) for name, part in ALL if part in TABLE[name][1]]
JOINED = {
    "sd",
    "sd2",
    "sdxl",
    "sd3",
    "flux",
    "flux2",
    "sana",
    "pixart_sigma",
}  # Z-Image takes lists; Qwen-Image guides by further calls
UNUSED = {
    "sdxl": "text_encoder.encoder.layers.1."
}  # SDXL reads this encoder's last layer but one only


def train(diffusion: Diffusion, part: str) -> Trainable:
    trainable = attach_trainable(diffusion, Lora(part=part, rank=2), seed=0)
    optimizer = torch.optim.AdamW(trainable.parameters, lr=0.1, weight_decay=0.0)
    for _ in range(2):  # the first step moves B only: A has no gradient while B is zero
        tape = attach(diffusion.denoiser, functools.partial(draw, diffusion))
        tape.backward(loss_of(tape.images))
        optimizer.step()
        optimizer.zero_grad()
    return trainable


def weights(diffusion: Diffusion) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, part in diffusion.pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for key, value in part.state_dict().items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_equals_one_graph(name):
    diffusion = make(name)
    expected = one_graph(diffusion)
    assert expected.keys() == TABLE[name][0]
    assert relative_error(replayed(diffusion), expected) < 1e-5
    assert relative_error(replayed(diffusion, recorded=True), expected) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_gives_the_gradient_of_one_graph(name):
    """Also where the pipeline would cast its decoder to float32 and back under the live graph.

    Not compared with float32: older torch draws other noise in half precision.
    """
    diffusion = make(name, dtype=torch.float16)
    expected, found = one_graph(diffusion), replayed(diffusion, recorded=True)
    assert expected.keys() == found.keys() == TABLE[name][0]
    for key, value in expected.items():
        assert torch.cosine_similarity(found[key].float(), value.float(), dim=0) > 0.999


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_joined_into_one_give_the_same_gradient(name):
    """Arguments of some families cannot be joined (lists of tensors): their calls stay single."""
    diffusion, sizes = make(name), []
    tape = attach(diffusion.denoiser, functools.partial(draw, diffusion))
    expected = replayed(diffusion)
    handle = diffusion.denoiser.register_forward_hook(lambda module, args, output: sizes.append(1))
    tape.backward(loss_of(tape.images), at_once=len(tape))
    handle.remove()
    assert relative_error(gradients(diffusion), expected) < 1e-5
    assert len(sizes) == (1 if name in JOINED else len(tape))


@pytest.mark.parametrize("name, part", LORA)
def test_training_changes_every_tensor_of_the_lora_and_no_other(name, part):
    untrained, trained = make(name, frozen=True), make(name, frozen=True)
    attach_trainable(untrained, Lora(part=part, rank=2), seed=0)
    train(trained, part)
    before, after = weights(untrained), weights(trained)
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    unused = UNUSED.get(name, "-")
    lora = {
        key
        for key in after  # transformers 5.6 dropped a level of its text encoders' names
        if ".lora_" in key and not key.replace("text_model.", "").startswith(unused)
    }
    assert lora and changed == lora


@pytest.mark.parametrize("name, part", LORA)
def test_an_exported_adapter_draws_what_was_trained(name, part, tmp_path):
    trained, fresh = make(name, frozen=True), make(name, frozen=True)
    trainable = train(trained, part)
    save_adapter(tmp_path / "adapter", trainable.file, trainable.state(), {"family": name})
    with torch.no_grad():
        base = draw(fresh)
        load_adapter(fresh.pipe, find_adapter(tmp_path / "adapter"))
        assert (draw(fresh) - base).abs().max() > 5 / 255
        assert (draw(fresh) - draw(trained)).abs().max() < 2 / 255


@pytest.mark.parametrize("name, part", [case for case in ALL if case not in LORA])
def test_refuses_lora_that_the_pipeline_could_not_load(name, part):
    diffusion = make(name, frozen=True)
    with pytest.raises(UserError, match=type(diffusion.pipe).__name__):
        attach_trainable(diffusion, Lora(part=part), seed=0)
