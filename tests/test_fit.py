"""The loop that trains image classifiers: what it changes, repeats, selects and refuses."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import WeightedRandomSampler

from evenhand.core.errors import UserError
from evenhand.images.tensors import to_float
from evenhand.recipes.optimisation import Group, Optimisation
from evenhand.training.fit import Passes, fit
from evenhand.training.phases import Phase

FAST = Optimisation(learning_rate=0.02, schedule="constant", warmup=0)
PASSES = Passes(batch=4, seed=3)


class Squares:
    """Dark and bright images `[8, 8, 3]`, with noise, and which they are."""

    def __init__(self, n=18):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(n) % 2
        noise = torch.randint(0, 100, (n, 8, 8, 3), generator=generator)
        self.images = (noise + 100 * self.labels[:, None, None, None]).to(torch.uint8)
        self.seen = []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.seen.append(index)
        return {"images": self.images[index], "labels": self.labels[index]}


class Network(nn.Module):
    """With a batch norm and dropout, whose draws and statistics a training must keep in hand."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        )
        self.head = nn.Linear(36, 2)

    def forward(self, images):
        return self.head(self.body(images))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


def shifted(batch, generator):
    noise = 0.1 * torch.rand(batch["images"].shape, generator=generator)
    return {**batch, "images": batch["images"] + noise}


def loss_of(logits, batch):
    return F.cross_entropy(logits, batch["labels"])


def accuracy(data):
    def of(model):
        assert not model.training and not torch.is_grad_enabled()
        return (model(to_float(data.images)).argmax(1) == data.labels).double().mean()

    return of


def train(folder, model=None, data=None, passes=PASSES, loss=loss_of, **rest):
    """Trains a new network unless one is given; returns it and what fit returned."""
    model, data = model or network(), data or Squares()
    phases = rest.pop("phases", [Phase(FAST, 3)])
    return model, fit(model, data, loss, phases=phases, passes=passes, folder=folder, **rest)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


PARAMETERS = {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
STATISTICS = {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}
HEAD = {"head.weight", "head.bias"}


def test_it_learns_and_holds_the_weights_of_the_best_epoch(tmp_path):
    data = Squares()
    model, found = train(tmp_path, data=data, validate=accuracy(data), phases=[Phase(FAST, 8)])
    assert found.score >= 0.9 == pytest.approx(0.9)
    with torch.no_grad():
        assert accuracy(data)(model.eval()) == found.score
    assert found.score == max(row["score"] for row in found.history) and len(found.history) == 8
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_everything_trainable_changes(tmp_path):
    model = network()
    before = weights(model)
    train(tmp_path, model)
    assert changed(before, weights(model)) == PARAMETERS | STATISTICS | HEAD


@pytest.mark.parametrize("batch_norm, moved", [("update", HEAD | STATISTICS), ("freeze", HEAD)])
def test_what_is_not_trained_stays_to_the_last_bit(tmp_path, batch_norm, moved):
    """Weight decay included: the optimizer sees only what is trained."""
    model, decaying = network(), FAST.model_copy(update={"weight_decay": 0.5})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier training
    before = weights(model)
    train(tmp_path, model, phases=[Phase(decaying, 2, trained=HEAD, batch_norm=batch_norm)])
    assert changed(before, weights(model)) == moved
    assert all(p.requires_grad for p in model.parameters())


def test_parameters_that_require_no_gradient_are_not_trained(tmp_path):
    model = network()
    model.body.requires_grad_(False)
    before = weights(model)
    train(tmp_path, model, phases=[Phase(FAST, 1, batch_norm="freeze")])
    assert changed(before, weights(model)) == HEAD
    assert not any(p.requires_grad for p in model.body.parameters())


def test_phases_follow_each_other_with_their_own_selection_and_rates(tmp_path):
    model, named = network(), {}

    def gradients(step, found):
        named[step] = set(found)

    slow = FAST.model_copy(update={"groups": [Group(match="^head", learning_rate=1e-30)]})
    phases = [Phase(FAST, 1, trained=HEAD, batch_norm="freeze"), Phase(slow, 2)]
    _, found = train(tmp_path, model, phases=phases, gradients=gradients)
    assert [named[step] for step in (1, 5)] == [HEAD, HEAD]
    assert all(named[step] == PARAMETERS | HEAD for step in range(6, 16))
    assert [row["phase"] for row in found.history] == [0, 1, 1]
    alone, _ = train(tmp_path / "alone", phases=phases[:1])
    assert torch.equal(alone.head.weight, model.head.weight)  # not moved in the second phase
    assert not torch.equal(alone.body[0].weight, model.body[0].weight)


def test_the_hook_receives_the_gradient_of_the_loss_before_it_is_clipped(tmp_path):
    model, data = network(), Squares(4)
    model.body[3].p = 0.0
    model.train()
    loss_of(model(to_float(data.images)), {"labels": data.labels}).backward()
    expected, found = {n: p.grad.clone() for n, p in model.named_parameters()}, {}

    def gradients(step, of_step):
        found.update({n: g.clone() for n, g in of_step.items()})

    clipped = FAST.model_copy(update={"clip": 1e-3})
    train(tmp_path, model, data, phases=[Phase(clipped, 1)], gradients=gradients)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():  # the order of the batch's rows differs
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


class Cut(Exception):
    pass


@pytest.mark.parametrize("at", [3, 8, 12])  # within the first epoch, the first and second phase
def test_a_cut_training_ends_in_the_same_weights(tmp_path, at):
    def cut(step, total, words):
        if step == at:
            raise Cut

    averaged = FAST.model_copy(update={"ema": 0.9, "schedule": "cosine"})
    how = {
        "phases": [Phase(averaged, 2), Phase(FAST, 2, trained=HEAD)],
        "passes": dataclasses.replace(PASSES, augment=shifted),
    }
    whole, expected = train(tmp_path / "whole", validate=accuracy(Squares()), **how)
    with pytest.raises(Cut):
        train(tmp_path / "cut", validate=accuracy(Squares()), progress=cut, **how)
    resumed, found = train(tmp_path / "cut", validate=accuracy(Squares()), **how)
    assert changed(weights(whole), weights(resumed)) == set()
    assert found.history == expected.history


def test_an_average_of_the_weights_is_what_is_kept(tmp_path):
    averaged = FAST.model_copy(update={"ema": 0.9})
    plain, _ = train(tmp_path / "plain")
    model, _ = train(tmp_path / "averaged", phases=[Phase(averaged, 3)])
    start = network().head.weight
    assert not torch.equal(model.head.weight, plain.head.weight)
    assert (model.head.weight - start).norm() < (plain.head.weight - start).norm()


def scored(*scores):
    """A validation that gives these scores, one an epoch."""
    left = list(scores)
    return lambda model: left.pop(0)


def test_the_first_of_equal_epochs_is_kept(tmp_path):
    one, _ = train(tmp_path / "one", phases=[Phase(FAST, 2)])
    model, found = train(
        tmp_path / "four", phases=[Phase(FAST, 4)], validate=scored(0.1, 0.7, 0.7, 0.2)
    )
    assert changed(weights(one), weights(model)) == set() and found.score == 0.7


def test_patience_ends_a_training_which_does_not_go_on_when_repeated(tmp_path):
    phases = [Phase(FAST, 9, patience=2)]
    first, found = train(tmp_path, phases=phases, validate=scored(0.5, 0.6, 0.4, 0.6))
    assert len(found.history) == 4
    again, repeated = train(
        tmp_path, phases=phases, validate=scored(), progress=lambda *_: pytest.fail("trained on")
    )
    assert repeated.history == found.history and changed(weights(first), weights(again)) == set()


def test_a_damaged_checkpoint_and_one_of_another_network_are_named(tmp_path):
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match=r"checkpoint\.pt: is no checkpoint of this training"):
        train(tmp_path, phases=[Phase(FAST, 1, trained=HEAD)])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"checkpoint\.pt: cannot be read .*; delete it"):
        train(tmp_path)


def test_no_global_generator_is_touched_and_none_is_listened_to(tmp_path):
    passes, found = dataclasses.replace(PASSES, augment=shifted), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        model, _ = train(tmp_path / str(seed), passes=passes)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights(model))
    assert changed(*found) == set()
    model, _ = train(tmp_path / "other", passes=dataclasses.replace(passes, seed=4))
    assert changed(found[0], weights(model))


def test_every_epoch_has_an_order_of_its_own_and_a_single_last_image_joins_the_batch_before(
    tmp_path,
):
    data, sizes = Squares(17), []

    def watched(logits, batch):
        sizes.append(len(logits))
        return loss_of(logits, batch)

    train(tmp_path, data=data, loss=watched, phases=[Phase(FAST, 2)])
    assert sizes == [4, 4, 4, 5] * 2
    first, second = data.seen[:17], data.seen[17:]
    assert sorted(first) == sorted(second) == list(range(17)) and first != second


def test_a_sampler_of_torch_chooses_the_rows(tmp_path):
    data = Squares()
    passes = dataclasses.replace(
        PASSES,
        sampler=lambda g: WeightedRandomSampler((1.0 - data.labels).tolist(), 12, generator=g),
    )
    train(tmp_path, data=data, passes=passes, phases=[Phase(FAST, 2)])
    assert len(data.seen) == 24 and not any(data.labels[i] for i in data.seen)
    assert data.seen[:12] != data.seen[12:]


def test_a_batch_that_teaches_nothing_moves_nothing(tmp_path):
    model, decaying = network(), FAST.model_copy(update={"weight_decay": 0.5})
    before = weights(model)
    _, found = train(tmp_path, model, loss=lambda *_: None, phases=[Phase(decaying, 1)])
    assert changed(before, weights(model)) <= STATISTICS and found.history[0]["loss"] is None


def test_a_loss_that_is_not_finite_ends_training_in_one_line_that_names_the_cause(tmp_path):
    with pytest.raises(UserError, match="epoch 1: the loss is not finite.*lower optimisation.lear"):
        train(tmp_path, loss=lambda logits, batch: logits.sum() * math.nan)
    assert not (tmp_path / "checkpoint.pt").exists()
    huge = FAST.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match="not finite.*lower optimisation.learning_rate"):
        train(tmp_path, phases=[Phase(huge, 3)])


def test_several_processes_and_parameters_that_there_are_not_are_refused(tmp_path, monkeypatch):
    for names, message in (({"tail"}, "unknown parameter 'tail'"), ((), "names no parameter")):
        with pytest.raises(UserError, match=message):
            train(tmp_path, phases=[Phase(FAST, 1, trained=names)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="trained by one process"):
        train(tmp_path)
