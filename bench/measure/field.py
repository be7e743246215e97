"""How well a model predicts a field: one step ahead, and fed with its own predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.measure.accuracy import evaluating
from bench.spec import FieldError

if TYPE_CHECKING:
    from bench.data.fields import FieldSplit

STEPS = 20
"""Steps of a rolled-out prediction, or as many as the trajectories have."""
SHOWN = (1, 5, 10, 20)
"""The steps whose fields are kept for a figure, and whose errors stand in tables."""
SIDE = 32
"""Most nodes along a side of a field that is kept."""


def field_error(model: nn.Module, split: FieldSplit, batch_size: int = 480) -> FieldError:
    """`model`, in eval mode, on every sample of `split` once, and rolled out on each trajectory.

    The error is ||prediction - truth|| / ||truth|| over the nodes of a frame, its mean over the
    frames. The rolled-out one starts from the first two frames of a trajectory; it is given for
    each step, as its mean over the trajectories. A prediction that grows beyond all numbers is
    infinitely wrong.

    Raises:
        ValueError: the split is empty.
        FloatingPointError: a prediction of one step is NaN or infinite.
    """
    if len(split) == 0:
        raise ValueError("the error on an empty split is undefined")
    errors, losses = [], []
    with evaluating(model):
        for inputs, targets in split.batches(batch_size):
            outputs = model(inputs).double()
            errors.append(relative(outputs, targets))
            loss = F.mse_loss(outputs, targets.double(), reduction="none")
            losses.append(loss.flatten(1).mean(1))
        rolled = [
            relative(predicted, split.frames[:, 2 + step, None]).mean()
            for step, predicted in enumerate(roll_out(model, split, steps(split)))
        ]
    error, mean_square = (torch.cat(parts).cpu() for parts in (errors, losses))
    wrong = int(error.isfinite().logical_not().sum())
    if wrong:
        raise FloatingPointError(
            f"the predictions of {wrong} of {len(error)} frames are not finite; "
            "the weights have diverged"
        )
    return FieldError(
        relative_l2=float(error.mean()),
        rollout=tuple(math.inf if math.isnan(e) else e for e in torch.stack(rolled).tolist()),
        loss=float(mean_square.mean()),
        samples=len(error),
    )


def steps(split: FieldSplit) -> int:
    """How many steps are predicted from the first two frames of a trajectory."""
    return min(STEPS, split.frames.shape[1] - 2)


def roll_out(
    model: nn.Module, split: FieldSplit, count: int, first: int | None = None
) -> list[Tensor]:
    """What `model` predicts for frames 2 to `count` + 1 from the first two and its own predictions.

    Each (T, 1, H, W), of the first `first` trajectories (none: all); the model's mode is not set.
    """
    frames, speed = split.frames[:first], split.speed[:first]
    before, last = frames[:, 0, None], frames[:, 1, None]
    plane = speed[:, None, None, None].expand_as(last)
    found = []
    for _ in range(count):
        before, last = last, model(torch.cat([before, last, plane], 1)).float()
        found.append(last)
    return found


def relative(predicted: Tensor, truth: Tensor) -> Tensor:
    """||predicted - truth|| / ||truth|| for each sample of (B, ...); float64 (B,)."""
    wanted = truth.double().flatten(1)
    return (predicted.double().flatten(1) - wanted).norm(dim=1) / wanted.norm(dim=1)


def keep(model: nn.Module, split: FieldSplit, file: Path) -> None:
    """Write the rolled-out prediction on the first trajectory, and the truth, at the steps `SHOWN`.

    A CSV line per field: `what` (predicted or true), `step`, `height`, `width`, and `values`, row
    by row, in thousandths of the training frames' root mean square, clipped at ten of it. Of more
    than `SIDE` nodes along a side every second, third, ... is written.
    """
    with evaluating(model):
        predicted = roll_out(model, split, steps(split), first=1)
    lines = ["what,step,height,width,values"]
    for step in SHOWN:
        if step <= len(predicted):
            fields = {"predicted": predicted[step - 1][0, 0], "true": split.frames[0, 1 + step]}
            lines += [f"{what},{step},{digits(field)}" for what, field in fields.items()]
    file.write_text("\n".join(lines) + "\n")


def digits(field: Tensor) -> str:
    """`height,width,values` of a field (H, W), as `keep` describes."""
    every = math.ceil(max(field.shape) / SIDE)
    thin = field[::every, ::every].nan_to_num(10).clamp(-10, 10)
    values = thin.mul(1000).round().int().flatten().tolist()
    return f"{thin.shape[0]},{thin.shape[1]},{' '.join(map(str, values))}"
