"""Training by what it changes.

What must change does, nothing else does, a cut run ends in the same weights.
"""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from evenhand.adapt.dft import context as stage
from evenhand.adapt.dft.finetune import finetune
from evenhand.core.adapters import LORA, find_adapter
from evenhand.core.errors import UserError
from evenhand.devices import best_dtype, default_device
from evenhand.diffusion.lora import attach_lora, lora_state
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.lora import Lora
from evenhand.recipes.model import load_model

QUICK = [
    "steps=3",
    "images=6",
    "explicit_images=2",
    "num_inference_steps=[4]",
    "gradient.calls=2",
    "checkpoint_every=2",
    "preservation.seeds=8",
    "prompts_per_step=1",
    "optimisation.warmup=0",
    "optimisation.schedule=constant",
    "alignment.confidence=0.6",
]


class Cut(Exception):
    pass


def train(folder, part="text_encoder", *more, progress=None):
    recipe = load_recipe("dft/emoji-gender", [*QUICK, f"lora.part={part}", "lora.rank=2", *more])
    return finetune(recipe, folder, name="test", progress=progress)


@pytest.fixture(scope="module", params=["text_encoder", "denoiser"])
def trained(request, tmp_path_factory):
    """An uninterrupted run, and the pipeline it was trained in."""
    kept = {}

    def keeping(*args, **kwargs):
        kept["diffusion"] = load_diffusion(*args, **kwargs)
        return kept["diffusion"]

    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "load_diffusion", keeping)
        adapter = train(folder / "whole", request.param)
    return request.param, folder, adapter, kept["diffusion"]


def test_every_trainable_tensor_changed_and_no_other(trained):
    part, _, adapter, diffusion = trained
    fresh = load_diffusion(load_model("emoji"), device="cpu")
    attach_lora(fresh.pipe, Lora(part=part, rank=2), seed=1)
    start, end = lora_state(fresh.pipe, Lora(part=part, rank=2)), load_file(adapter / LORA)
    assert start.keys() == end.keys() and start
    assert [k for k in start if torch.equal(start[k], end[k])] == []
    for name in ("unet", "text_encoder", "vae"):
        before, after = (
            getattr(fresh.pipe, name).state_dict(),
            getattr(diffusion.pipe, name).state_dict(),
        )
        assert before.keys() == after.keys()
        assert [
            k for k in before if "lora_" not in k and not torch.equal(before[k], after[k])
        ] == []


def test_a_cut_run_ends_in_the_same_weights(trained):
    part, folder, adapter, _ = trained

    def cut(step, row):
        if step == 3:
            raise Cut

    with pytest.raises(Cut):
        train(folder / "cut", part, "steps=4", progress=cut)
    assert not (folder / "cut" / "adapter").exists()
    resumed, whole = (
        train(folder / "cut", part, "steps=4"),
        train(folder / "whole4", part, "steps=4"),
    )
    assert not (folder / "whole4" / "adapters").exists()
    a, b = load_file(resumed / LORA), load_file(whole / LORA)
    assert all(torch.equal(a[k], b[k]) for k in b)
    logs = [(folder / run / "log.jsonl").read_text().splitlines() for run in ("cut", "whole4")]
    rows = [[{**json.loads(line), "seconds": None} for line in log] for log in logs]
    assert rows[0] == rows[1] and len(rows[0]) == 4
    assert list((folder / "cut").rglob("events.out.tfevents*"))


def test_plain_diffusers_draws_what_training_drew(trained, tmp_path):
    """A fresh process that never imports evenhand draws the same image."""
    part, _, adapter, diffusion = trained
    expected = diffusion.sample(["an emoji of a pilot"], [5], num_inference_steps=4)
    model = load_model("emoji")
    code = f"""
import sys, torch
from diffusers import StableDiffusionPipeline
from evenhand_paths import MODEL
pipe = StableDiffusionPipeline.from_pretrained(MODEL)
pipe.load_lora_weights({str(adapter)!r})
assert not [m for m in sys.modules if m.split(".")[0] == "evenhand"]
generator = [torch.Generator().manual_seed(5)]
image = pipe("an emoji of a pilot", generator=generator, num_inference_steps=4,
             guidance_scale={model.settings.guidance_scale}, output_type="pt").images
torch.save(image, {str(tmp_path / "image.pt")!r})
"""
    from evenhand.core.resources import locate

    (tmp_path / "evenhand_paths.py").write_text(f"MODEL = {locate(model.path)!r}\n")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    image = torch.load(tmp_path / "image.pt", weights_only=True)
    assert (image - expected).abs().max() < 2 / 255
    base = load_diffusion(model, device="cpu").sample(
        ["an emoji of a pilot"], [5], num_inference_steps=4
    )
    assert (base - expected).abs().max() > 2 / 255


def test_the_adapter_says_how_it_was_made(trained):
    described = json.loads((trained[2] / "adapter.json").read_text())
    assert (
        described["recipe"] == "test"
        and described["settings"]["target"]["shares"]["gender"]["woman"] == 0.45
    )
    assert described["classifier"]["name"] == "emoji-trainer" and len(described["digest"]) == 12


def test_adapters_on_the_way(tmp_path):
    adapter = train(tmp_path, "text_encoder", "steps=2", "save_every=1", "optimisation.ema=0.9")
    first, second, last = (
        load_file(find_adapter(folder).weights)
        for folder in (tmp_path / "adapters" / "step-1", tmp_path / "adapters" / "step-2", adapter)
    )
    assert all(torch.equal(second[k], last[k]) for k in last) and any(
        not torch.equal(first[k], last[k]) for k in last
    )


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.filterwarnings("ignore:.*showed nothing to judge")
def test_a_diverged_training_writes_no_adapter_and_names_the_cause(tmp_path, steps):
    for _ in range(2):  # also when it is repeated, from its checkpoint
        with pytest.raises(UserError, match="nothing is written; lower optimisation.learning_rate"):
            train(
                tmp_path / "run",
                "text_encoder",
                f"steps={steps}",
                "images=2",
                "explicit_images=0",
                "preservation.seeds=2",
                "optimisation.learning_rate=1e30",
            )
    assert not (tmp_path / "run" / "adapter").exists()


def test_dtype_auto_trains_in_what_this_device_computes_best(tmp_path):
    small = ["steps=1", "images=2", "explicit_images=0", "preservation.seeds=2", "dtype=auto"]
    adapter = train(tmp_path / "run", "text_encoder", *small)
    settings = json.loads((adapter / "adapter.json").read_text())["settings"]
    assert settings["dtype"] == best_dtype(default_device())


def test_a_checkpoint_of_another_recipe_is_refused(trained):
    with pytest.raises(UserError, match=r"optimisation.learning_rate was 0\.\d+, is 0\.001"):
        train(trained[1] / "whole", trained[0], "optimisation.learning_rate=1e-3")


def test_how_the_work_is_cut_up_may_change_and_the_prompts_may_not(tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("an emoji of a judge\n")
    train(tmp_path / "run", "text_encoder", "steps=1", f"prompts={prompts}", "explicit_images=0")
    train(
        tmp_path / "run",
        "text_encoder",
        "steps=1",
        f"prompts={prompts}",
        "explicit_images=0",
        "gradient.batch=2",
    )
    prompts.write_text("an emoji of a chef\n")
    with pytest.raises(UserError, match=r"texts\..*mine\.txt was "):
        train(
            tmp_path / "run", "text_encoder", "steps=1", f"prompts={prompts}", "explicit_images=0"
        )


def test_a_damaged_checkpoint_and_one_of_another_classifier_are_named(trained):
    part, folder, *_ = trained
    train(folder / "damaged", part, "steps=2")
    path = folder / "damaged" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "classifier": "emoji-trainer@before"}, path)
    with pytest.raises(
        UserError, match="trained with emoji-trainer@before, which is emoji-trainer@"
    ):
        train(folder / "damaged", part, "steps=2")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: cannot be read"):
        train(folder / "damaged", part, "steps=2")


def test_attaching_leaves_the_global_generator_alone(emoji):
    state = torch.get_rng_state()
    fresh = load_diffusion(load_model("emoji"), device="cpu")
    attach_lora(fresh.pipe, Lora(), seed=3)
    assert torch.equal(state, torch.get_rng_state())


def test_the_wished_classes_become_more_probable(tmp_path):
    """A dozen steps towards women only must draw more women where men were drawn."""
    recipe = load_recipe(
        "dft/emoji-gender",
        [
            "steps=20",
            "images=8",
            "prompts_per_step=1",
            "explicit_images=0",
            "num_inference_steps=[6]",
            "gradient.calls=3",
            "optimisation.warmup=0",
            "lora.part=denoiser",
            "optimisation.learning_rate=1e-2",
            "target.shares.gender={woman: 1.0}",
            "preservation.seeds=8",
        ],
    )
    adapter = finetune(recipe, tmp_path / "run")
    from evenhand.judges.registry import load_judge
    from evenhand.recipes.judge import find_judge

    judge, prompts, seeds = (
        load_judge(find_judge("emoji-judge")),
        ["an emoji of a farmer"] * 12,
        list(range(12)),
    )
    before, after = (
        load_diffusion(load_model("emoji"), adapter=a, device="cpu").sample(
            prompts, seeds, num_inference_steps=8
        )
        for a in (None, find_adapter(adapter))
    )
    women = [float(judge(images).probs["gender"][:, 0].mean()) for images in (before, after)]
    assert women[1] > women[0] + 0.3


def test_a_step_with_realism_and_pixels_and_a_dry_run_that_counts_it(tmp_path):
    """The bank's embeddings have the classifier's width.

    The cost runs two steps and counts what they hold.
    """
    from safetensors.torch import save_file

    from evenhand.adapt.cost import cost
    from evenhand.judges.registry import load_judge
    from evenhand.recipes.judge import find_judge

    width = load_judge(find_judge("emoji-trainer")).features(torch.rand(1, 3, 64, 64)).shape[1]
    save_file({"embeddings": torch.randn(5, width)}, tmp_path / "bank.safetensors")
    more = [
        "steps=2",
        "realism.weight=0.5",
        "realism.network=classifier",
        f"realism.bank={tmp_path / 'bank.safetensors'}",
        "preservation.features=[{kind: pixels, weight: 2.0}]",
    ]
    recipe = load_recipe("dft/emoji-gender", [*QUICK, "lora.rank=2", *more])
    rows = []
    finetune(recipe, tmp_path / "run", progress=lambda step, row: rows.append(row))
    assert all(row["realism"] > 0 and row["gradient_norm"] > 0 for row in rows)
    cost = cost(recipe.model_copy(update={"runs": 2}))  # the parameters are those of one
    saved = sum(x.numel() for x in load_file(tmp_path / "run" / "adapter" / LORA).values())
    assert (
        (cost.parameters, cost.step)
        == (saved, "a step: 8 images, 4 denoiser calls without and 2 with gradients")
        and cost.seconds > 0
        and cost.memory > 0
    )


@pytest.mark.filterwarnings("ignore:.*float32 on this device")  # where it is emulated
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_trains_float32_parameters(dtype, tmp_path):
    rows = []
    small = ["steps=1", "images=4", "explicit_images=0", "num_inference_steps=[3]"]
    small += ["gradient.calls=1", "preservation.seeds=4", f"dtype={dtype}"]
    adapter = finetune(
        load_recipe("dft/emoji-gender", [*QUICK, *small]),
        tmp_path / "run",
        progress=lambda step, row: rows.append(row),
    )
    state = load_file(adapter / LORA)
    assert {x.dtype for x in state.values()} == {torch.float32}
    assert any(x.abs().max() > 0 for k, x in state.items() if "lora_B" in k)
    assert all(row["gradient_norm"] > 0 for row in rows)


class Boxed:
    """The training classifier, which says where in the image it looked."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, images):
        found = self.inner(images)
        return dataclasses.replace(
            found, boxes=torch.tensor([[16.0, 8.0, 48.0, 40.0]]).expand(len(images), 4)
        )


def test_the_face_factor_weighs_the_preservation_gradient_inside_the_box(tmp_path, monkeypatch):
    load = stage.load_judge
    monkeypatch.setattr(stage, "load_judge", lambda *args, **kwargs: Boxed(load(*args, **kwargs)))
    states = {}
    for factor in (1.0, 0.0):
        recipe = load_recipe(
            "dft/emoji-gender",
            [
                *QUICK,
                "steps=2",
                "preservation.weight=50",
                "preservation.changed=1",
                f"preservation.changed_face={factor}",
                "preservation.features=[{kind: pixels}]",
            ],
        )
        states[factor] = load_file(finetune(recipe, tmp_path / str(factor)) / LORA)
    assert any(not torch.equal(states[0.0][k], x) for k, x in states[1.0].items())


def test_the_average_of_several_runs_draws_as_the_mean_of_their_weights_and_goes_on(
    tmp_path,
):
    def cut(step, row):
        if step == 4:
            raise Cut

    more = ["runs=2", "steps=2", "seed=5"]
    with pytest.raises(Cut):
        train(tmp_path / "both", "both", *more, progress=cut)
    seen = []
    adapter = train(tmp_path / "both", "both", *more, progress=lambda step, row: seen.append(step))
    assert seen == []  # both runs were finished; the second had not written its adapter
    alone = [
        train(tmp_path / f"alone-{seed}", "both", "steps=2", f"seed={seed}") for seed in (5, 6)
    ]
    states = [load_file(a / LORA) for a in alone]
    average = load_file(adapter / LORA)
    for key in (k for k in average if ".lora_A." in k):
        changes = [s[key.replace("lora_A", "lora_B")] @ s[key] for s in (average, *states)]
        assert (
            torch.allclose(changes[0], (changes[1] + changes[2]) / 2, atol=1e-6)
            and average[key].shape[0] == 4
        )
    assert find_adapter(adapter).described["settings"]["runs"] == 2
    diffusion = load_diffusion(load_model("emoji"), device="cpu")
    for part, dense in (
        (diffusion.pipe.text_encoder, "text_encoder"),
        (diffusion.pipe.unet, "unet"),
    ):
        for name, module in part.named_modules():
            key = next(
                (k for k in average if k.startswith(dense) and k.endswith(f"{name}.lora_A.weight")),
                None,
            )
            if name and key:
                module.weight.data += average[key.replace("lora_A", "lora_B")] @ average[key]
    prompts, seeds = ["an emoji of a farmer"] * 2, [0, 1]
    adapted = load_diffusion(load_model("emoji"), adapter=find_adapter(adapter), device="cpu")
    found, wanted = (d.sample(prompts, seeds, num_inference_steps=4) for d in (adapted, diffusion))
    assert (found - wanted).abs().max() < 2 / 255
    with pytest.raises(UserError, match="runs: soft tokens of different runs"):
        load_recipe("dft/emoji-gender-tokens", ["runs=2"])
