"""`evenhand classify`: data, arms and trainings of a toy network on drawings of known groups."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from evenhand import devices
from evenhand.classify import plain
from evenhand.classify.arms import plan, steps_of
from evenhand.classify.examples import Examples, Images
from evenhand.classify.experiment import prepare
from evenhand.classify.judge_network import new_network
from evenhand.classify.run import classify, run
from evenhand.classify.tables import cut, read_real
from evenhand.classify.train import score
from evenhand.cli import main
from evenhand.core.errors import UserError
from evenhand.emoji.world import Scene, draw, load_world
from evenhand.images.labelled import pixels_of
from evenhand.images.tensors import to_float, to_uint8
from evenhand.recipes.classify import Classify, load_classify
from evenhand.training.checkpoints import load_state
from evenhand.training.fit import Passes
from evenhand.training.gradients import mean_gradients

TARGET = {"column": "gender", "classes": {"woman": ["woman"], "man": ["man"]}}
TONES = {"darker": ["medium-dark", "dark"], "lighter": ["light", "medium-light"]}
PROTECTED = {"column": "tone", "classes": TONES}
PREVAILING = {"woman": "darker", "man": "lighter"}
NETWORK = {"model_type": "plain_convolutions", "widths": [4, 6], "strides": [2, 2], "pool": 2}
SIZES = {"train": 40, "validation": 8, "test": 10}  # of each group
SHORT = {"epochs": 1, "optimisation": {"learning_rate": 5e-3}}
FAST = {"epochs": 1, "optimisation": {"learning_rate": 3e-2}}
PARTS = ("real", "synthetic", "mixed", "tune_real", "tune_synthetic", "last_layer")
VARIANTS = {
    "erm": {},
    "dfr": {"refit": {"strengths": [0.1], "repeats": 1}},
    "ffr+group_dro": {"arm": "ffr", "objective": "group_dro"},
    "usb": {"arm": "usb"},
    "aim_fair": {"arm": "aim_fair", "mask": {"k": 0.7}},
    "frozen norms": {"arm": "aim_fair", "mask": {"k": 0.7, "batch_norm": "freeze"}},
    "two_stage": {"arm": "two_stage"},
    "jtt": {"objective": {"name": "jtt", "epochs": 1}},
    "lff": {"objective": "lff"},
}


def drawings(n, groups, seed, **rest):
    """Rows of n small drawings of each group, the groups in turn."""
    world, generator = load_world(), torch.Generator().manual_seed(seed)
    rows = []
    for gender, tone in groups:
        scene = Scene(
            torch.randint(20, (n,), generator=generator),
            torch.full((n,), world.classes["gender"].index(gender)),
            torch.full((n,), world.classes["tone"].index(tone)),
            [],
        )
        images = F.interpolate(draw(scene, generator=generator), (16, 16), mode="area")
        rows += [
            {"image": Image.fromarray(x), "gender": gender, "tone": tone, **rest}
            for x in to_uint8(images)
        ]
    return rows


def write(path, rows):
    import datasets

    others = {key: datasets.Value("string") for key in rows[0] if key != "image"}
    features = datasets.Features({"image": datasets.Image(), **others})
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    return path


def write_csv(path, columns, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


FOUR = [(g, t) for g in ("woman", "man") for t in ("dark", "light")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of real images in three splits, and one of synthetic ones."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        row
        for i, (split, n) in enumerate(SIZES.items())
        for row in drawings(n, FOUR, i, split=split)
    ]
    person = drawings(1, [("person", "dark"), ("woman", "medium")], 9, split="train")
    return (
        write(folder / "real.parquet", rows + person),
        write(folder / "synthetic.parquet", drawings(40, FOUR, 7)),
    )


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def recipe(data, **rest):
    return Classify.model_validate(
        {
            "target": TARGET,
            "protected": PROTECTED,
            "split": "split",
            "bias": {"ratio": 0.9, "images": 80, "prevailing": PREVAILING},
            "synthetic": {"path": str(data[1])},
            "config": NETWORK,
            "size": 16,
            "schedule": dict.fromkeys(PARTS, SHORT),
            "augment": {"shift": 1},
            "batch": 16,
            "dtype": "float32",
            "seeds": 2,
            **rest,
        }
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return classify(recipe(data, variants=VARIANTS), data[0], folder), folder


def weights(folder, variant, seed=0):
    return load_file(folder / variant / f"seed-{seed}" / "classifier" / "model.safetensors")


def test_every_variant_is_reported_by_group(trained):
    report, folder = trained
    assert list(report.variants) == list(VARIANTS) and report.reference == "erm"
    assert json.loads((folder / "report.json").read_text()) == report.as_json()
    assert list(report.counts["train"].values()) == [36, 4, 4, 36]
    assert report.left_out == {"train": 2, "validation": 0, "test": 0}
    assert any("2 images have no class of both" in note for note in report.notes)
    for one in report.variants.values():
        assert len(one.per_seed["worst_group"]) == 2 and one.deviation["accuracy"] is not None
        assert one.worst_group.value == pytest.approx(
            np.mean(one.per_seed["worst_group"]), abs=1e-6
        )
        assert one.worst_group.low <= one.worst_group.value <= one.worst_group.high
        groups = [one.group_accuracy[g].value for g in report.groups]
        assert one.balanced.value == pytest.approx(np.mean(groups), abs=1e-6)
        for name, row in one.confusion.items():
            assert sum(row.values()) == pytest.approx(1, abs=1e-5)
            assert row[name.split(", ")[0]] == pytest.approx(
                one.group_accuracy[name].value, abs=1e-6
            )
    assert set(report.differences) == set(VARIANTS) - {"erm"}


def test_images_that_moved_are_the_same_images(trained, data, tmp_path):
    report, folder = trained
    moved = [shutil.copy(path, tmp_path / path.name) for path in data]
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("*/seed-*/answers.npy")}
    again = classify(recipe(moved, variants=VARIANTS), moved[0], folder)
    assert again.variants == report.variants
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/seed-*/answers.npy")} == kept


def test_all_arms_get_as_many_synthetic_images(trained):
    report, _ = trained
    used = {name: one.images.synthetic for name, one in report.variants.items()}
    assert sum(used["erm"].values()) == 0
    assert sum(used["usb"].values()) == sum(used["ffr+group_dro"].values()) == 64
    assert set(used["ffr+group_dro"].values()) == {16}
    assert list(used["usb"].values()) == [0, 32, 32, 0]
    assert report.variants["usb"].images.shortcut.protected == 0.5
    assert "arm=ffr" in report.variants["usb"].images.shortcut.warning


def test_an_arm_of_synthetic_images_alone_has_no_real_one_and_the_same_proportions(data, tmp_path):
    variants = {"synthetic": {"arm": "synthetic"}, "erm": {}}
    report = classify(recipe(data, seeds=1, variants=variants), data[0], tmp_path / "run")
    counts = {name: list(one.images.real.values()) for name, one in report.variants.items()}
    assert counts == {"synthetic": [0, 0, 0, 0], "erm": [36, 4, 4, 36]}
    one = report.variants["synthetic"]
    groups = [one.group_accuracy[g].value for g in report.groups]
    weighted = np.average(groups, weights=[36, 4, 4, 36])
    assert one.adjusted_accuracy.value == pytest.approx(weighted, abs=1e-6)


def test_frozen_tensors_keep_every_bit_and_the_others_move(trained):
    """The stage before fine-tuning is the same training as `erm`, of the same seed."""
    report, folder = trained
    for variant in ("aim_fair", "frozen norms"):
        before, after = weights(folder, "erm"), weights(folder, variant)
        rows = json.loads((folder / variant / "seed-0" / "mask.json").read_text())["tensors"]
        assert {r["tensor"] for r in rows} == {
            n for n in before if "running" not in n and "num_batches" not in n
        }
        assert 0 < sum(r["trained"] for r in rows) < len(rows)
        for row in rows:
            same = torch.equal(before[row["tensor"]], after[row["tensor"]])
            assert same != row["trained"], row
        running = [n for n in before if "running" in n]
        assert all(torch.equal(before[n], after[n]) == (variant == "frozen norms") for n in running)
    assert report.variants["aim_fair"].mask_parameters[0] == pytest.approx(
        sum(r["parameters"] for r in rows if r["trained"]) / sum(r["parameters"] for r in rows),
        abs=1e-6,
    )


def test_a_refit_changes_the_last_layer_alone(trained):
    _, folder = trained
    before, after = weights(folder, "erm"), weights(folder, "dfr")
    assert {n for n in before if not torch.equal(before[n], after[n])} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_stages_that_arms_share_are_trained_once_and_the_last_layer_alone_in_two_stages(trained):
    _, folder = trained
    states = [load_state(p) for p in (folder / "stages").glob("*/checkpoint.pt")]
    # of a seed: erm; ffr 2; usb; aim_fair and the one with frozen norms; two stages; jtt; lff
    assert len(states) == 2 * (1 + 2 + 1 + 2 + 2 + 1 + 1)
    alone = [s["model"] for s in states if not any("body.0.weight" in n for n in s["model"])]
    assert any("body.network.classifier.weight" in model for model in alone)


def test_transformers_loads_every_classifier(trained, data):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    _, folder = trained
    place = folder / "ffr+group_dro" / "seed-1"
    model = AutoModelForImageClassification.from_pretrained(
        place / "classifier", trust_remote_code=True
    ).eval()
    processor = AutoImageProcessor.from_pretrained(place / "classifier")
    assert model.config.id2label == {0: "woman", 1: "man"}
    experiment = prepare(recipe(data), data[0])
    test = experiment.split(next(iter(experiment.arms.values())), "test")
    images = [test[i]["images"].numpy() for i in range(len(test))]
    with torch.no_grad():
        probs = model(**processor(images, return_tensors="pt")).logits.softmax(1)
    np.testing.assert_allclose(probs, np.load(place / "answers.npy"), atol=1e-5)
    card = (place / "classifier" / "README.md").read_text()
    assert "trust_remote_code=True" in card and "worst group" in card and "seed 1" in card
    described = json.loads((place / "classifier" / "classifier.json").read_text())
    worst = trained[0].variants["ffr+group_dro"].per_seed["worst_group"][1]
    assert described["numbers"]["worst_group"] == worst and described["seed"] == 1


def test_names_stand_in_the_card_as_they_are(data, tmp_path):
    target = {"column": "gender", "classes": {"<b>woman*": ["woman"], "a|man": ["man"]}}
    bias = {"ratio": 0.9, "images": 80}
    one = recipe(data, seeds=1, target=target, bias=bias, variants={"a_b*_c*": {}})
    classify(one, data[0], tmp_path / "run")
    card = (tmp_path / "run" / "a_b*_c*" / "seed-0" / "classifier" / "README.md").read_text()
    assert r"# &#60;b&#62;woman\* or a\|man" in card and r"(variant a\_b\*\_c\*: arm real" in card
    assert r"| a\|man, darker |" in card and "<b>" not in card


def test_the_page_holds_groups_variants_and_the_mask(trained):
    page = (trained[1] / "report.html").read_text()
    assert "mathdefault" not in page and "Mask of aim_fair" in page and page.count("<svg") == 3
    assert "classifier.weight" in page and "Against erm" in page and "equalized odds" in page


def test_a_finished_run_is_not_trained_again_and_more_variants_are_added(trained, data):
    _, folder = trained
    done = []
    more = {**VARIANTS, "subg": {"objective": "subg"}}
    report = classify(
        recipe(data, variants=more), data[0], folder, progress=lambda d, t, w: done.append(w)
    )
    assert {w.split(":")[0] for w in done if "loss" in w} == {"subg"}
    assert list(report.variants) == list(more)
    changed = {**VARIANTS, "erm": {"smoothing": 0.1}}
    with pytest.raises(UserError, match=r"erm/seed-0 holds a run of other settings: recipe.smooth"):
        classify(recipe(data, variants=changed), data[0], folder)


def test_a_cut_run_goes_on_to_the_same_answers(trained, data, tmp_path):
    class Cut(Exception):
        pass

    def cut_in_stage_two(done, total, words):
        if "tune_real" in words:
            raise Cut

    one = recipe(data, variants={"ffr+group_dro": VARIANTS["ffr+group_dro"]}, seeds=1)
    with pytest.raises(Cut):
        classify(one, data[0], tmp_path / "run", progress=cut_in_stage_two)
    classify(one, data[0], tmp_path / "run")
    one, whole = weights(tmp_path / "run", "ffr+group_dro"), weights(trained[1], "ffr+group_dro")
    assert all(torch.equal(one[name], whole[name]) for name in whole)


def test_an_experiment_goes_on_in_the_precision_that_it_began_with(data, tmp_path, monkeypatch):
    for factor, variants in ((0.5, {"erm": {}}), (1.2, {"erm": {}, "subg": {"objective": "subg"}})):
        monkeypatch.setattr(devices, "times_float32", lambda *_, factor=factor: factor)
        one = recipe(data, dtype="auto", seeds=1, variants=variants)
        classify(one, data[0], tmp_path / "run")
    for name in ("erm", "subg"):
        begun = json.loads((tmp_path / "run" / name / "seed-0" / "run.json").read_text())
        assert begun["settings"]["recipe"]["dtype"] == "bfloat16"


def test_an_epoch_is_chosen_by_the_validation_images(data, tmp_path):
    one = recipe(data, select="worst_group", seeds=1)
    classify(one, data[0], tmp_path)
    (state,) = (load_state(p) for p in tmp_path.rglob("checkpoint.pt"))
    assert 0 <= state["progress"]["score"] <= 1


def test_a_frozen_backbone_keeps_its_weights_and_its_statistics(data, tmp_path):
    """From a folder of transformers; the last layer is new and trained alone."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    config = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    model = AutoModelForImageClassification.from_config(
        AutoConfig.for_model("resnet", layer_type="basic", num_labels=5, **config)
    )
    model.save_pretrained(tmp_path / "backbone")
    one = recipe(data, seeds=1, config=NETWORK)
    plain.register()
    _, processor = new_network(one)
    processor.save_pretrained(tmp_path / "backbone")
    frozen = {"config": None, "path": str(tmp_path / "backbone"), "freeze": True}
    classify(recipe(data, seeds=1, variants={"frozen": frozen}), data[0], tmp_path / "run")
    before = load_file(tmp_path / "backbone" / "model.safetensors")
    after = weights(tmp_path / "run", "frozen")
    changed = {
        n for n in after if before[n].shape != after[n].shape or (before[n] != after[n]).any()
    }
    assert changed == {"classifier.1.weight", "classifier.1.bias"}
    assert AutoImageProcessor.from_pretrained(tmp_path / "backbone").size["height"] == 16


def test_scores_by_which_epochs_are_chosen_by_hand():
    labels, groups = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 2, 3, 3])
    examples = Examples([Images([], 16)], torch.arange(6), labels, groups)
    called = torch.tensor([0, 0, 1, 1, 1, 0])  # groups 1, 0, 1, .5; classes 2/3, 2/3

    def of(select):
        return score(called, examples, select)

    assert of("overall") == pytest.approx(4 / 6) and of("worst_group") == 0
    assert of("balanced") == pytest.approx(2.5 / 4) and of("worst_class") == pytest.approx(2 / 3)


def test_biased_parts_are_nested_and_do_not_depend_on_the_order(data, tmp_path):
    def kept(path, ratio, **rest):
        one = recipe(data, bias={"ratio": ratio, **rest})
        table = read_real(path, one)["train"]
        rows = cut(table, one.bias, one, "train")
        counts = np.bincount(table.groups[rows], minlength=4)
        return {table.digests[i] for i in rows}, counts.reshape(2, 2)

    how = {"images": 80, "prevailing": PREVAILING}
    (low, counts), (high, more) = kept(data[0], 0.75, **how), kept(data[0], 0.95, **how)
    assert counts.tolist() == [[30, 10], [10, 30]] and more.tolist() == [[38, 2], [2, 38]]
    _, whole = kept(data[0], 0.8, prevailing=PREVAILING)
    assert whole.tolist() == [[40, 10], [10, 40]]
    import datasets

    shuffled = datasets.load_dataset("parquet", data_files=str(data[0]))["train"].shuffle(seed=3)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    assert kept(tmp_path / "shuffled.parquet", 0.75, **how)[0] == low
    table = read_real(data[0], recipe(data))["train"]
    rare = {d for d, g in zip(table.digests, table.groups, strict=True) if g in (1, 2)}
    assert (high & rare) < (low & rare)


def test_equal_steps_give_every_arm_the_steps_of_the_real_images(data):
    schedule = {**dict.fromkeys(PARTS, SHORT), "real": {"epochs": 12}, "synthetic": {"epochs": 6}}
    variants = {"erm": {}, "ffr": {"arm": "ffr"}, "usb": {"arm": "usb"}}
    variants["subg"] = {"objective": "subg"}  # four images of each group: a batch an epoch
    free, equal = (
        prepare(recipe(data, schedule=schedule, variants=variants, equal_steps=e), data[0])
        for e in (False, True)
    )
    assert [steps_of(arm) for arm in free.arms.values()] == [60, 29, 9, 12]
    assert all(54 <= steps_of(arm) <= 66 for arm in equal.arms.values())


def test_the_steps_of_jtts_first_training_count_and_are_told(data, tmp_path):
    objective, told = {"name": "jtt", "epochs": 3}, []
    experiment = prepare(recipe(data, seeds=1, objective=objective), data[0])
    assert experiment.steps == 5 * (3 + 1)  # 80 images in batches of 16
    report = run(experiment, tmp_path / "run", progress=lambda *step: told.append(step))
    assert [done for done, total, _ in told] == [*range(1, 21), 20]
    assert {total for _, total, _ in told} == {20} and "first training" in told[0][2]
    assert report.variants["real+jtt"].steps == 20
    with_as_many = recipe(data, objective=objective, equal_steps=True)
    (arm,) = prepare(with_as_many, data[0]).arms.values()
    assert arm.epochs == {"real": 1}  # its first training is none of the schedule


def test_a_trial_takes_what_each_arm_takes(data, monkeypatch):
    """LfF has two networks and two stages two views, a last layer learns alone; sizes differ."""
    from evenhand.classify import cost as trial

    seen = []

    def forward(model, loss, batch, *rest):
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        seen.append((len(batch["images"]), batch["images"].shape[-1], parameters))
        return real(model, loss, batch, *rest)

    real = trial.forward
    monkeypatch.setattr(trial, "forward", forward)
    variants = {
        "erm": {}, "lff": {"objective": "lff"}, "two_stage": {"arm": "two_stage"},
        "larger": {"size": 32, "batch": 8}, "jtt": {"objective": "jtt"},
    }  # fmt: skip
    experiment = prepare(recipe(data, variants=variants), data[0])
    seconds, memory = trial.cost(experiment)
    assert seconds > 0 and memory > 0
    n, last = seen[0][2], 6 * 2 * 2 * 2 + 2
    kinds = [(16, 16, n), (16, 16, 2 * n), (32, 16, n), (16, 16, last), (8, 32, n), (16, 16, n)]
    assert seen == [kind for kind in kinds for _ in range(trial.TRIES)]


def test_the_arms_share_the_images_of_a_table(data, tmp_path):
    other = write(tmp_path / "other.parquet", drawings(40, FOUR, 8))
    sets = {
        str(i): {"arm": "usb", "synthetic": {"path": str(x)}}
        for i, x in enumerate((data[1], other))
    }
    experiment = prepare(recipe(data, variants={"erm": {}, **sets}), data[0])
    first = len(experiment.real["train"].groups)
    for arm in experiment.arms.values():
        examples, table = experiment.examples(arm, arm.stages[0].rows), experiment.synthetic_of(arm)
        for place, row in enumerate(arm.stages[0].rows):
            rows = experiment.real["train"].rows if row < first else table.rows
            pixels = pixels_of(rows[int(row if row < first else row - first)], 16)
            assert np.array_equal(examples[place]["images"], pixels)
    assert sum(len(images) for images in experiment._images.values()) == first + 2 * 160


def test_groups_of_a_mixture_know_their_source(data):
    experiment = prepare(recipe(data, arm="usb"), data[0])
    (arm,) = experiment.arms.values()
    mixed = experiment.examples(arm, arm.stages[0].rows)
    assert mixed.groups.bincount().tolist() == [36, 4, 4, 36, 32, 32]


def test_gradients_are_means_over_batches_and_change_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2), nn.BatchNorm1d(2))
    images = torch.randint(0, 255, (8, 4, 4, 3), dtype=torch.uint8)

    class Rows:
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return {"images": images[i], "labels": torch.tensor(i % 2)}

    def loss(outputs, batch):
        return F.cross_entropy(outputs, batch["labels"])

    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = mean_gradients(model, Rows(), loss, passes=Passes(batch=8))
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    model.train()
    loss(model(to_float(images)), {"labels": torch.arange(8) % 2}).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found.mean[name], p.grad)
        squares = float(p.grad.square().mean())  # of a bias before a norm: rounding alone
        assert found.square[name] == pytest.approx(squares, rel=1e-4, abs=1e-12)


def test_a_table_of_files_and_columns_of_ones_own(data, tmp_path):
    """CelebA's kind of table: names of files, 1 and -1, the split as a number."""
    import datasets

    rows = datasets.load_dataset("parquet", data_files=str(data[0]))["train"]
    lines = []
    for i, row in enumerate(rows):
        row["image"].save(tmp_path / f"{i}.png")
        part = ["train", "validation", "test"].index(row["split"])
        male, dark = (1 if x else -1 for x in (row["gender"] == "man", row["tone"] == "dark"))
        lines.append([f"{i}.png", male, dark, part])
    write_csv(tmp_path / "people.csv", ["file", "Male", "Dark", "partition"], lines)
    mapped = recipe(
        data,
        image="file",
        split="partition",
        splits={"train": [0], "validation": [1], "test": [2]},
        target={"column": "Male", "classes": {"woman": [-1], "man": [1]}},
        protected={"column": "Dark", "classes": {"darker": [1], "lighter": [-1]}},
        synthetic={"path": str(data[1]), "target": TARGET, "protected": PROTECTED, "images": 16},
        bias=None,
        arm="asb",
    )
    experiment = prepare(mapped, tmp_path / "people.csv")
    assert experiment.real["test"].counts((2, 2)).tolist() == [[10, 10], [10, 10]]
    (arm,) = experiment.arms.values()
    assert arm.stages[0].part == "mixed"


def only(rows, **what):
    return [r for r in rows if any(r[k] != v for k, v in what.items())]


@pytest.fixture(scope="module")
def rows():
    return [row for i, (s, n) in enumerate(SIZES.items()) for row in drawings(n, FOUR, i, split=s)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_group_without_an_image_is_named(data, rows, tmp_path, split):
    lacking = write(tmp_path / "x.parquet", only(rows, gender="man", tone="light", split=split))
    with pytest.raises(UserError, match=f"{split}: no image of the group 'man, lighter'. Every"):
        prepare(recipe(data, bias=None), lacking)


def test_wrong_data_is_refused_by_name(data, rows, tmp_path):
    again = [*rows, {**rows[0], "split": "test"}]
    with pytest.raises(UserError, match="1 image of test stands in train as well"):
        prepare(recipe(data), write(tmp_path / "twice.parquet", again))
    known = write(tmp_path / "known.parquet", [{**r, "split": "x"} for r in rows[:150]])
    with pytest.raises(UserError, match="150 images of synthetic stand in train as well"):
        prepare(recipe(data, synthetic={"path": str(known)}), data[0])
    with pytest.raises(UserError, match="no column 'sex' of labels; its columns are image, gender"):
        prepare(recipe(data, target={**TARGET, "column": "sex"}), data[0])
    with pytest.raises(UserError, match="has no split validation; it has test, train"):
        prepare(recipe(data), write(tmp_path / "two.parquet", only(rows, split="validation")))
    gone = write_csv(
        tmp_path / "gone.csv",
        ["image", "gender", "tone", "split"],
        [
            [f"{i}.png", g, t, s]
            for i, (s, (g, t)) in enumerate((s, x) for s in SIZES for x in FOUR)
        ],
    )
    with pytest.raises(UserError, match="4 images cannot be read, such as .*0.png; leave them"):
        prepare(recipe(data, bias=None), gone)
    with pytest.raises(UserError, match="takes 475; lower bias.images"):
        prepare(recipe(data, bias={"ratio": 0.95, "images": 1000}), data[0])


def test_wrong_synthetic_images_are_refused_by_name(data, tmp_path):
    women = write(tmp_path / "women.parquet", drawings(40, FOUR[:2], 7))
    with pytest.raises(UserError, match="synthetic images .*: no image has class 'man'"):
        prepare(recipe(data, synthetic={"path": str(women)}), data[0])
    other = {"column": "gender", "classes": {"female": ["woman"], "male": ["man"]}}
    with pytest.raises(UserError, match="synthetic.target: has the classes female, male"):
        prepare(recipe(data, synthetic={"path": str(data[1]), "target": other}), data[0])
    few = write(tmp_path / "few.parquet", drawings(10, FOUR, 7))
    with pytest.raises(UserError, match="arm ffr needs more images: 'woman, darker' has 10 and ne"):
        prepare(recipe(data, arm="ffr", synthetic={"path": str(few)}), data[0])
    with pytest.raises(UserError, match="synthetic.images=N"):
        prepare(recipe(data, arm="ffr", bias=None), data[0])
    with pytest.raises(UserError, match="^arm ffr needs synthetic images: synthetic.path=FILE"):
        prepare(recipe(data, arm="ffr", synthetic=None), data[0])


def test_a_first_training_without_errors_is_no_jtt(data, rows, tmp_path):
    """Black and white images: one epoch learns them by heart."""
    easy = [
        {**r, "image": Image.new("RGB", (16, 16), (v := 250 * (r["gender"] == "man"), v, i))}
        for i, r in enumerate(rows)
    ]
    one = recipe(
        data,
        bias=None,
        objective={"name": "jtt", "epochs": 8},
        schedule={**dict.fromkeys(PARTS, SHORT), "real": FAST},
        augment={"flip": False},
        seeds=1,
        variants={"jtt": {}},
    )
    with pytest.raises(UserError, match="objective jtt: its first training gets all .* right"):
        classify(one, write(tmp_path / "easy.parquet", easy), tmp_path / "run")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"protected": TARGET}, "target and protected are both column 'gender'"),
        ({"target": {"column": "gender", "classes": {"woman": ["woman"]}}}, "target has the class"),
        ({"bias": {"ratio": 0.9, "prevailing": {"woman": "darker"}}}, "bias.prevailing: names"),
        ({"bias": {"ratio": 0.4}}, "bias.ratio"),
        ({"splits": {"train": ["train"]}}, "splits: says no value for test, validation"),
        ({"objective": "dro"}, "objective.name"),
        (
            {"arm": "aim_fair", "config": None, "path": "x", "freeze": True},
            "freeze leaves the last",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(data, changes, words):
    with pytest.raises(ValueError, match=words):
        recipe(data, **changes)


def test_variants_share_the_test_images_and_an_arm_asked_for_stands_alone(data):
    other = recipe(data, variants={"a": {}, "b": {"seed": 3}})
    with pytest.raises(UserError, match="variants.b: seed is another"):
        prepare(other, data[0])
    with pytest.raises(UserError, match="variants.b: arm usb needs synthetic images"):
        prepare(recipe(data, variants={"b": {"arm": "usb", "synthetic": None}}), data[0])
    assert len(load_classify("emoji").variants) > 20
    alone = load_classify("emoji", ["arm=ffr", "objective=resampling", "synthetic.path=x"])
    assert list(alone.each()) == ["ffr+resampling"]
    tuned = load_classify("emoji", ["objective.step_size=.05", "refit.repeats=5"]).each()
    assert len(tuned) > 20 and tuned["group_dro"].objective.step_size == 0.05
    assert tuned["erm+dfr"].refit.repeats == 5 and tuned["erm"].refit is None
    assert load_classify("emoji", ["objective.name=subg"]).variants == {}
    with pytest.raises(UserError, match="no name for a folder"):
        load_classify("emoji", ["variants={a/b: {}}"])


def test_a_mask_that_selects_nothing_is_said(data, tmp_path):
    one = recipe(data, seeds=1, variants={"m": {"arm": "aim_fair", "mask": {"k": 1}}})
    with pytest.raises(UserError, match="mask.k: no tensor is among the 1 of the least domain"):
        classify(one, data[0], tmp_path / "run")


def test_the_command_shows_groups_shortcuts_and_cost_before_it_trains(
    data, tmp_path, capsys, monkeypatch
):
    words = ["emoji", data[0], f"synthetic.path={data[1]}", "bias.images=80", "bias.ratio=.9"]
    words += ["size=16", "batch=16", "--out", tmp_path / "run", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["evenhand", "classify", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr().out
    assert not stop.value.code and not (tmp_path / "run").exists()
    assert "woman, lighter" in out and "usb: the protected attribute and whether an image" in out
    assert "asb: the protected" not in out and "37 variants, 5 seeds" in out and "minutes" in out
    monkeypatch.setattr(sys, "argv", ["evenhand", "classify", "emojo", str(data[0])])
    with pytest.raises(SystemExit):
        main()
    assert "unknown recipe 'emojo'; did you mean 'emoji'?" in capsys.readouterr().err


def test_plans_name_their_stages(data):
    real = read_real(data[0], recipe(data))
    synthetic = prepare(recipe(data), data[0]).synthetic[str(data[1])]
    stages = {
        arm: [s.part for s in plan(recipe(data, arm=arm), real["train"], synthetic).stages]
        for arm in ("real", "synthetic", "usb", "asb", "ffr", "aim_fair", "two_stage")
    }
    assert stages == {
        "real": ["real"],
        "synthetic": ["synthetic"],
        "usb": ["mixed"],
        "asb": ["mixed"],
        "ffr": ["synthetic", "tune_real"],
        "aim_fair": ["real", "tune_synthetic"],
        "two_stage": ["synthetic", "last_layer"],
    }
    all_of_it = plan(recipe(data, arm="two_stage", tune="all"), real["train"], synthetic)
    assert [(s.part, s.trained, s.contrast) for s in all_of_it.stages] == [
        ("synthetic", "all", True),
        ("tune_real", "all", False),
    ]
