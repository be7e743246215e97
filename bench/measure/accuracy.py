"""How well a model classifies a split: top-1, top-5, loss, calibration, and each class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.spec import Accuracy

if TYPE_CHECKING:
    from bench.data.dataset import Labelled

BINS = 15


class _Outcome(NamedTuple):
    """Per sample, in the order of the split, float64 on the CPU."""

    labels: Tensor  # int64
    correct: Tensor
    top5: Tensor
    confidence: Tensor  # probability of the predicted class
    loss: Tensor  # nats


def accuracy(
    model: nn.Module,
    split: Labelled,
    normalise: Callable[[Tensor], Tensor],
    batch_size: int = 500,
    precision: str = "fp32",
) -> Accuracy:
    """`model`, in eval mode, on every sample of `split` once; its own mode is restored afterwards.

    Sums are taken over samples and not over batches, so a short last batch weighs what it should. A
    class without a sample in the split has the accuracy NaN. `precision` "bf16" runs the forward
    pass under autocast; losses and probabilities are always computed in fp32.

    Raises:
        ValueError: the split is empty, or has a label that is none of the model's classes.
        FloatingPointError: an output is NaN or infinite.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; it must be 'fp32' or 'bf16'")
    if len(split) == 0:
        raise ValueError("accuracy of an empty split is undefined")
    highest, outcomes, classes = int(split.labels.max()), [], 0
    with evaluating(model):
        for images, labels in split.batches(batch_size):
            bf16 = precision == "bf16"
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                logits = model(normalise(images)).float()
            classes = logits.shape[1]
            if highest >= classes:
                raise ValueError(f"a label is {highest}, but the model has {classes} classes")
            outcomes.append(_outcome(logits, labels))
    return _summary(
        _Outcome(*(torch.cat(parts).cpu() for parts in zip(*outcomes, strict=True))), classes
    )


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Expected calibration error over `bins` equal bins, each closed above (Guo et al., 2017).

    `confidence` and `correct`: (samples,), probabilities of the predicted class and 0 or 1. The
    mean distance between accuracy and confidence of the bins, weighted by their samples.
    """
    confidence, correct = confidence.double(), correct.double()
    which = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, correct - confidence)
    return float(gap.abs().sum() / len(confidence))


def worst_class_drop(dense: Accuracy, pruned: Accuracy) -> float:
    """The largest fall of a class's accuracy from `dense` to `pruned` (negative when all rise)."""
    pairs = zip(dense.per_class, pruned.per_class, strict=True)
    return max(before - after for before, after in pairs if not math.isnan(before - after))


def _outcome(logits: Tensor, labels: Tensor) -> _Outcome:
    """`logits`: (batch, classes); stays on its device, so that no batch waits for a transfer."""
    ranked = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return _Outcome(
        labels,
        ranked[:, 0].double(),
        ranked.any(1).double(),
        logits.softmax(1).amax(1).double(),
        F.cross_entropy(logits, labels, reduction="none").double(),
    )


def _summary(outcome: _Outcome, classes: int) -> Accuracy:
    finite = int((outcome.confidence + outcome.loss).isfinite().sum())
    samples = len(outcome.labels)
    if finite < samples:
        raise FloatingPointError(
            f"the outputs of {samples - finite} of {samples} samples are not finite; "
            "the weights have diverged"
        )
    of_class = torch.bincount(outcome.labels, minlength=classes)
    hits = torch.bincount(outcome.labels, weights=outcome.correct, minlength=classes)
    return Accuracy(
        top1=float(outcome.correct.sum() / samples),
        top5=float(outcome.top5.sum() / samples) if classes > 5 else None,
        loss=float(outcome.loss.sum() / samples),
        ece=calibration_error(outcome.confidence, outcome.correct),
        per_class=tuple((hits / of_class).tolist()),
        samples=samples,
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards each module has the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
