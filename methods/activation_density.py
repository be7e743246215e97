"""AD: pruning in training by activation density, the share of activations that are not zero.

Foldy-Porto, Venkatesha and Panda, "Activation Density driven Energy-Efficient Pruning in Training",
arXiv 2002.02949. Tags: [V] verified in the abstract, [V2] in that of the sibling paper on precision
(arXiv 2101.04354), [R] recalled, not confirmed, [D] our decision. The body of the paper was out of
reach, and no code was found.

Stage i = 0, 1, ...; stage 0 is the whole, untrained net [V].
1. Train from initial weights [R]; measure AD_l = non-zero / all activations of layer l [V2], over
   each epoch of training [R].                                                                  (1)
2. End the stage when every AD_l is saturated [R]: over `window` epochs max - min < `eps`, after
   `least` epochs or more, after `most` at the latest [D].                                      (2)
3. New widths C_l <- max(1, round(AD_l C_l)) [R]; coupled channels share one [D]; outputs stay. A
   layer of a plain chain may go altogether (`remove_layers`) [R, weakly].                      (3)
4. Draw the smaller net's weights anew (`fresh`) [R, weakly], or keep the channels of largest AD
   (`inherit`) [D].
5. Until no width changes by more than `settled`, or validation accuracy is `drop` below stage 0's,
   or after `stages` prunings [D], train the last net with the normal schedule [R].
Training complexity TC = sum e_i M_i / (E M_0): epochs times multiply-adds of every stage, over
those of the dense run [R].                                                                     (4)

Deviations from the paper (from what is known of it):
- In the equal tier `reserve` of the budget is kept for the last training, the stages share the
  rest, and none is longer than its share; what ended stages leave over goes to the last training.
  Where a share is shorter than `least`, the test (2) never ends a stage, and the widths come from
  nets that may not be saturated. TC has the dense run's epochs for E, fewer than this budget.
- The learning rate follows the recipe's schedule over `most` in each stage, and starts again for
  the last training, which goes on from the weights of its stage. The paper tier takes the dense
  run's recipe: the paper's own is not known.
- AD_l in (3) is the mean over the window, that of a group of coupled channels the mean (`blocks`)
  over all ReLUs that carry it: in a residual stage those after the additions, and the stem's.
- Groups of channels without a ReLU keep their width; a net without any is refused, as is a compiled
  one, whose ReLUs cannot be seen.
- An accuracy beyond `drop` ends the pruning; it does not bring the wider net back.
- Every stage yields its net, so the first points are wider and trained less than the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from bench import models, rng
from bench.method import Method
from bench.stages import Stage
from bench.surgery import channels
from bench.surgery.bypass import bypass
from bench.surgery.channels import SurgeryError
from bench.surgery.patterns import keep_top
from bench.trainer import Trainer, TrainingFailed


class ActivationDensity(Method):
    """Train until the densities saturate, narrow every layer to its density, start over."""

    start = "init"
    family = "activation"
    patterns = ("channel",)
    citation = "Foldy-Porto, Venkatesha and Panda, arXiv 2002.02949"
    iterative = True
    steered = False

    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    stages: int = Field(3, ge=1, description="most prunings; the net is trained once more after")
    window: int = Field(5, ge=2, description="epochs over which a saturated density stays level")
    eps: float = Field(0.01, gt=0, lt=1, description="largest change of it in the window")
    least: int = Field(10, ge=1, description="epochs before a stage may end")
    most: int = Field(40, ge=1, description="epochs after which it ends")
    reserve: float = Field(
        0.5, gt=0, lt=1, description="equal tier: share of the budget for the last training"
    )
    settled: float = Field(
        0.05, ge=0, lt=1, description="widths that all change by this fraction or less are final"
    )
    drop: float = Field(
        0.03, ge=0, le=1, description="allowed loss of validation accuracy against stage 0"
    )
    blocks: Literal["mean", "max"] = Field(
        "mean", description="density of channels that several ReLUs carry"
    )
    weights: Literal["fresh", "inherit"] = Field(
        "fresh", description="a narrower net is drawn anew, or keeps the channels of largest AD"
    )
    remove_layers: bool = Field(
        False, description="take out convolutions of a plain chain whose width falls below 2"
    )
    every: int = Field(1, ge=1, description="measure in each n-th training step; 1: exact")

    @model_validator(mode="after")
    def _consistent(self) -> ActivationDensity:
        if self.most < max(self.window, self.least):
            raise ValueError(f"most {self.most} must reach window and least")
        if self.remove_layers and self.weights == "inherit":
            raise ValueError("remove_layers needs weights 'fresh': neighbours change size")
        return self

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train and narrow, stage by stage; a point at the end of each."""
        if trainer.recipe().compile:
            raise SurgeryError("the ReLUs of a compiled net cannot be seen: set compile to false")
        stage: Stage | None = None
        while True:
            stage = Stage(model, trainer, self.every, self.combined, stage)
            if not stage.activity.groups and stage.index == 0:
                raise SurgeryError(
                    f"{type(model).__name__} has no removable channels with a ReLU behind them; "
                    "activation density counts the zeros of ReLUs"
                )
            density = self.sized(stage)
            if not density:
                stage.train(min(trainer.epochs(), trainer.left))
            stage.report()
            yield model
            if not density:
                return
            model = self.narrow(stage, density)

    def sized(self, stage: Stage) -> dict[str, Tensor]:
        """Train until saturation, (2); the density of every group's channels, (C,).

        Empty if this net is the last.
        """
        if stage.index == self.stages or not stage.activity.groups:
            return {}
        epochs = self.longest(stage.trainer)
        stage.train(epochs, self.saturated)
        if not stage.series:
            raise TrainingFailed(
                f"a stage of {epochs:g} epochs, measured in each {self.every}th step: no reading"
            )
        stage.ended = "saturated" if self.saturated(stage.series) else "most"
        density = stage.density(self.window)
        changes = [1 - width(float(d.mean()), len(d)) / len(d) for d in density.values()]
        if stage.fallen() > self.drop:
            stage.ended += ", drop"
        elif max(changes) <= self.settled:
            stage.ended += ", settled"
        else:
            return density
        return {}

    def longest(self, trainer: Trainer) -> float:
        """Epochs after which a stage ends."""
        if trainer.spec.tier == "paper":
            return self.most
        return min(self.most, (1 - self.reserve) * trainer.epochs() / self.stages)

    def saturated(self, series: Sequence[Mapping[str, float]]) -> bool:
        """Whether every layer's density, read after each epoch, has come to rest, (2)."""
        if len(series) < max(self.least, self.window):
            return False
        last = series[-self.window :]
        return all(
            max(x[name] for x in last) - min(x[name] for x in last) < self.eps for name in last[0]
        )

    def combined(self, reading: Tensor) -> Tensor:
        """(n, C), densities behind n ReLUs -> (C,): their mean, or those of the densest ReLU."""
        return reading.mean(0) if self.blocks == "mean" else reading[reading.mean(1).argmax()]

    def narrow(self, stage: Stage, density: Mapping[str, Tensor]) -> nn.Module:
        """The next net: widths by (3), the densest channels first, weights as `weights` says."""
        spec, shape = stage.trainer.spec, stage.trainer.shape
        widths = {n: width(float(d.mean()), len(d)) for n, d in density.items()}
        stage.after |= widths
        keep = {n: keep_top(d, widths[n]) for n, d in density.items()}
        smaller = channels.shrink(stage.model, shape, keep)
        if self.weights == "inherit":
            stage.trainer.pruned(smaller)
            return smaller
        if self.remove_layers:
            self.remove(smaller, stage)
        name = ("method", spec.method, spec.arch, spec.dataset, spec.seed)
        with rng.forked(*name, f"stage {stage.index + 1}"):
            return models.reinitialise(smaller, spec.arch)

    def remove(self, model: nn.Module, stage: Stage) -> None:
        """Take the convolutions of a single channel out of `model` where it is a plain chain."""
        for group in stage.activity.groups:
            if stage.after[group.name] > 1:
                continue
            try:
                bypass(model, stage.trainer.shape, group.producers[0])
                outcome, stage.after[group.name] = "removed", 0
            except SurgeryError as reason:
                outcome = f"kept: {reason}"
            stage.trainer.log("layer_removal", stage=stage.index, layer=group.name, outcome=outcome)


def width(density: float, size: int) -> int:
    """Channels that a layer of `size` keeps, equation (3); a half is rounded up."""
    return max(1, math.floor(density * size + 0.5))
