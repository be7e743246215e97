"""One training: the loop over batches that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench import schedule
from bench.ledger import Ledger, Meter, Phase, now
from bench.spec import Accuracy, Recipe
from bench.surgery.masks import Masks


class TrainingFailed(RuntimeError):
    """The run cannot go on, for a reason that its record gives: no number, or an empty layer."""


@dataclass
class Training:
    """What one call of `Trainer.fit` does.

    `per_epoch`: steps of an epoch; `total`: steps of the learning rate's schedule, whether or not
    all of them are taken.
    """

    recipe: Recipe
    phase: Phase
    per_epoch: int
    total: int
    ledger: Ledger
    validate: Callable[[nn.Module], Accuracy]
    log: Callable[..., None]
    watch: Callable[[str], None]
    masks: Masks | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None
    on_step: Callable[[nn.Module, int], None] | None = None
    groups: tuple[dict[str, Any], ...] = ()

    def run(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Train `model` in place on `batches` of (images, labels)."""
        if self.recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = schedule.optimizer(model, self.recipe, self.groups)
        forward = torch.compile(model) if self.recipe.compile else model
        model.train()
        meter = Meter(self.ledger)
        started = meter.started
        for step, (images, labels) in enumerate(batches, 1):
            factor = schedule.factor(step - 1, self.total, self.per_epoch, self.recipe)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            loss, outputs = self.update(model, forward, optimizer, images, labels)
            if self.on_step:
                self.on_step(model, step)
            meter.add(loss, outputs, labels)
            if step % self.per_epoch == 0 or step == self.total:
                self.report(model, step, meter, factor * self.recipe.lr, started)
                meter = Meter(self.ledger)
                model.train()
        if meter.batches:
            meter.charge(self.phase, self.per_epoch)

    def update(
        self,
        model: nn.Module,
        forward: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One optimiser step; (mean loss without the penalty, outputs (batch, classes))."""
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            outputs = forward(images)
        outputs = outputs.float()
        smoothing = self.recipe.label_smoothing
        loss = nn.functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        (loss + self.penalty(model) if self.penalty else loss).backward()
        if self.masks:
            self.masks.mask_gradients_(model)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(model.parameters(), self.recipe.clip)
        optimizer.step()
        if self.masks:
            # momentum and weight decay still move a weight whose mask has just changed
            self.masks.apply_(model)
        return loss, outputs

    def report(self, model: nn.Module, step: int, meter: Meter, lr: float, started: float) -> None:
        """Charge and log one epoch; stop the run if the loss is no number."""
        loss, seconds = meter.loss(), meter.charge(self.phase, self.per_epoch)
        if not math.isfinite(loss):
            raise TrainingFailed(f"the loss is {loss} in {self.phase} at step {step}")
        validation = self.validate(model).top1
        self.log(
            "epoch",
            phase=self.phase,
            epoch=round(sum(s.epochs for s in self.ledger.spent.values()), 4),
            step=step,
            loss=loss,
            accuracy=meter.accuracy(),
            validation=validation,
            lr=lr,
            seconds=round(seconds, 3),
        )
        left = (now(self.ledger.device) - started) / step * (self.total - step)
        self.watch(
            f"{self.phase} epoch {step / self.per_epoch:.4g}/{self.total / self.per_epoch:.4g}  "
            f"loss {loss:.4f}  validation {100 * validation:.2f} %  {left:.0f} s left"
        )
