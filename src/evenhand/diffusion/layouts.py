"""LoRA files in the layouts of all software, as one that a pipeline's own loader takes whole.

A file says in one of three places how strong each layer is: in `alpha` tensors beside its matrices
(kohya), in its header (diffusers), or in `adapter_config.json` (peft). Loaders read the first wrong
where layers differ, and lose the others where weights come without them. So the strength goes into
the matrices before a loader sees them: alpha equals the rank from then on.
"""

import json
import math
import re
from typing import Any

import torch
from torch import Tensor

from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError, loading
from evenhand.core.schema import read_json
from evenhand.core.weights import is_pickled

PAIRS = {".lora_A.": ".lora_B.", ".lora_down.": ".lora_up."}  # by the first, the second of a layer
HEADER = "lora_adapter_metadata"  # diffusers' name for the configuration in a file's header
# settings of peft under which the same matrices mean something else
OTHERWISE = ("use_qalora", "alora_invocation_tokens", "layer_replication", "target_parameters")
INITIAL = ("pissa", "olora", "corda", "loftq", "lora_ga")  # these change the base model as well
MODELS = {
    "lora_unet_": ("unet", "transformer"),
    "lora_transformer_": ("transformer",),
    "lycoris_": ("unet", "transformer"),
    "lora_te_": ("text_encoder",),
    "lora_te1_": ("text_encoder",),
    "lora_te2_": ("text_encoder_2",),
}


def read_weights(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of an adapter's file, by name.

    A file of torch.save is read as tensors only: a pickle that would run code is refused unrun. A
    file that is called .safetensors is never read as a pickle.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    from safetensors.torch import load_file

    with loading(f"adapter {adapter.name!r}: {adapter.weights}"):
        if not is_pickled(adapter.weights):
            return load_file(adapter.weights)
        held = torch.load(adapter.weights, map_location="cpu", weights_only=True)
        held = held.get("string_to_param", held) if isinstance(held, dict) else held
        if not isinstance(held, dict) or not all(isinstance(x, Tensor) for x in held.values()):
            raise UserError(
                f"adapter {adapter.name!r}: {adapter.weights} holds more than tensors by name; "
                "it is no file of weights alone"
            )
        return {key: value.detach() for key, value in held.items()}


def lora_for(pipe: Any, adapter: Adapter) -> dict[str, Tensor]:
    """An adapter's LoRA under the names that the pipeline's own loader gives it.

    Of layers `[out, in]` whose change is B A at the strength that their maker trained: A `[r, in]`,
    B `[out, r]`.

    Raises:
        UserError: names the tensors that the loader would drop.
    """
    state = _named_for(pipe, _at_full_strength(read_weights(adapter), adapter), adapter)
    known = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
    with torch.enable_grad():  # what the result depends on shows in its gradient
        given = {k: x.detach().requires_grad_(x.is_floating_point()) for k, x in state.items()}
        read = pipe.lora_state_dict({k: x.clone() for k, x in given.items()}, **known)
        read = read[0] if isinstance(read, tuple) else read
        total = sum(x.float().sum() for x in read.values() if x.requires_grad)
    tracked = {k: x for k, x in given.items() if x.requires_grad and not k.endswith(".alpha")}
    reached = (
        torch.autograd.grad(total, list(tracked.values()), allow_unused=True)
        if isinstance(total, Tensor)
        else [None] * len(tracked)
    )
    lost = [k for k, gradient in zip(tracked, reached, strict=True) if gradient is None]
    layers = {k.rpartition(".")[0] for k in given if not k.endswith(".alpha")}
    for key, value in given.items():
        if key.endswith(".alpha"):
            used = any(layer.startswith(key.removesuffix(".alpha")) for layer in layers)
        else:
            used = value.is_floating_point()
        lost += [] if used else [key]
    refuse_lost(pipe, adapter, lost)
    return {k: x.detach() for k, x in read.items() if not k.endswith(".alpha")}


def refuse_lost(pipe: Any, adapter: Adapter, lost: list[str]) -> None:
    """Raises UserError where tensors of a file have not arrived in the pipeline; names them."""
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise UserError(
            f"adapter {adapter.name!r}: {type(pipe).__name__} has not loaded all of "
            f"{adapter.weights}: {', '.join(lost[:3])}{more} are left over; it was made for "
            "another model, or by a method that this loader does not know"
        )


def _at_full_strength(state: dict[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The tensors with each layer's strength, alpha / rank, in its matrices.

    Both take about the root of it, a power of two, so that neither leaves its type's range.

    Raises:
        UserError: an alpha without a layer, or a method under which the matrices mean another
            change.
    """
    state, configs = dict(state), _configurations(adapter)
    for key in list(state):
        half = next((name for name in PAIRS if name in key and key.endswith(".weight")), None)
        up = key.replace(half, PAIRS[half]) if half else ""
        if not half or up not in state:
            continue
        layer, rank = key.partition(half)[0], len(state[key])
        alpha, scale = state.get(f"{layer}.alpha"), 1.0
        if alpha is not None:
            scale = float(alpha) / rank
            state[f"{layer}.alpha"] = torch.tensor(float(rank))
        for prefix, config in configs.items():
            if layer.startswith(prefix):
                scale = _strength(config, layer.removeprefix(prefix), rank)
        if scale != 1:
            part = 2.0 ** round(math.log2(scale) / 2) if 0 < scale < math.inf else 1.0
            state[key] = state[key].float() * part
            state[up] = state[up].float() * (scale / part)
            bias = up.removesuffix("weight") + "bias"
            if bias in state:
                state[bias] = state[bias].float() * scale
    return state


def _strength(config: dict[str, Any], module: str, rank: int) -> float:
    """The strength of a layer after peft's configuration: alpha / r, or alpha / sqrt(r)."""
    from peft.utils.other import get_pattern_key

    alphas = config.get("alpha_pattern") or {}
    alpha = alphas.get(get_pattern_key(list(alphas), module), config.get("lora_alpha", rank))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _configurations(adapter: Adapter) -> dict[str, dict[str, Any]]:
    """The configurations that peft wrote for a file, by what the names of its layers begin with.

    Raises:
        UserError: one of a method other than LoRA.
    """
    from safetensors import safe_open

    found: dict[str, dict[str, Any]] = {}
    if not is_pickled(adapter.weights):
        with safe_open(adapter.weights, "pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER) or "{}")
        for name, value in header.items():  # "unet.lora_alpha"
            component, _, option = name.partition(".")
            found.setdefault(f"{component}.", {})[option] = value
    path = adapter.folder / "adapter_config.json"
    if path.is_file() and adapter.weights.stem == "adapter_model":
        found[""] = read_json(path, what="peft's adapter_config.json", advice="fetch it anew")
    for config in found.values():
        kind, start = config.get("peft_type") or "LORA", config.get("init_lora_weights")
        other = [name for name in OTHERWISE if config.get(name)]
        if kind != "LORA" or other or str(start).lower().startswith(INITIAL):
            method = kind if kind != "LORA" else other[0] if other else f"LoRA begun by {start}"
            raise UserError(
                f"adapter {adapter.name!r}: it was made by {method}, which stock pipelines do not "
                "load as its maker meant; convert it to LoRA where it was made"
            )
    return found


def _named_for(pipe: Any, state: dict[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The tensors under names that begin with a component of the pipeline, where these are meant.

    Names of one network alone (peft's, and those of Shen et al., ICLR 2024) get its name in front.
    Names with "_" for "." (kohya's, LyCORIS') become those of the pipeline's own layers. Where only
    some names are known, all stay as they are, for the loader's own converters.
    """
    bare = {key.removeprefix("base_model.model."): x for key, x in state.items()}
    fits = [
        name
        for name in getattr(pipe, "_lora_loadable_modules", [])
        if _all_in(getattr(pipe, name, None), bare)
    ]
    if len(fits) > 1:  # text encoders of one design
        fits = [name for name in fits if name in (adapter.folder.name, adapter.weights.stem)]
        if not fits:
            raise UserError(
                f"adapter {adapter.name!r}: {adapter.weights} fits several text encoders; give its "
                "folder the name of the one it was made for, such as text_encoder_2"
            )
    if fits:
        return {f"{fits[0]}.{key}": x for key, x in bare.items()}
    layers = _spelt_with_underscores(pipe)
    named = {}
    for key, value in state.items():
        layer, _, matrix = key.partition(".")
        matrix = matrix.replace("lora_down", "lora_A").replace("lora_up", "lora_B")
        if layer not in layers or matrix not in ("lora_A.weight", "lora_B.weight", "alpha"):
            return state
        named[f"{layers[layer]}.{matrix}"] = value
    return named


def _all_in(network: Any, state: dict[str, Tensor]) -> bool:
    """Whether every tensor is of a layer of the network, and the matrices fit these."""
    if network is None:
        return False
    layers = {name.removeprefix("text_model."): x for name, x in network.named_modules()}
    for key, value in state.items():
        layer = re.split(r"\.processor\.|[._]lora", key)[0].removeprefix("text_model.")
        if layer not in layers:
            return False
        width = getattr(layers[layer], "in_features", None)
        if width and re.search(r"lora(_A|_linear_layer\.down)\.", key) and value.shape[1] != width:
            return False
    return True


def _spelt_with_underscores(pipe: Any) -> dict[str, str]:
    """Names of the pipeline's layers by what kohya and LyCORIS call them."""
    return {
        start + form.replace(".", "_"): f"{component}.{name}"
        for start, components in MODELS.items()
        for component in components
        if getattr(pipe, component, None) is not None
        for name, _ in getattr(pipe, component).named_modules()
        for form in (name, f"text_model.{name}")
    }
