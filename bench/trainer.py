"""The only way to spend training: `Trainer.fit`, with a ledger, a budget and shared random streams."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bench import rng, schedule
from bench.measure import accuracy
from bench.meter import Meter, now
from bench.schedule import Batches
from bench.spec import Accuracy, Recipe, RunSpec, Spent
from bench.surgery.layers import prunable
from bench.surgery.masks import Masks, nonzero

if TYPE_CHECKING:
    from bench.data import Dataset

Phase = Literal["pretrain", "score", "prune", "finetune"]


class TrainingFailed(RuntimeError):
    """The run cannot go on, for a reason that belongs into its record: not a number, or a layer without weights."""


class BudgetExceeded(RuntimeError):
    """A method asked for more training than its tier allows; a fault of the method."""


@dataclass
class Trainer:
    """Trains models for one run.

    `initial` builds the run's untrained model; `log` takes one history line; `watch` one line of progress.
    """

    spec: RunSpec
    data: Dataset
    device: torch.device
    initial: Callable[[], nn.Module]
    budget: float
    log_line: Callable[[dict[str, Any]], None]
    watch: Callable[[str], None] = lambda line: None
    spent: dict[Phase, Spent] = field(default_factory=dict)
    before: nn.Module | None = None
    asked: dict[Phase, float] = field(default_factory=dict)
    """Epochs asked of `fit` so far; what is taken differs by less than a step."""
    step: int = 0
    inside: float = 0
    """Seconds charged by `spend` so far; a training around them does not count them again."""
    uncharged: float = 0
    """Seconds of validation so far, which no method is charged for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """One input, (C, H, W)."""
        return self.data.shape

    @property
    def epochs_spent(self) -> float:
        """Epochs of training so far, but for the shared dense start."""
        return sum(
            s.epochs for p, s in self.spent.items() if p == "finetune" or not self._starts_dense
        )

    @property
    def _starts_dense(self) -> bool:
        return self.spec.finetune is not None

    def recipe(self, phase: Phase = "finetune") -> Recipe:
        """The schedule of this phase: the dense one for pretraining, otherwise the one beyond the dense start."""
        return (
            self.spec.train
            if phase == "pretrain" or self.spec.finetune is None
            else self.spec.finetune
        )

    @property
    def densities(self) -> tuple[float, ...]:
        """The operating points asked of a run that yields a curve, in falling order; empty for other runs."""
        return self.spec.densities

    @property
    def allowance(self) -> float:
        """Epochs beyond the start: one fine-tuning for every operating point that is asked for."""
        return self.recipe().epochs * max(1, len(self.spec.densities))

    def epochs(self, rounds: int = 1) -> float:
        """Epochs for each of `rounds` equal trainings: the budget's share (equal tier) or the paper's schedule."""
        return self.recipe().epochs if self.spec.tier == "paper" else self.allowance / rounds

    def rounds(self, wanted: int) -> int:
        """How many of `wanted` equal trainings the tier pays for, so that none is shorter than an epoch; at least one."""
        return (
            wanted if self.spec.tier == "paper" else max(1, min(wanted, math.floor(self.allowance)))
        )

    def steps(self) -> int:
        """Optimiser steps of a call of `fit` that names no epochs."""
        recipe = self.recipe()
        return round(recipe.epochs * Batches(self.data, self.spec.seed, recipe).per_epoch)

    def generator(self, name: str = "draws") -> torch.Generator:
        """The method's own random stream on the CPU; never disturbs the data order."""
        s = self.spec
        return rng.generator("method", s.method, s.arch, s.dataset, s.seed, name)

    def log(self, event: str, **values: Any) -> None:
        """A line of the method's own history, such as an index per layer and round."""
        self.log_line({"event": event, **values})

    def validate(self, model: nn.Module) -> Accuracy:
        """Accuracy on the validation split, the only one that a choice may look at."""
        start = now(self.device)
        found = accuracy(model, self.data.validation, self.data.normalise)
        self.uncharged += now(self.device) - start
        return found

    @contextmanager
    def spend(self, phase: Phase) -> Iterator[None]:
        """Count the seconds inside (device work included) to `phase` of the ledger."""
        start = now(self.device)
        try:
            yield
        finally:
            seconds = now(self.device) - start
            self.add(phase, seconds=seconds)
            self.inside += seconds

    def gradients(self, model: nn.Module, samples: int | None = None) -> dict[str, Tensor]:
        """Gradient of the mean loss for every prunable weight, on training samples (one batch by default)."""
        with self.spend("score"):
            size = samples or self.recipe().batch_size
            order = torch.randperm(len(self.data.train), generator=self.generator("samples"))[:size]
            was_training = model.training
            model.eval().zero_grad()
            for images, labels in self.data.train.batches(self.recipe().batch_size, order):
                outputs = model(self.data.normalise(images))
                (
                    nn.functional.cross_entropy(outputs, labels, reduction="sum") / len(order)
                ).backward()
            found = {
                n: torch.zeros_like(w) if w.grad is None else w.grad.clone()
                for n, w in prunable(model).items()
            }
            model.zero_grad()
            model.train(was_training)
        self.add("score", samples=len(order))
        return found

    def rewound(self, step: int) -> dict[str, Tensor]:
        """The state of the dense run after `step` optimiser steps (0: the initial weights).

        Trained again from the same weights, batches and schedule, so it is the same state bit for bit on a CPU.
        """
        model = self.initial()
        if step:
            batches = Batches(self.data, self.spec.seed, self.spec.train)
            total = round(self.spec.train.epochs * batches.per_epoch)
            taken = batches.take(0, min(step, total))
            with self._dropout("pretrain", 0):
                self._train(model, self.spec.train, "pretrain", taken, total)
        return copy.deepcopy(model.state_dict())

    def pruned(self, model: nn.Module) -> None:
        """Remember `model` as it is now, pruned and not yet retrained: the next point's accuracy `before`."""
        self.before = copy.deepcopy(model)

    def fit(
        self,
        model: nn.Module,
        epochs: float | None = None,
        *,
        lr: float | None = None,
        masks: Masks | None = None,
        penalty: Callable[[nn.Module], Tensor] | None = None,
        on_step: Callable[[nn.Module, int], None] | None = None,
        groups: list[dict[str, Any]] | None = None,
        phase: Phase = "finetune",
    ) -> None:
        """Train `model` in place with a fresh optimiser and the phase's recipe.

        `epochs`, `lr` replace the recipe's. `masks`: weights that stay zero. `penalty(model)` is added to the loss.
        `on_step(model, step)` runs after each optimiser step, counted from 1. `groups`: extra optimiser groups
        (`params`, and options such as `lr` or `weight_decay`). Raises `TrainingFailed` on a loss that is not finite
        or a layer without weights, `BudgetExceeded` past the tier's budget.
        """
        recipe = self.recipe(phase)
        epochs = recipe.epochs if epochs is None else epochs
        asked = sum(self.asked.values()) + epochs
        if asked > self.budget * (1 + 1e-9):
            raise BudgetExceeded(
                f"{self.spec.method} asks for {asked:g} epochs; its budget is {self.budget:g}"
            )
        if masks:
            masks.apply_(model)
        refuse_collapse(model)
        recipe = recipe.model_copy(update={"lr": lr}) if lr else recipe
        batches = Batches(self.data, self.spec.seed, recipe)
        # rounded in sum, so that many short trainings together take the steps of one long one
        before = round(self.asked.get(phase, 0.0) * batches.per_epoch)
        self.asked[phase] = self.asked.get(phase, 0.0) + epochs
        steps = round(self.asked[phase] * batches.per_epoch) - before
        # every method goes on where the shared dense run's order of batches ends
        first = self.step + (
            math.ceil(self.spec.train.epochs) * batches.per_epoch if self._starts_dense else 0
        )
        taken = batches.take(first, steps)
        with self._dropout(phase, first):
            self._train(model, recipe, phase, taken, steps, masks, penalty, on_step, groups)
        self.step += steps

    def _dropout(self, phase: Phase, first: int) -> AbstractContextManager[None]:
        """Torch's global generator, which dropout draws from, at the start of this training's own stream."""
        return rng.forked("dropout", self.spec.dataset, self.spec.seed, phase, first)

    def _train(
        self,
        model: nn.Module,
        recipe: Recipe,
        phase: Phase,
        batches: Iterable[tuple[Tensor, Tensor]],
        total: int,
        masks: Masks | None = None,
        penalty: Callable[[nn.Module], Tensor] | None = None,
        on_step: Callable[[nn.Module, int], None] | None = None,
        groups: list[dict[str, Any]] | None = None,
    ) -> None:
        """Train on `batches`; the learning rate follows a schedule of `total` steps, whether or not all are taken."""
        per_epoch = Batches(self.data, self.spec.seed, recipe).per_epoch
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = schedule.optimizer(model, recipe, groups or [])
        forward = torch.compile(model) if recipe.compile else model
        model.train()
        meter, inside = Meter(self.device), self.inside
        started = meter.started
        for step, (images, labels) in enumerate(batches, 1):
            factor = schedule.factor(step - 1, total, per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
            ):
                outputs = forward(images)
            outputs = outputs.float()
            loss = nn.functional.cross_entropy(
                outputs, labels, label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            (loss + penalty(model) if penalty else loss).backward()
            if masks:
                masks.mask_gradients_(model)
            if recipe.clip:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            if masks:
                # momentum and weight decay still move a weight whose mask has just changed
                masks.apply_(model)
            if on_step:
                on_step(model, step)
            meter.add(loss, outputs, labels)
            if step % per_epoch == 0 or step == total:
                seconds = meter.seconds() - (self.inside - inside)
                self.add(
                    phase, epochs=meter.batches / per_epoch, samples=meter.samples, seconds=seconds
                )
                self._epoch(
                    model,
                    phase,
                    step,
                    total,
                    per_epoch,
                    meter,
                    factor * recipe.lr,
                    now(self.device) - started,
                )
                meter, inside = Meter(self.device), self.inside
                model.train()
        if meter.batches:
            self.add(
                phase,
                epochs=meter.batches / per_epoch,
                samples=meter.samples,
                seconds=meter.seconds() - (self.inside - inside),
            )

    def _epoch(
        self,
        model: nn.Module,
        phase: Phase,
        step: int,
        total: int,
        per_epoch: int,
        meter: Meter,
        lr: float,
        elapsed: float,
    ) -> None:
        """Log one epoch; stop the run if the loss is no number."""
        if not math.isfinite(loss := meter.loss()):
            raise TrainingFailed(f"the loss is {loss} in {phase} at step {step}")
        validation = self.validate(model).top1
        epoch = sum(s.epochs for s in self.spent.values())
        self.log("epoch", phase=phase, epoch=round(epoch, 4), step=step, loss=loss, accuracy=meter.accuracy(),
                 validation=validation, lr=lr, seconds=round(meter.seconds(), 3))  # fmt: skip
        left = elapsed / step * (total - step)
        self.watch(
            f"{phase} epoch {step / per_epoch:.4g}/{total / per_epoch:.4g}  loss {loss:.4f}  "
            f"validation {100 * validation:.2f} %  {left:.0f} s left"
        )

    def add(self, phase: Phase, epochs: float = 0, samples: int = 0, seconds: float = 0) -> None:
        """Count to `phase` of the ledger."""
        old = self.spent.get(phase, Spent(phase=phase))
        self.spent[phase] = Spent(
            phase=phase,
            epochs=old.epochs + epochs,
            samples=old.samples + samples,
            seconds=old.seconds + seconds,
        )


def refuse_collapse(model: nn.Module) -> None:
    """Raise `TrainingFailed` if a layer has no weight left."""
    if empty := nonzero(model).collapsed():
        raise TrainingFailed(f"layer collapse: no weight is left in {', '.join(empty)}")
