"""How fast an epoch of `evenhand classify` is, against a plain PyTorch loop.

    python eval/bench/classify.py

The same images (900 emoji drawings, decoded before), network, batch, augmentation and optimizer;
three epochs of each in turn, one thread. Prints images a second of both and the ratio, median of
rounds, and writes eval/results/bench-classify.json. The plain loop indexes one tensor of all images
and knows no groups, no checkpoints, no seeds of its own.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import torch
from torch.nn import functional as F

from evenhand.classify.arms import ERM, Stage
from evenhand.classify.experiment import prepare
from evenhand.classify.judge_network import new_network
from evenhand.classify.losses import loss_of, passes_of
from evenhand.classify.network import Classifier
from evenhand.classify.objectives import first_state
from evenhand.classify.plain import register
from evenhand.core.files import write_json
from evenhand.core.resources import ROOT
from evenhand.images.augmentation import cropped
from evenhand.images.tensors import to_float
from evenhand.recipes.classify import Classify, load_classify
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.fit import fit
from evenhand.training.phases import Phase
from evenhand.training.run_directory import machine

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "emoji"))
from classify_sets import real  # noqa: E402

RATE, EPOCHS = 1e-3, 3


def ours(recipe: Classify, data, folder: pathlib.Path) -> float:
    """Seconds of some epochs by the toolkit's loop."""
    network, processor = new_network(recipe)
    model = Classifier(network, processor, 2, "the benchmark's network")
    model.state = first_state(ERM, data.groups)
    stage, how = Stage("real", data.rows.numpy(), ERM), Optimisation(learning_rate=RATE, clip=None)
    started = time.perf_counter()
    fit(
        model,
        data,
        loss_of(model, stage, recipe),
        phases=[Phase(how, EPOCHS)],
        passes=passes_of(recipe),
        folder=folder,
    )
    return time.perf_counter() - started


def theirs(recipe: Classify, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds of some epochs by a plain loop."""
    network = new_network(recipe)[0].train()
    optimizer, generator = torch.optim.AdamW(network.parameters(), lr=RATE), torch.Generator()
    how, started = recipe.augment, time.perf_counter()
    orders = [torch.randperm(len(images), generator=generator) for _ in range(EPOCHS)]
    for rows in (rows for order in orders for rows in order.split(recipe.batch)):
        batch = cropped(
            to_float(images[rows]),
            shift=how.shift,
            area=how.area,
            flip=how.flip,
            generator=generator,
        )
        logits = network(pixel_values=(batch - 0.5) / 0.5).logits
        loss = F.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=900)
    args = parser.parse_args()
    torch.set_num_threads(1)
    register()
    times: dict[str, list[float]] = {"evenhand": [], "plain": []}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        real(folder / "x.parquet", {"train": args.images // 4, "validation": 1, "test": 1}, 1)
        recipe = load_classify("emoji", ["arm=real", "bias=null"])
        experiment = prepare(recipe, folder / "x.parquet")
        (arm,) = experiment.arms.values()
        data = experiment.examples(arm, arm.real)
        images = torch.stack([data[i]["images"] for i in range(len(data))])
        for number in range(args.rounds + 1):
            pair = {
                "evenhand": ours(recipe, data, folder / str(number)),
                "plain": theirs(recipe, images, data.labels),
            }
            if number:  # the first warms up
                for name, seconds in pair.items():
                    times[name].append(seconds)
    speeds = {
        name: EPOCHS * len(images) / statistics.median(found) for name, found in times.items()
    }
    ratios = [b / a for a, b in zip(times["evenhand"], times["plain"], strict=True)]
    ratio = statistics.median(ratios)
    for name, speed in speeds.items():
        print(f"{name}: {speed:.0f} images a second")
    print(f"ratio {ratio:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f})")
    write_json(
        ROOT / "eval" / "results" / "bench-classify.json",
        {"images_a_second": speeds, "ratio": ratio, "ratios": ratios, **machine()},
    )


if __name__ == "__main__":
    main()
