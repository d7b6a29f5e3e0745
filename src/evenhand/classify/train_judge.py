"""Training an attribute classifier on labelled images.

One image classifier of transformers, by its Trainer.

The network has the classes of all attributes as labels ("gender: woman"); an attribute's
probabilities are the softmax over its own. What is written is a folder that transformers loads,
with `classifier.yaml`, by which the toolkit does.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    ViTImageProcessor,
)
from transformers.trainer_utils import get_last_checkpoint

from evenhand.core.errors import UserError, loading
from evenhand.core.files import write_text
from evenhand.images.augmentation import augmented, mixed
from evenhand.images.labelled import labelled, pixels_of, values
from evenhand.images.tensors import to_float
from evenhand.recipes.judge_training import JudgeTraining
from evenhand.training.run_directory import open_run

UNLABELLED = -100


def train_judge(
    recipe: JudgeTraining,
    data: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> pathlib.Path:
    """Trains a classifier and writes it.

    A run of the same recipe and data in the folder is continued.

    Args:
        recipe: what it learns and how.
        data: labelled images, as `evenhand.images.labelled` reads them.
        folder: run directory.
        progress: called with (steps done, steps in all, the last loss and validation accuracy in
            words).

    Returns:
        the classifier's folder, `folder/classifier`, to be named as a judge or for calibration.

    Raises:
        UserError: data without a split, a column or a class; another run's folder; a network that
            cannot be had.
    """
    folder = pathlib.Path(folder)
    splits = labelled(data, split=recipe.split, seed=recipe.seed)
    if missing := {"train", "validation"} - splits.keys():
        raise UserError(
            f"{data}: has no split {' and no split '.join(sorted(missing))}; it has "
            f"{', '.join(splits)}"
        )
    train, validation = (
        _Rows(splits[name], recipe, f"{data}, {name}") for name in ("train", "validation")
    )
    open_run(folder, {"recipe": recipe.model_dump(mode="json"), "data": str(data)})
    model, processor = new_network(recipe)
    trainer = _Trainer(
        recipe=recipe,
        normal=(processor.image_mean, processor.image_std),
        weights=_weights(train, recipe),
        model=model,
        train_dataset=train,
        eval_dataset=validation,
        compute_metrics=lambda found: _accuracy(found, recipe),
        callbacks=[
            *([EarlyStoppingCallback(recipe.patience)] if recipe.patience else []),
            *([_Progress(progress)] if progress else []),
        ],
        args=TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            per_device_train_batch_size=recipe.batch,
            per_device_eval_batch_size=4 * recipe.batch,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            weight_decay=recipe.weight_decay,
            seed=recipe.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            logging_strategy="epoch",
            report_to=[],
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
            bf16=recipe.dtype == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(
        resume_from_checkpoint=get_last_checkpoint(str(folder / "checkpoints"))
        if (folder / "checkpoints").is_dir()
        else None
    )
    return write_judge(folder / "classifier", trainer.model, processor, recipe)


def new_network(recipe: JudgeTraining) -> tuple[Any, Any]:
    """The network, with a label for each class of each attribute, and its processor."""
    names = [f"{a}: {c}" for a, labels in recipe.attributes.items() for c in labels.names]
    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }
    side = {"height": recipe.size, "width": recipe.size}
    torch.manual_seed(recipe.seed)
    if recipe.config:
        try:
            config = AutoConfig.for_model(**recipe.config, **labels)
            return (
                AutoModelForImageClassification.from_config(config),
                ViTImageProcessor(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"config: transformers makes no image classifier of {recipe.config}: {error}"
            ) from error
    assert recipe.path
    with loading(f"network {recipe.path!r}"):
        model = AutoModelForImageClassification.from_pretrained(
            recipe.path, ignore_mismatched_sizes=True, **labels
        )
        processor = AutoImageProcessor.from_pretrained(recipe.path, size=side)
    if recipe.freeze:
        heads = [
            m
            for m in model.modules()
            if isinstance(m, torch.nn.Linear) and m.out_features == len(names)
        ]
        if not heads:
            raise UserError(
                f"network {recipe.path!r}: has no linear layer of {len(names)} labels to train "
                "alone; leave freeze out"
            )
        model.requires_grad_(False)
        heads[-1].requires_grad_(True)
    return model, processor


class _Progress(TrainerCallback):
    """Tells who asked how far it is."""

    def __init__(self, progress: Callable[[int, int, str], None]) -> None:
        self._progress, self._notes = progress, {}

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._progress(
            state.global_step,
            state.max_steps,
            ", ".join(f"{k} {v:.3f}" for k, v in self._notes.items()),
        )

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._notes.update(
            {
                name: float(logs[key])
                for key, name in (("loss", "loss"), ("eval_accuracy", "accuracy"))
                if logs and key in logs
            }
        )


class _Rows(Dataset):
    """Images `[S, S, 3]` uint8 and the index of each attribute's class, `[A]`."""

    def __init__(self, rows: Any, recipe: JudgeTraining, where: str) -> None:
        self._rows, self._size = rows, recipe.size
        columns = [
            [labels.find(v) for v in values(rows, labels.column, where)]
            for labels in recipe.attributes.values()
        ]
        self.labels = np.array(
            [[UNLABELLED if k is None else k for k in column] for column in columns]
        ).T
        for place, (name, labels) in enumerate(recipe.attributes.items()):
            for k, cls in enumerate(labels.names):
                if not (self.labels[:, place] == k).any():
                    raise UserError(
                        f"{where}: no image has class {cls!r} of {name!r} (column "
                        f"{labels.column!r})"
                    )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "pixel_values": torch.from_numpy(pixels_of(self._rows[index], self._size)),
            "labels": torch.tensor(self.labels[index]),
        }


def _weights(rows: _Rows, recipe: JudgeTraining) -> list[Tensor]:
    """For each attribute the weights of its classes, 1 on average.

    Inverse to their numbers if the recipe balances.
    """
    found = []
    for place, labels in enumerate(recipe.attributes.values()):
        counts = np.bincount(
            rows.labels[rows.labels[:, place] >= 0, place], minlength=len(labels.names)
        )
        even = counts.sum() / (len(counts) * counts) if recipe.balance else np.ones(len(counts))
        found.append(torch.tensor(even, dtype=torch.float32))
    return found


class _Trainer(Trainer):
    """transformers' Trainer with a cross-entropy for each attribute on its part of the logits."""

    def __init__(
        self,
        *,
        recipe: JudgeTraining,
        normal: tuple[list[float], list[float]],
        weights: list[Tensor],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self._recipe, self._weights = recipe, weights
        self._mean, self._std = (torch.tensor(x).view(1, 3, 1, 1) for x in normal)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        images, labels = to_float(inputs["pixel_values"]), inputs["labels"]
        pairs = [(labels, 1.0)]
        if model.training:
            images = augmented(images, self._recipe.jitter, flip=self._recipe.flip)
            if self._recipe.mixup:
                images, pairs = mixed(images, labels, self._recipe.mixup)
        outputs = model(
            pixel_values=(images - self._mean.to(images.device)) / self._std.to(images.device)
        )
        parts = _parts(outputs.logits.float(), self._recipe)
        smoothing = self._recipe.smoothing if model.training else 0.0
        loss = (
            torch.stack(
                [
                    share
                    * F.cross_entropy(
                        logits,
                        truth[:, place],
                        weight=self._weights[place].to(logits.device),
                        ignore_index=UNLABELLED,
                        label_smoothing=smoothing,
                    )
                    for truth, share in pairs
                    for place, logits in enumerate(parts)
                ]
            )
            .nan_to_num()
            .sum()
        )
        return (loss, outputs) if return_outputs else loss


def _parts(logits: Any, recipe: JudgeTraining) -> list[Any]:
    """The logits `[N, K]` of each attribute out of those of all, an array or a tensor."""
    ends = np.cumsum([len(labels.names) for labels in recipe.attributes.values()])
    return [
        logits[:, end - len(labels.names) : end]
        for end, labels in zip(ends, recipe.attributes.values(), strict=True)
    ]


def _accuracy(found: EvalPrediction, recipe: JudgeTraining) -> dict[str, float]:
    """Accuracy of each attribute, the mean over its classes, and the mean over attributes."""
    result = {}
    for place, (name, logits) in enumerate(
        zip(recipe.attributes, _parts(found.predictions, recipe), strict=True)
    ):
        truth = np.asarray(found.label_ids)[:, place]
        right = logits.argmax(-1) == truth
        result[f"accuracy_{name}"] = float(
            np.mean([right[truth == k].mean() for k in range(logits.shape[1])])
        )
    return {"accuracy": float(np.mean(list(result.values()))), **result}


def write_judge(
    folder: pathlib.Path, model: Any, processor: Any, recipe: JudgeTraining
) -> pathlib.Path:
    """Writes a classifier's folder and returns it.

    Transformers' files, the recipe's labels, and `classifier.yaml`.
    """
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_text(
        folder / "labels.yaml",
        yaml.safe_dump(
            {a: x.model_dump(exclude_defaults=True) for a, x in recipe.attributes.items()},
            sort_keys=False,
        ),
    )
    write_text(
        folder / "classifier.yaml",
        yaml.safe_dump(
            {
                "kind": "hub",
                "attributes": {a: {"classes": x.names} for a, x in recipe.attributes.items()},
                "networks": {
                    a: {"path": ".", "labels": {f"{a}: {c}": c for c in x.names}}
                    for a, x in recipe.attributes.items()
                },
                "mirror": recipe.mirror,
            },
            sort_keys=False,
        ),
    )
    return folder
