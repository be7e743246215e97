"""A training in stages, each of a net of another size: densities read on the way, and the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from bench.measure import macs
from bench.surgery.activations import Activity
from bench.trainer import Trainer

Series = list[dict[str, float]]
"""Readings in order, one an epoch: group name -> activation density."""


class Stage:
    """One net while it is trained: `before` is the stage of the wider net, none for the first.

    `readings`: group name -> density of each channel, (C,), in order; `series`: their means.
    `combine`: (n, C) densities behind the n ReLUs of a group -> its channels', (C,); `every`: as
    for `Activity`. `after`: the width of each group in the next stage, 0 for a layer taken out.
    """

    def __init__(
        self,
        model: nn.Module,
        trainer: Trainer,
        every: int,
        combine: Callable[[Tensor], Tensor],
        before: Stage | None = None,
    ) -> None:
        self.model, self.trainer, self.combine = model, trainer, combine
        self.index: int = 0 if before is None else before.index + 1
        self.activity = Activity(model, trainer.shape, every)
        sizes = {g.name: g.size for g in self.activity.groups}
        # a group of one channel cannot be narrowed, so it is none of `sizes` any more
        self.widths: dict[str, int] = sizes if before is None else {**before.after, **sizes}
        self.after: dict[str, int] = dict(self.widths)
        self.macs = sum(macs(model, trainer.shape).values())
        # epochs and multiply-adds of the stages before; their nets need not be held
        self.past: list[tuple[float, int]] = (
            [] if before is None else [*before.past, (before.epochs, before.macs)]
        )
        self.readings: list[dict[str, Tensor]] = []
        self.series: Series = []
        self.reference: float | None = None if before is None else before.reference
        self.epochs: float = 0.0
        self.ended = "last"
        self._seconds = self._spent()

    def density(self, window: int) -> dict[str, Tensor]:
        """Group name -> density of each channel, (C,), mean over the last `window` readings."""
        last = self.readings[-window:]
        return {n: torch.stack([reading[n] for reading in last]).mean(0) for n in last[0]}

    def train(self, epochs: float, done: Callable[[Series], bool] | None = None) -> None:
        """Train for `epochs`, or until `done(series)`; a reading after each epoch and at the end.

        A reading is taken over all that was measured since the last.
        """
        trainer, per_epoch = self.trainer, self.trainer.steps(1)
        start = trainer.epochs_spent

        def on_step(model: nn.Module, step: int) -> bool:
            self.activity.step()
            if step % per_epoch or not self.activity.counts:
                return False
            self._read(start + step / per_epoch)
            return done is not None and done(self.series)

        with self.activity:
            trainer.fit(self.model, epochs, on_step=on_step)
        self.epochs += trainer.epochs_spent - start
        if self.activity.counts:
            self._read(trainer.epochs_spent)

    def fallen(self) -> float:
        """How far the validation score is below that of the first stage when this was asked."""
        score = self.trainer.validate(self.model).score
        self.reference = score if self.reference is None else self.reference
        return self.reference - score

    def complexity(self) -> float | None:
        """Training so far over the dense run's: epochs times multiply-adds; none if that is 0."""
        return complexity([*self.past, (self.epochs, self.macs)], self.trainer.spec.train.epochs)

    def report(self) -> None:
        """Log what the stage came to; `seconds` are those of one of its epochs."""
        seconds = self._spent() - self._seconds
        last = self.series[-1] if self.series else {}
        self.trainer.log(
            "stage",
            stage=self.index,
            epoch=round(self.trainer.epochs_spent, 4),
            epochs=round(self.epochs, 4),
            ended=self.ended,
            widths=self.widths,
            density=fmean(last.values()) if last else None,
            parameters=sum(p.numel() for p in self.model.parameters()),
            macs=self.macs,
            complexity=self.complexity(),
            validation=self.trainer.validate(self.model).score,
            seconds=round(seconds / self.epochs, 4) if self.epochs else None,
        )

    def _read(self, epoch: float) -> None:
        with self.trainer.spend("score"):
            self.readings.append({n: self.combine(d) for n, d in self.activity.read().items()})
            self.series.append({n: float(d.mean()) for n, d in self.readings[-1].items()})
        for group in self.activity.groups:
            self.trainer.log(
                "activation_density",
                stage=self.index,
                layer=group.name,
                density=self.series[-1][group.name],
                width=group.size,
                epoch=round(epoch, 4),
            )

    def _spent(self) -> float:
        spent = self.trainer.ledger.spent.get("finetune")
        return spent.seconds if spent else 0.0


def complexity(stages: Sequence[tuple[float, int]], dense: float) -> float | None:
    """Training complexity sum e M / (E M_0) of `stages` (epochs e, multiply-adds M); E is `dense`.

    None for a dense run without training.
    """
    whole = dense * stages[0][1]
    return sum(epochs * work for epochs, work in stages) / whole if whole else None
