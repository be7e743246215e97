"""Optimisers, learning-rate schedules and the shared order of batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench import rng
from bench.spec import Recipe

if TYPE_CHECKING:
    from bench.data import Dataset


def optimizer(
    model: nn.Module, recipe: Recipe, groups: tuple[dict[str, Any], ...]
) -> torch.optim.Optimizer:
    """A fresh optimiser of the model's parameters and of `groups`.

    A parameter in a group is only there.
    """
    apart = {id(p) for group in groups for p in group["params"]}
    own = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    every = [{"params": own}, *({"lr": recipe.lr, **group} for group in groups)]
    if recipe.optimizer == "sgd":
        made: torch.optim.Optimizer = torch.optim.SGD(
            every,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    else:
        kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        made = kind(
            every, lr=recipe.lr, betas=(recipe.momentum, 0.999), weight_decay=recipe.weight_decay
        )
    for group in made.param_groups:
        group["peak_lr"] = group["lr"]
    return made


def factor(step: int, total: int, per_epoch: int, recipe: Recipe) -> float:
    """What the peak learning rate is multiplied by at `step` (from 0) of `total`."""
    warmup = round(recipe.warmup * per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    if recipe.schedule == "step":
        return recipe.gamma ** sum(step >= milestone * total for milestone in recipe.milestones)
    return 1.0


class Batches:
    """The training batches of one (data set, seed), the same for every method; step counts from 0.

    Each epoch has a permutation of its own stream and each step its own augmentation stream, so a
    batch depends on the step's number alone, and a training may stop and go on anywhere.
    """

    def __init__(self, data: Dataset, seed: int, recipe: Recipe) -> None:
        self.data, self.seed, self.recipe = data, seed, recipe
        self.size = min(recipe.batch_size, len(data.train))
        self.per_epoch = len(data.train) // self.size

    def take(self, first: int, steps: int) -> Any:
        """Yield (normalised images, labels) of `steps` batches from the step `first` on."""
        from bench.data.augment import augment

        step, end = first, first + steps
        while step < end:
            epoch, at = divmod(step, self.per_epoch)
            count = min(self.per_epoch - at, end - step)
            order = self._order(epoch)[at * self.size : (at + count) * self.size]
            for images, labels in self.data.train.batches(self.size, order):
                if self.recipe.augment:
                    stream = rng.generator("augment", self.data.name, self.seed, step)
                    images = augment(images, self.recipe.augment, stream)
                images = self.data.normalise(images)
                if self.recipe.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                yield images, labels
                step += 1

    def _order(self, epoch: int) -> Tensor:
        stream = rng.generator("data", self.data.name, self.seed, epoch)
        return torch.randperm(len(self.data.train), generator=stream)
