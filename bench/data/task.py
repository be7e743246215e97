"""What a data set asks of a net: the loss that it is trained with, and how well it does.

A net of either task is a function of a batch of inputs, so whatever only calls `Trainer.fit` and
`Trainer.validate` prunes both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from bench.measure.accuracy import accuracy
from bench.measure.field import field_error, keep
from bench.spec import Accuracy, FieldError, TaskName

if TYPE_CHECKING:
    from bench.data.dataset import Dataset, Labelled, Split
    from bench.data.fields import FieldSplit


class Task(ABC):
    """What `Dataset.task` offers; without any state."""

    name: ClassVar[TaskName]

    @abstractmethod
    def loss(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0, total: bool = False
    ) -> Tensor:
        """Mean loss per sample of a batch; with `total` the sum over its samples.

        `smoothing`: `Recipe.label_smoothing`.
        """

    @abstractmethod
    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """How many samples of a batch were right, int64 (); none where none can be."""

    @abstractmethod
    def evaluate(self, model: nn.Module, data: Dataset, split: Split) -> Accuracy | FieldError:
        """How well `model` does on `split` of `data`, in eval mode; its own mode is restored.

        Raises `FloatingPointError` if an output is no number.
        """

    @abstractmethod
    def keep(self, model: nn.Module, split: Split, folder: Path) -> None:
        """Write to `folder` what a figure shows of `model` on the test split, if anything."""


class Classification(Task):
    """Images to class scores: cross-entropy, and the share of images whose class is right."""

    name = "classification"

    def loss(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0, total: bool = False
    ) -> Tensor:
        """Cross-entropy in nats; `outputs`: (B, classes), `targets`: int64 (B,)."""
        reduction = "sum" if total else "mean"
        return F.cross_entropy(outputs, targets, reduction=reduction, label_smoothing=smoothing)

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Task`."""
        return (outputs.argmax(1) == targets).sum()

    def evaluate(self, model: nn.Module, data: Dataset, split: Split) -> Accuracy:
        """See `bench.measure.accuracy`."""
        return accuracy(model, cast("Labelled", split), data.normalise)

    def keep(self, model: nn.Module, split: Split, folder: Path) -> None:
        """See `Task`; nothing: the record has all numbers."""


class FieldPrediction(Task):
    """Frames of a field to the next one: squared error, and the error relative to the field."""

    name = "field"

    def loss(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0, total: bool = False
    ) -> Tensor:
        """Mean squared error over the nodes; `outputs`, `targets`: (B, 1, H, W), normalised."""
        if smoothing:
            raise ValueError(f"label_smoothing is {smoothing:g}: a field has no labels to smooth")
        loss = F.mse_loss(outputs, targets)
        return loss * len(targets) if total else loss

    def hits(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Task`; none."""

    def evaluate(self, model: nn.Module, data: Dataset, split: Split) -> FieldError:
        """See `bench.measure.field_error`."""
        return field_error(model, cast("FieldSplit", split))

    def keep(self, model: nn.Module, split: Split, folder: Path) -> None:
        """See `bench.measure.field.keep`."""
        keep(model, cast("FieldSplit", split), folder / "fields.csv")


CLASSIFICATION, FIELD = Classification(), FieldPrediction()
