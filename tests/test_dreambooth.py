"""Adapters of subgroups: groups, clusters, tokens, the three ways, the set, and who draws what."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import FAMILIES
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from evenhand.adapt import train
from evenhand.adapt.dreambooth.clusters import find_parts
from evenhand.adapt.dreambooth.groups import find_groups
from evenhand.adapt.dreambooth.words import check_learned, check_token
from evenhand.cli import app
from evenhand.core.adapter_sets import find_set, weights
from evenhand.core.adapters import LORA, SOFT_TOKENS
from evenhand.core.errors import UserError
from evenhand.core.resources import locate
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.emoji.world import Scene, draw, load_world
from evenhand.generate import plan
from evenhand.generate.quotas import next_round
from evenhand.images.tensors import to_uint8
from evenhand.publish.hub import contents
from evenhand.publish.ready import refuse_unready
from evenhand.publish.sets import verify_set
from evenhand.recipes.generate import Generate
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model
from evenhand.training.checkpoints import step_generator

QUICK = ["steps=4", "batch=2", "at_once=2", "checkpoint_every=1", "num_inference_steps=4"]
TWO = "clusters={features: {kind: pixels}, less: occupation, k: 2, floor: 2}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A dark woman and a light man in two occupations and two styles, two drawings each."""
    folder, world = tmp_path_factory.mktemp("pictures"), load_world()
    cells = [
        (who, occupation, style)
        for who in (("woman", "dark"), ("man", "light"))
        for occupation in (3, 8)
        for style in ("plain", "negative")
        for _ in range(2)
    ]
    index = {a: world.classes[a].index for a in ("gender", "tone")}
    scene = Scene(
        torch.tensor([o for _, o, _ in cells]),
        torch.tensor([index["gender"](who[0]) for who, _, _ in cells]),
        torch.tensor([index["tone"](who[1]) for who, _, _ in cells]),
        [],
    )
    rows, pixels = [], to_uint8(draw(scene, generator=step_generator(1)))
    for i, (((gender, tone), occupation, style), image) in enumerate(
        zip(cells, pixels, strict=True)
    ):
        Image.fromarray(255 - image if style == "negative" else image).save(folder / f"{i}.png")
        title = list(world.occupations)[occupation]
        row = {"gender": gender, "tone": tone, "occupation": title, "style": style}
        rows.append(json.dumps({"file_name": f"{i}.png", **row}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def recipe(pictures, *more):
    given = [f"images.path={pictures}", TWO, *QUICK, *more]
    named = {x.partition("=")[0]: x for x in given}
    return load_training("dreambooth/emoji", list(named.values()))


@pytest.fixture(scope="module")
def clustered(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clustered") / "run"
    return folder, train(recipe(pictures), folder, name="mine")


@pytest.fixture(scope="module")
def shared(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "run"
    return folder, train(recipe(pictures, "per=shared"), folder, name="mine")


def stock():
    return diffusers.DiffusionPipeline.from_pretrained(locate(load_model("emoji").path))


def drawn(pipe, prompt):
    generator = torch.Generator().manual_seed(3)
    return pipe(
        prompt, generator=generator, num_inference_steps=4, guidance_scale=1.0, output_type="pt"
    ).images


def test_clusters_are_the_styles_and_a_page_shows_them(clustered, pictures, sound):
    folder, _ = clustered
    found = json.loads((folder / "clusters.json").read_text())
    rows = find_groups(recipe(pictures)).rows
    styles = {(x["group"], x["cluster"], rows[x["row"]]["style"]) for x in found["images"]}
    assert len(styles) == 4  # each cluster of each group holds one style
    page = (folder / "clusters.html").read_text()
    assert page.count("<img") == 16 and "man/light" in page and "woman-dark-1" in page
    sound(folder / "clusters.html")


def test_every_adapter_of_a_set_loads_in_plain_diffusers(clustered):
    _, adapter = clustered
    found = find_set(adapter)
    assert [(m.name, m.size, m.token) for m in found.members] == [
        (f"{name}-{i}", 4, "zqx") for name in ("man-light", "woman-dark") for i in (0, 1)
    ]
    images = [drawn(stock(), "a pilot")]
    for member in found.members:
        pipe = stock()
        pipe.load_lora_weights(str(adapter / member.name))
        images.append(drawn(pipe, "a pilot"))
    assert len({x.numpy().tobytes() for x in map(torch.as_tensor, images)}) == 5
    assert all((adapter / m.name / "references.json").is_file() for m in found.members)


def test_a_shared_adapter_and_its_tokens_load_in_plain_diffusers(shared):
    _, adapter = shared
    found = find_set(adapter)
    member = found.members[0]
    pipe = stock()
    before = pipe.text_encoder.get_input_embeddings().weight.clone()
    pipe.load_lora_weights(str(adapter / "shared"))
    pipe.load_textual_inversion(
        str(adapter / member.name), weight_name=SOFT_TOKENS, token=member.token
    )
    words = {"token": member.token, "gender": "man", "occupation": "pilot", "tone": "light"}
    text = found.described.caption.format(**words)
    theirs = torch.as_tensor(drawn(pipe, text))
    ours = load_diffusion(load_model("emoji"), adapter=member.mix, device="cpu")
    assert ours.prefix == ""  # the prompt holds the token
    assert (ours.sample([text], [3], num_inference_steps=4) - theirs).abs().max() < 2 / 255
    tokens = [load_file(adapter / m.name / SOFT_TOKENS)[m.token] for m in found.members]
    assert len({x.numpy().tobytes() for x in tokens}) == len(found.members) == 4
    assert all((x - before).abs().amax(-1).min() > 0 for x in tokens)  # none is a vocabulary's


def test_one_adapter_a_group_has_the_same_budget(pictures, clustered, shared, tmp_path):
    adapter = train(recipe(pictures, "per=group"), tmp_path / "run")
    members = find_set(adapter).members
    assert [(m.name, m.cluster, m.size) for m in members] == [
        ("man-light", None, 8),
        ("woman-dark", None, 8),
    ]
    for run in (tmp_path / "run", clustered[0], shared[0]):
        logs = [p.read_text().splitlines() for p in run.glob("parts/*/log.jsonl")]
        assert sum(map(len, logs)) == 4
    assert not (tmp_path / "run" / "clusters.html").exists()


@pytest.mark.parametrize("per", ["cluster", "shared"])
def test_a_cut_training_goes_on_to_the_same_weights(pictures, clustered, shared, tmp_path, per):
    class Cut(Exception):
        pass

    def cut(done, row):
        if done == 2:
            raise Cut

    wanted = {"cluster": clustered, "shared": shared}[per][1]
    with pytest.raises(Cut):
        train(recipe(pictures, f"per={per}"), tmp_path / "run", progress=cut)
    again = train(recipe(pictures, f"per={per}"), tmp_path / "run")
    files = sorted(wanted.rglob("*.safetensors"))
    assert len(files) == {"cluster": 4, "shared": 5}[per]
    for file in files:
        other = load_file(again / file.relative_to(wanted))
        assert all(torch.equal(value, other[key]) for key, value in load_file(file).items())


@pytest.mark.parametrize("family, per", [("sdxl", "shared"), ("flux", "cluster")])
def test_other_families_learn_and_load_what_was_learned(pictures, tmp_path, family, per):
    model = tmp_path / family
    FAMILIES[family]().save_pretrained(model)
    more = [f"per={per}", f"model={model}", "lora.modules=null", "images.caption='{token} nurse'"]
    run = train(recipe(pictures, *more), tmp_path / "run")
    images = []
    for member in find_set(run).members[:2]:
        diffusion = load_diffusion(load_model(str(model)), adapter=member.mix, device="cpu")
        images.append(diffusion.sample([f"{member.token} nurse"], [1], num_inference_steps=2))
    assert len(images) == 2 and not torch.equal(*images)


def test_two_processes_give_the_weights_of_one(pictures, tmp_path):
    more = ["per=shared", "steps=2", "at_once=1"]
    alone = train(recipe(pictures, *more), tmp_path / "alone")
    named = {x.partition("=")[0]: x for x in [TWO, *QUICK, *more]}
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [
            *[*launched, "-m", "evenhand", "train", "dreambooth/emoji", *named.values()],
            *[f"images.path={pictures}", "--out", str(tmp_path / "two")],
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for file in alone.rglob("*.safetensors"):
        other = load_file(tmp_path / "two" / "adapter" / file.relative_to(alone))
        assert all((x - other[key]).abs().max() < 1e-5 for key, x in load_file(file).items())


def test_another_runs_folder_and_other_images_are_refused(pictures, clustered, tmp_path):
    with pytest.raises(UserError, match="other settings: per was 'cluster', is 'group'"):
        train(recipe(pictures, "per=group"), clustered[0])
    run, copied = tmp_path / "run", tmp_path / "pictures"
    shutil.copytree(pictures, copied)
    train(recipe(copied, "per=group", "steps=2"), run)
    (copied / "0.png").write_bytes((copied / "5.png").read_bytes())
    with pytest.raises(UserError, match="other settings: pictures.images was"):
        train(recipe(copied, "per=group", "steps=2"), run)


def test_the_tensorboard_log_counts_the_steps_of_all_adapters(clustered):
    log = EventAccumulator(str(clustered[0] / "tensorboard")).Reload()
    assert [x.step for x in log.Scalars("loss")] == [0, 1, 2, 3]


def test_the_models_own_images_change_the_gradient(pictures, tmp_path):
    prior = "prior={prompts: [a portrait of a person], images: 2}"
    base = ["per=group", "groups=[]", "steps=1"]
    told = []
    a = train(
        recipe(pictures, *base, prior), tmp_path / "a", progress=lambda d, r: told.append((d, r))
    )
    b = train(recipe(pictures, *base), tmp_path / "b")
    assert [r["drawn"] for _, r in told if "drawn" in r] == [0, 2]
    assert told[-1][0] == 1 and told[-1][1]["prior"] > 0
    one, other = (load_file(x / "all" / LORA) for x in (a, b))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_groups_by_classes_leave_others_out_and_captions_say_the_classes_names(pictures):
    found = recipe(
        pictures,
        "groups={who: {column: gender, classes: {lady: [woman]}}}",
        "images.caption='{token} {who} {occupation}'",
    )
    with pytest.warns(UserWarning, match="8 of 16 images are of no class of who"):
        groups = find_groups(found)
    assert groups.groups == [{"who": "lady"}] and groups.slots() == {"who": ["lady"] * 8}
    with pytest.raises(UserError, match="no image is of a class.*man, woman"):
        find_groups(recipe(pictures, "groups={who: {column: gender, classes: {x: [female]}}}"))


def test_a_column_may_say_the_clusters(pictures, tmp_path):
    found = recipe(pictures, "clusters={column: style}")
    parts = find_parts(found, find_groups(found), tmp_path)
    assert [len(p.rows) for p in parts] == [4] * 4
    assert "typical" in (tmp_path / "clusters.html").read_text()


def test_a_column_that_says_other_clusters_now_is_another_run(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "mine")
    found = recipe(tmp_path / "mine", "clusters={column: style}", "per=shared", "steps=1")
    train(found, tmp_path / "run")
    file = tmp_path / "mine" / "metadata.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    rows[0] = rows[0].replace("plain", "negative")
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError, match="other settings: pictures.clusters was"):
        train(found, tmp_path / "run")


def test_labels_that_begin_with_a_sign_give_names_that_a_set_takes(pictures, tmp_path):
    folder = tmp_path / "signs"
    folder.mkdir()
    rows = []
    for i, label in enumerate(["-1", "1", "<20", "x\u00b2", "\u00b2"]):
        shutil.copy(pictures / f"{i}.png", folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "age": label}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    more = ["groups=[age]", "per=group", "images.caption='{token} {age}'", "steps=5"]
    found = find_set(train(recipe(folder, *more), tmp_path / "run"))
    assert [m.name for m in found.members] == ["1", "1-x", "20", "x-", "all"]


@pytest.mark.parametrize("features", ["classifier", "pixels"])
def test_every_kind_of_features_and_silhouette(pictures, tmp_path, features):
    how = f"clusters={{features: {{kind: {features}}}, less: occupation, k_max: 3, floor: 1}}"
    found = recipe(pictures, how)
    find_parts(found, find_groups(found), tmp_path)
    tried = json.loads((tmp_path / "clusters.json").read_text())["tried"]
    assert [x["k"] for x in tried[0]] == [1, 2, 3] and tried[0][1]["silhouette"] > 0.1
    assert "<svg" in (tmp_path / "clusters.html").read_text()


def test_a_clip_can_tell_the_clusters(pictures, tiny_clip, tmp_path):
    how = f"clusters={{features: {{kind: clip, model: '{tiny_clip}'}}, k: 2, floor: 1}}"
    found = recipe(pictures, how)
    assert len(find_parts(found, find_groups(found), tmp_path)) == 4


def test_groups_smaller_than_the_floor_are_one_cluster_and_said(pictures, tmp_path):
    found = recipe(pictures, "clusters={features: {kind: pixels}, k: 2, floor: 10}")
    with pytest.warns(UserWarning, match=r"8 images, fewer than clusters.floor \(10\)"):
        parts = find_parts(found, find_groups(found), tmp_path)
    assert [(p.name, len(p.rows)) for p in parts] == [("man-light-0", 8), ("woman-dark-0", 8)]


def test_two_clusters_of_the_same_images_are_refused(pictures, tmp_path):
    folder = tmp_path / "twins"
    folder.mkdir()
    rows = []
    for i, style in enumerate(("a", "b")):
        shutil.copy(pictures / "0.png", folder / f"{i}.png")
        row = {"gender": "woman", "tone": "dark", "occupation": "pilot", "style": style}
        rows.append(json.dumps({"file_name": f"{i}.png", **row}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = recipe(folder, "clusters={column: style}")
    with pytest.raises(UserError, match="woman-dark-0 and woman-dark-1 hold the same images"):
        find_parts(found, find_groups(found), tmp_path / "run")
    alike = recipe(folder, "clusters={features: {kind: pixels}, k: 2, floor: 1}")
    with pytest.raises(UserError, match="clusters.k is 2, and only 1 of 2 images look different"):
        find_parts(alike, find_groups(alike), tmp_path / "run")


def test_images_that_cannot_be_read_are_left_out(pictures, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(pictures, folder)
    (folder / "1.png").write_bytes(b"no image")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapter = train(recipe(folder), tmp_path / "run")
    assert any("1 of 16 images could not be read" in str(w.message) for w in said)
    assert sum(m.size for m in find_set(adapter).members) == 15
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = train(recipe(folder, "images.caption='{token}'"), tmp_path / "alone")
    assert len(find_set(alone).members) == 4


def test_what_tokenizers_make_of_a_token(emoji):
    check_token(emoji.pipe, "zqx")  # letters alone
    with pytest.raises(UserError, match="'woman' is a word that the tokenizer of"):
        check_token(emoji.pipe, "woman")
    with pytest.warns(UserWarning, match="'judgewoman' as .*woman; what .* means to the model"):
        check_token(emoji.pipe, "judgewoman")
    check_learned(emoji.pipe, ["<zqx-a>"])
    with pytest.raises(UserError, match="'woman</w>' already"):
        check_learned(emoji.pipe, ["woman</w>"])
    with pytest.raises(UserError, match="per: shared: soft tokens cannot be used with Flux"):
        check_learned(FAMILIES["flux"](), ["<zqx-a>"])
    check_token(FAMILIES["flux"](), "zqx")
    with pytest.raises(UserError, match="tokenizer"):
        check_token(FAMILIES["z_image"](), "nurse")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["token=null"], "no token is given"),
        (["images.caption=x"], "no slot {token}"),
        (["images.caption=x", "token=null", "per=shared"], "only {token} tells the clusters"),
        (["groups=[token]"], "is the caption's slot"),
        (["groups=[gender, gender]"], "stands twice"),
        (["clusters={column: style, k: 2}"], "column says the clusters"),
        (["clusters={features: {kind: pixels}, judge: emoji-judge}"], "take no judge"),
        (["clusters={features: {kind: pixels, weight: 2}}"], "features.weight"),
        (["groups=[colour]"], "no column 'colour'"),
        (["images.caption='{token} {title}'"], "no column 'title'"),
        (["clusters={features: {kind: pixels}, less: place, k: 1}"], "no column 'place'"),
        (["clusters={features: {kind: clip, model: ./nowhere}, k: 2}"], "cannot be loaded"),
        (["clusters.k=9"], "only 8 of 8 images look different"),
        (["steps=3"], "fewer than the 4 adapters"),
        (["token=woman"], "is a word that"),
        (["images.split=dev"], "has no split 'dev'"),
    ],
)
def test_what_goes_wrong_is_one_line(pictures, tmp_path, more, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(recipe(pictures, *more), tmp_path / "run")


def test_a_dry_run_says_costs_and_shows_the_clusters(pictures, tmp_path):
    result = CliRunner().invoke(
        app,
        [
            *["train", "dreambooth/emoji", f"images.path={pictures}", TWO, *QUICK, "--dry-run"],
            *["prior={prompts: [a person], images: 40}", "--out", str(tmp_path / "mine")],
        ],
    )
    assert result.exit_code == 0, result.output
    assert "a step: 2 images, and as many of the model's own (40 in all)" in result.output
    assert "man/light 0: 4, man/light 1: 4, woman/dark 0: 4" in result.output
    assert "to draw images of the model's own" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["mine-clusters.html"]


def sets(folder, **more):
    return Generate.model_validate(
        {
            "model": "emoji",
            "cells": {"gender": ["woman", "man"], "tone": ["dark", "light"]},
            "joint": {"woman/dark": 0.75, "man/light": 0.25},
            "images": 16,
            "prompt": "{token} : a portrait of a {gender} {title} with {tone} skin",
            "contexts": {"vocabulary": {"title": ["cook", "farmer"]}},
            "wording": {
                "gender": {"woman": "woman", "man": "man"},
                "tone": {"dark": "dark", "light": "light"},
            },
            "adapters": [{"name": str(folder), "alpha": 0.5}],
            **more,
        }
    )


def test_a_set_draws_each_group_by_its_own_members_in_their_shares(clustered, shared, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(clustered[1], folder)
    values = json.loads((folder / "set.json").read_text())
    for member, size in zip(values["members"], (1, 1, 9, 1), strict=True):
        member["size"] = size
    (folder / "set.json").write_text(json.dumps(values))
    planned = plan(sets(folder))
    assert find_set(folder).weights({"gender": "woman"}) == {
        "woman-dark-0": 0.75, "woman-dark-1": 0.25,
    }  # fmt: skip
    numbers = next_round(planned.streams, planned.names, planned.quotas, _tally(), 99)
    drawn = {i: numbers.count(i) for i in set(numbers)}
    who = {i: planned.drawers[s.adapter].settings["name"].rsplit("/")[-1]
           for i, s in enumerate(planned.streams)}  # fmt: skip
    assert {who[i]: n for i, n in drawn.items()} == {
        "man-light-0": 2, "man-light-1": 2, "woman-dark-0": 9, "woman-dark-1": 3,
    }  # fmt: skip
    for stream in planned.streams:
        assert stream.prompts[0].text.startswith("zqx: a portrait of a")
    texts = {s.prompts[0].text.split(":")[0] for s in plan(sets(shared[1])).streams}
    assert texts == {m.token for m in find_set(shared[1]).members}
    only = plan(sets(folder, adapters=[{"name": str(folder), "draws": {"gender": "woman"}}],
                     joint={"woman/dark": 1.0}))  # fmt: skip
    assert len(only.drawers) == 2


def _tally():
    from evenhand.generate.quotas import Tally

    return Tally()


def test_generate_draws_with_a_set(shared, tmp_path):
    from evenhand.generate import generate

    config = sets(
        shared[1], images=4, budget=4, settings={"num_inference_steps": 2}, batch=2,
        filter={"rejected": "keep"},
    )  # fmt: skip
    generate(config, tmp_path / "set")
    parts = [p.read_text().splitlines() for p in (tmp_path / "set" / "parts").glob("*")]
    rows = [json.loads(line)["record"] for lines in parts for line in lines]
    sources = {row["source"].count("@") for row in rows}
    assert len(rows) == 4 and sources == {3}  # the model, the shared adapter and a token


def test_prompts_need_a_place_for_the_token_and_groups_their_adapters(clustered):
    with pytest.raises(UserError, match="no slot {token}"):
        plan(sets(clustered[1], prompt="a {gender} {title} with {tone} skin"))
    with pytest.raises(UserError, match="none draws woman/light"):
        plan(sets(clustered[1], joint={"woman/light": 1.0}))
    with pytest.raises(UserError, match="unknown class 'person'"):
        plan(
            sets(
                clustered[1], adapters=[{"name": str(clustered[1]), "draws": {"gender": "person"}}]
            )
        )
    assert weights({"a": 9, "b": 1}, 0) == {"a": 0.5, "b": 0.5}


def test_a_set_is_verified_by_plain_diffusers_and_pushed_whole(shared, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    shutil.copytree(shared[1], folder)
    values = json.loads((folder / "set.json").read_text())
    values["members"] = values["members"][:2]  # those of one group: it takes seconds a member
    (folder / "set.json").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="it is not verified"):
        refuse_unready(folder)
    result = CliRunner().invoke(app, ["verify", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.output.count("2 of 2 reference images") == 2
    refuse_unready(folder)
    card = (folder / "README.md").read_text()
    assert "Verified on" in card and "load_lora_weights" in card and "<zqx-man-light-0>" in card
    kind, files = contents(folder)
    assert kind == "model" and {"set.json", "README.md"} <= files.keys()
    assert sum(name.endswith(".safetensors") for name in files) == 3
    (folder / "README.md").write_text(card.replace("2 adapters", "9 adapters"))
    with pytest.raises(UserError, match="its card .* was changed"):
        refuse_unready(folder)
    refused = CliRunner().invoke(app, ["verify", str(folder), "--seed", "3"])
    assert "whose files alone are verified" in str(refused.exception)


def test_a_set_whose_file_draws_otherwise_is_not_verified(clustered, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(clustered[1], folder)
    values = json.loads((folder / "set.json").read_text())
    values["members"] = values["members"][:1]
    (folder / "set.json").write_text(json.dumps(values))
    picture = folder / "man-light-0" / "references" / "0.png"
    picture.write_bytes((folder / "woman-dark-1" / "references" / "0.png").read_bytes())
    found = verify_set(folder, runs=tmp_path / "runs")
    assert not found.passed and "1 of 2 reference images" in " ".join(found.said["man-light-0"])
    with pytest.raises(UserError, match="its verification of .* failed"):
        refuse_unready(folder)
    assert "**Not verified: it failed**" in (folder / "README.md").read_text()


def test_a_verified_set_stays_so_when_its_training_runs_again(pictures, clustered, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(clustered[0], run)
    values = json.loads((run / "adapter" / "set.json").read_text())
    found = find_set(run / "adapter")
    values["verified"] = {"date": "x", "passed": True, "digests": found.digests, "said": {}}
    (run / "adapter" / "set.json").write_text(json.dumps(values))
    train(recipe(pictures), run, name="mine")
    assert find_set(run / "adapter").described.verified.date == "x"


def test_damaged_sets_are_one_line(clustered, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(clustered[1], folder)
    text = (folder / "set.json").read_text()
    for broken, message in (
        (text.replace('"per"', '"pre"'), "set.json: p"),
        (text.replace('"schema": 1', '"schema": 9'), "newer evenhand"),
        ("[]", "a set of adapters"),
        (text.replace('"man-light-0"', '"../x"'), "members"),
    ):
        (folder / "set.json").write_text(broken)
        with pytest.raises(UserError, match=re.escape(message)):
            find_set(folder)
    with pytest.raises(UserError, match="holds no set"):
        find_set(tmp_path)


def test_numbers_are_plain(clustered):
    """Everything in the files of a run is JSON of plain values, not of numpy."""
    values = json.loads((clustered[0] / "clusters.json").read_text())
    assert np.isfinite([x["cluster"] for x in values["images"]]).all()
