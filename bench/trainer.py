"""The only way to spend training: `Trainer.fit`.

With a ledger, a budget and shared random streams.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench import rng
from bench.ledger import Ledger, Phase
from bench.method import load
from bench.refusals import refuse_collapse
from bench.schedule import Batches
from bench.spec import Outcome, Recipe, RunSpec
from bench.surgery.layers import prunable, scoring_copy
from bench.surgery.masks import Masks
from bench.training import Through, Training, TrainingFailed

if TYPE_CHECKING:
    from bench.data import Dataset

__all__ = ["BudgetExceeded", "Trainer", "TrainingFailed"]


class BudgetExceeded(RuntimeError):
    """A method asked for more training than its tier allows; a fault of the method."""


@dataclass
class Trainer:
    """Trains models for one run.

    `initial` builds the run's untrained model; `log_line` takes one history line; `watch` one line
    of progress; `budget` is in epochs.
    """

    spec: RunSpec
    data: Dataset
    device: torch.device
    initial: Callable[[], nn.Module]
    budget: float
    log_line: Callable[[dict[str, Any]], None]
    watch: Callable[[str], None] = lambda line: None
    before: nn.Module | None = None
    asked: dict[Phase, float] = field(default_factory=dict)
    """Epochs asked of `fit` so far; what is taken differs by less than a step."""
    step: int = 0
    """Optimiser steps of `fit` so far: where the next one goes on in the order of batches."""

    def __post_init__(self) -> None:
        """Open the ledger."""
        self.ledger = Ledger(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """One input, (C, H, W)."""
        return self.data.shape

    @property
    def densities(self) -> tuple[float, ...]:
        """The operating points asked of a run that yields a curve, falling; empty for others."""
        return self.spec.densities

    @property
    def epochs_spent(self) -> float:
        """Epochs of training so far, but for the shared dense start."""
        spent = self.ledger.spent.items()
        return sum(s.epochs for p, s in spent if p == "finetune" or not self._starts_dense)

    @property
    def _starts_dense(self) -> bool:
        return self.spec.finetune is not None and load(self.spec.method).start == "dense"

    def recipe(self, phase: Phase = "finetune") -> Recipe:
        """The schedule of this phase: the dense one for pretraining, else the one beyond it."""
        if phase == "pretrain" or self.spec.finetune is None:
            return self.spec.train
        return self.spec.finetune

    @property
    def allowance(self) -> float:
        """Epochs to spend: one fine-tuning for every operating point that is asked for.

        For a method that starts from untrained weights also those of the dense net's training.
        """
        own = 0.0 if self._starts_dense or self.spec.finetune is None else self.spec.train.epochs
        return own + self.recipe().epochs * max(1, len(self.spec.densities))

    @property
    def left(self) -> float:
        """Epochs of the budget that nobody has asked for yet; infinite in the paper tier."""
        return self.budget - sum(self.asked.values())

    def epochs(self, rounds: int = 1) -> float:
        """Epochs for each of `rounds` equal trainings.

        The allowance's share in the equal tier, the paper's schedule in the paper tier.
        """
        return self.recipe().epochs if self.spec.tier == "paper" else self.allowance / rounds

    def rounds(self, wanted: int) -> int:
        """How many of `wanted` trainings the tier pays for with an epoch or more each.

        At least 1.
        """
        if self.spec.tier == "paper":
            return wanted
        return max(1, min(wanted, math.floor(self.allowance)))

    def steps(self, epochs: float | None = None) -> int:
        """Optimiser steps of a call of `fit` for `epochs`; none: of one that names no epochs."""
        recipe = self.recipe()
        wanted = recipe.epochs if epochs is None else epochs
        return round(wanted * Batches(self.data, self.spec.seed, recipe).per_epoch)

    def generator(self, name: str = "draws") -> torch.Generator:
        """The method's own random stream on the CPU; it never disturbs the order of the data."""
        s = self.spec
        return rng.generator("method", s.method, s.arch, s.dataset, s.seed, name)

    def log(self, event: str, **values: Any) -> None:
        """Write a line of the method's own history, such as an index per layer and round."""
        self.log_line({"event": event, **values})

    def validate(self, model: nn.Module) -> Outcome:
        """How `model` does on the validation split, the only one that a choice may look at.

        Its `score` is the number to compare, higher being better: top-1 of a classifier.
        """
        with self.ledger.free():
            return self.data.task.evaluate(model, self.data, self.data.validation)

    def spend(self, phase: Phase) -> AbstractContextManager[None]:
        """Count the seconds inside, device work included, to `phase` of the ledger."""
        return self.ledger.spend(phase)

    def pruned(self, model: nn.Module) -> None:
        """Remember `model`, pruned and not yet retrained: the next point's accuracy `before`."""
        self.before = copy.deepcopy(model)

    def samples(
        self, count: int | None = None, stream: str = "samples"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of normalised inputs and targets: `count` training samples, or one batch.

        At random, but the same ones at every call for a `stream`; counted as scoring.
        """
        size = self.recipe().batch_size
        order = torch.randperm(len(self.data.train), generator=self.generator(stream))
        order = order[: count or size]
        self.ledger.add("score", samples=len(order))
        while size > 2 and len(order) % size == 1:  # a batch of one has no batch statistics
            size -= 1
        for inputs, targets in self.data.train.batches(size, order):
            yield self.data.normalise(inputs), targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's loss of a batch, summed over its samples."""
        return self.data.task.loss(outputs, targets, total=True)

    def gradients(
        self, model: nn.Module, samples: int | None = None, batch_statistics: bool = False
    ) -> dict[str, Tensor]:
        """Gradient of the mean loss for every prunable weight.

        On `samples` training samples (one batch by default), counted as scoring, without dropout;
        batch norms use their running statistics or, for untrained nets, the batch's.
        """
        with self.spend("score"):
            scored, seen = scoring_copy(model, batch_statistics), 0
            for inputs, targets in self.samples(samples):
                self.loss(scored(inputs), targets).backward()
                seen += len(targets)
            return {
                name: torch.zeros_like(w) if w.grad is None else w.grad / seen
                for name, w in prunable(scored).items()
            }

    def rewound(self, step: int) -> dict[str, Tensor]:
        """The state of the dense run after `step` optimiser steps (0: the initial weights).

        Trained again from the same weights, batches and schedule, so it is the same state bit for
        bit on a CPU; counted as pretraining.
        """
        model = self.initial()
        if step:
            recipe = self.spec.train
            batches = Batches(self.data, self.spec.seed, recipe)
            total = round(recipe.epochs * batches.per_epoch)
            with self._dropout("pretrain", 0):
                training = self._training(recipe, "pretrain", batches.per_epoch, total)
                training.run(model, batches.take(0, min(step, total)))
        return copy.deepcopy(model.state_dict())

    def fit(
        self,
        model: nn.Module,
        epochs: float | None = None,
        *,
        lr: float | None = None,
        masks: Masks | None = None,
        penalty: Callable[[nn.Module], Tensor] | None = None,
        on_step: Callable[[nn.Module, int], bool | None] | None = None,
        groups: tuple[dict[str, Any], ...] = (),
        through: Through | None = None,
        phase: Phase = "finetune",
    ) -> None:
        """Train `model` in place with a fresh optimiser and the phase's recipe.

        `epochs`, `lr` replace the recipe's. `masks`: weights that stay zero; they may change while
        it trains. `penalty(model)` is added to the loss. `on_step(model, step)` runs after each
        optimiser step, counted from 1; it ends the training by returning True, and what is left of
        `epochs` is not spent. `groups`: extra optimiser groups (`params`, and options such as `lr`
        or `weight_decay`). `through(parameters)`: what the forward pass sees of the parameters
        (name -> tensor), made by differentiable operations; the optimiser steps the parameters
        themselves, with the gradients that come back through those operations. Raises
        `TrainingFailed` on a loss that is no number or a layer without weights, `BudgetExceeded`
        past the tier's budget.
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
        dense = math.ceil(self.spec.train.epochs) * batches.per_epoch if self._starts_dense else 0
        first = dense + self.step
        training = self._training(recipe, phase, batches.per_epoch, steps)
        training.masks, training.penalty = masks, penalty
        training.on_step, training.groups, training.through = on_step, groups, through
        with self._dropout(phase, first):
            taken = training.run(model, batches.take(first, steps))
        if taken < steps:
            self.asked[phase] = (before + taken) / batches.per_epoch
        self.step += taken

    def _training(self, recipe: Recipe, phase: Phase, per_epoch: int, total: int) -> Training:
        return Training(
            self.data.task, recipe, phase, per_epoch, total,
            self.ledger, self.validate, self.log, self.watch,
        )  # fmt: skip

    def _dropout(self, phase: Phase, first: int) -> AbstractContextManager[None]:
        """Torch's global generator, which dropout draws from, at this training's own stream."""
        return rng.forked("dropout", self.spec.dataset, self.spec.seed, phase, first)
