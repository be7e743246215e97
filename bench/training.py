"""One training: the loop over batches that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench import schedule
from bench.ledger import Ledger, Meter, Phase, now
from bench.spec import Outcome, Recipe
from bench.surgery.masks import Masks

if TYPE_CHECKING:
    from bench.data.task import Task

Through = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""Parameters by name -> those that the forward pass sees instead, of the same shapes.

Called at each step, and without gradients before each validation."""


class TrainingFailed(RuntimeError):
    """The run cannot go on, for a reason that its record gives: no number, or an empty layer."""


@dataclass
class Training:
    """What one call of `Trainer.fit` does.

    `per_epoch`: steps of an epoch; `total`: steps of the learning rate's schedule, whether or not
    all of them are taken.
    """

    task: Task
    recipe: Recipe
    phase: Phase
    per_epoch: int
    total: int
    ledger: Ledger
    validate: Callable[[nn.Module], Outcome]
    log: Callable[..., None]
    watch: Callable[[str], None]
    masks: Masks | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None
    on_step: Callable[[nn.Module, int], bool | None] | None = None
    groups: tuple[dict[str, Any], ...] = ()
    through: Through | None = None

    def run(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
        """Train `model` in place on `batches` of (inputs, targets); the steps that it took."""
        if self.recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = schedule.optimizer(model, self.recipe, self.groups)
        forward = torch.compile(model) if self.recipe.compile else model
        model.train()
        meter = Meter(self.ledger)
        started = meter.started
        step = 0
        for step, (inputs, targets) in enumerate(batches, 1):
            factor = schedule.factor(step - 1, self.total, self.per_epoch, self.recipe)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            loss, outputs = self.update(model, forward, optimizer, inputs, targets)
            ended = bool(self.on_step and self.on_step(model, step))
            meter.add(loss, len(targets), self.task.hits(outputs.detach(), targets))
            if step % self.per_epoch == 0 or step == self.total or ended:
                self.report(model, step, meter, factor * self.recipe.lr, started)
                meter = Meter(self.ledger)
                model.train()
            if ended:
                break
        if meter.batches:
            meter.charge(self.phase, self.per_epoch)
        return step

    def update(
        self,
        model: nn.Module,
        forward: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        inputs: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One optimiser step; (mean loss without the penalty, outputs)."""
        optimizer.zero_grad(set_to_none=True)
        seen = Seen(model, self.through)
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            outputs = forward(inputs)
        outputs = outputs.float()
        loss = self.task.loss(outputs, targets, self.recipe.label_smoothing)
        (loss + self.penalty(model) if self.penalty else loss).backward()
        seen.give_back()
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
        # without gradients, so that a method can tell: what a finished net would see
        with torch.no_grad(), Seen(model, self.through):
            validation = self.validate(model)
        self.log(
            "epoch",
            phase=self.phase,
            epoch=round(sum(s.epochs for s in self.ledger.spent.values()), 4),
            step=step,
            loss=loss,
            accuracy=meter.accuracy(),
            validation=validation.score,
            lr=lr,
            seconds=round(seconds, 3),
        )
        left = (now(self.ledger.device) - started) / step * (self.total - step)
        self.watch(
            f"{self.phase} epoch {step / self.per_epoch:.4g}/{self.total / self.per_epoch:.4g}  "
            f"loss {loss:.4f}  validation {validation}  {left:.0f} s left"
        )


class Seen:
    """Other values in the place of a model's parameters, for one forward and backward pass.

    No module is changed, so recurrent layers and compiled nets take part; what the method trains
    beside the weights (logits, step sizes) gets its gradient through the values.
    """

    def __init__(self, model: nn.Module, through: Through | None) -> None:
        parameters: dict[str, Tensor] = dict(model.named_parameters()) if through else {}
        values = dict(through(parameters)) if through else {}
        self.replaced = [
            (parameters[n], parameters[n].data, v)
            for n, v in values.items()
            if v is not parameters[n]
        ]
        for parameter, _, value in self.replaced:
            parameter.data = value.detach()

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *error: object) -> None:
        for parameter, stored, _ in self.replaced:
            parameter.data = stored

    def give_back(self) -> None:
        """Restore the parameters, and send the values' gradients on to what they were made of."""
        values, gradients = [], []
        for parameter, stored, value in self.replaced:
            if parameter.grad is not None and value.requires_grad:
                values.append(value)
                gradients.append(parameter.grad)
            parameter.data, parameter.grad = stored, None
        # only now: the graph of the values reads the stored weights
        torch.autograd.backward(values, gradients)
