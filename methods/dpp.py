"""DPP: dynamic probabilistic pruning; which k of n weights stay is drawn anew for every batch.

Gonzalez-Carabarin, Huijben, Veeling, Schmid, van Sloun, "Dynamic Probabilistic Pruning", IEEE TNNLS
(arXiv 2105.12686). Verified: the first author's code and the abstract. The paper's text, with its
tables and the formulas of its two metrics, was out of reach.

A group is n candidates of which exactly k survive (by default the n inputs of one output), with
trained logits phi. For every batch:
1. z = phi + s e, e Gumbel noise; the k largest z stay: k draws without replacement.           (1)
2. Backward the draws are relaxed: the sum over them of softmax(z / tau) of what is not drawn yet,
   straight through, with the same noise.                                                      (2)
3. The net sees mask * W, quantised if asked: W learns where it is kept, phi everywhere, since
   dL/dmask = dL/d(mask * W) W.                                                                (3)
4. The temperature falls linearly over the epochs, tau(e) = 5 (1 - 0.9 e / (E - 1)).           (4)
5. lambda sum_g H(softmax(phi_g)) is added to the loss.                                        (5)

Deviations from the paper (that is, from its code; all are decisions of this benchmark):
- At the fraction `freeze` of the training the mask becomes the k largest phi, and the weights learn
  on with the mask that they will have; validation uses it before, too. Their code always draws.
- With Adam the penalty's size hardly matters, only where its gradient outweighs the task's: where k
  is large, phi then ends near a single sure candidate, and the other k - 1 stay a matter of chance
  (history: confidence near 1 with a high turnover). `entropy: 0` avoids that.
- Winners leave in the order of their draws, with `sigmoid`, too; in the code in the order of their
  indices (`softmax_by_index`). Kernel masks are transposed where the code reshapes them, and the
  penalty is taken along the candidates, where the code has another axis for kernels.
- Under SGD, momentum and decay still move a weight in the batches that mask it. The logits' rate
  stays constant. A row that is shorter than `tiles` stays dense with `uneven: dense`. Tiles of
  feature maps are refused.
- Noise scale 0.05, the code's for ResNet-18 (LeNet-5: 0.1 and 0.01; its first version: 1), so draws
  come from softmax(phi / 0.05), sure from the start. With `noise: 1` logits need more steps than
  short trainings have: ResNet-8 on digits at density 0.05 ends at 19 and 31 % (216 steps of draws,
  two seeds, validation), with 0.05 at 97 %, without noise and penalty at 97 %.
- The temperature ends with the draws; in the code it may never have left 5.
- Adam steps the logits whatever steps the weights, at its own rate (`logit_lr`, 50 times
  the code's one Adam, for trainings this short), without weight decay: under SGD the gradients of
  logits would be too small to move them (judged by their size, not tried).
- The first weights are divided by the root of their layer's density, so that activations keep their
  variance: nets without normalisation do not start to learn otherwise (`rescale`; the code trains
  with Adam).
- Every prunable layer has the same density, so that densities compare; the authors set each k by
  hand and leave the output layer dense (`dense_output`).
- Feature maps are multiplied where they are read, and removed at the end.
- Quantisation divides its scale out again, where the code leaves integers, on which nets without
  batch norm do not train; its gradient has slope 1. `quantiser: author` has the code's gradient,
  still on our scale and without its quantised biases and activations. Ternary is not in the code
  (recalled), so with either gradient it is ours. A kept weight may be quantised to zero: then less
  is left than `density`.
- The last epoch is kept, not the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bench.method import Density, Method
from bench.selection import Selection
from bench.surgery import Masks, PatternName, Uneven, channels, prunable
from bench.surgery.layout import Layout
from bench.surgery.quantise import Kind, Mode, quantise
from bench.surgery.topk import Relaxation
from bench.trainer import Trainer

FIRST = {"kernel": (1e-5, 1.0), "channel": (5e-3, 1.0)}
"""Lambda and the deviation of the first logits where they are not those of single weights."""


class Dpp(Method):
    """Learn which k of n stay by Gumbel top-k, while the weights learn."""

    version = 2
    start = "init"
    family = "probabilistic"
    patterns = ("k-of-n", "N:M", "kernel", "channel", "unstructured")
    citation = "Gonzalez-Carabarin et al., IEEE TNNLS 2022"

    density: Density = 0.1
    pattern: PatternName = "k-of-n"
    granularity: Literal["output", "tap", "filter"] = Field(
        "output",
        description="what a weight competes with: its output's weights; k-of-n: its 2-D kernel's "
        "(tap); unstructured: those of all outputs at its input tap (filter)",
    )
    tiles: int = Field(1, ge=1, description="T, equal parts of a row, each with k of its own")
    uneven: Uneven = Field("refuse")
    dense_output: bool = Field(False, description="leave the last layer dense, as the authors do")
    relaxation: Relaxation = Field(
        "softmax", description="gradient of the draws; the authors': softmax_by_index, sigmoid"
    )
    noise: float = Field(
        0.05, ge=0, description="s, scale of the Gumbel noise; 1: draws from softmax(phi)"
    )
    tau: float = Field(5.0, gt=0, description="temperature in the first epoch")
    tau_end: float = Field(0.5, gt=0, description="temperature in the last epoch of draws")
    entropy: float | None = Field(
        None,
        ge=0,
        description="lambda of the penalty; none: 5e-5, of kernels 1e-5, of feature maps 5e-3",
    )
    init: float | None = Field(
        None,
        ge=0,
        description="standard deviation of the first logits; none: 0.5, of kernels and feature "
        "maps 1",
    )
    rescale: bool = Field(
        True, description="start from weights divided by the root of the density they are seen at"
    )
    logit_lr: float = Field(0.05, gt=0, description="learning rate of the logits, of Adam")
    freeze: float = Field(
        0.6, gt=0, le=1, description="fraction of the training after which the mask stays"
    )
    quantise: Literal["none"] | Kind = Field("none", description="what the weights are put on")
    quantiser: Mode = Field("ste", description="gradient of the quantised weights")

    @model_validator(mode="after")
    def _fits(self) -> Dpp:
        if reason := self.layout.refusal():
            raise ValueError(reason)
        return self

    @property
    def layout(self) -> Layout:
        """How weights are cut into groups."""
        return Layout(self.pattern, self.granularity, self.tiles, self.uneven, self.dense_output)

    def temperature(self, epoch: int, epochs: int) -> float:
        """Equation (4) for `epoch` (from 0) of `epochs`."""
        return self.tau + (self.tau_end - self.tau) * min(1.0, epoch / max(1, epochs - 1))

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train weights and logits together, then the weights with the last mask; one point."""
        found, k = self.layout.groups(model, trainer.shape, self.density)
        init = FIRST.get(self.pattern, (5e-5, 0.5))[1] if self.init is None else self.init
        device = next(model.parameters()).device
        selection = Selection(
            found, k, init, self.noise, self.relaxation, trainer.generator, device
        )
        if self.rescale:
            selection.rescale_(model)
        self.learn(model, trainer, selection)
        if self.quantise != "none" or self.pattern != "channel":
            own: dict[str, Tensor] = dict(model.named_parameters())
            with torch.no_grad():
                for name, value in self.seen(model, own, selection.masks(None)).items():
                    own[name].copy_(value)
        if self.pattern == "channel":
            keep = {name: kept[0] for name, kept in selection.kept().items()}
            model = channels.shrink(model, trainer.shape, keep)
        yield model

    def learn(self, model: nn.Module, trainer: Trainer, selection: Selection) -> None:
        """All of the training: with draws up to the freeze, then with the masks of the likeliest.

        History: at the end of every epoch with draws, a line for each layer.
        """
        epochs, per_epoch = trainer.epochs(), trainer.steps(1)
        draws, drawn = max(1, round(self.freeze * trainer.steps(epochs))), 0
        adam = torch.optim.Adam(selection.parameters(), lr=self.logit_lr)
        rate = FIRST.get(self.pattern, (5e-5, 0.5))[0] if self.entropy is None else self.entropy
        held, zeroed = Masks(), False

        def tau() -> float:
            return self.temperature(drawn // per_epoch, math.ceil(draws / per_epoch))

        def through(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
            if zeroed and self.quantise == "none":
                return {}
            masks = selection.masks(tau() if torch.is_grad_enabled() else None)
            return self.seen(model, parameters, masks)

        def penalty(model: nn.Module) -> Tensor:
            return rate * selection.entropy() if drawn < draws else torch.zeros(())

        def on_step(model: nn.Module, step: int) -> None:
            nonlocal drawn, zeroed
            if drawn == draws:
                zeroed = bool(held)  # in this step the trainer has zeroed the stored weights
                return
            adam.step()
            adam.zero_grad()
            if step % per_epoch == 0 or step == draws:
                with trainer.spend("score"):
                    for line in selection.report():
                        trainer.log(
                            "selection", epoch=step / per_epoch, step=step, tau=tau(), **line
                        )
            drawn = step
            if drawn == draws:
                selection.freeze()
                if self.pattern != "channel":
                    held.update(selection.held(model))

        trainer.fit(model, epochs, through=through, on_step=on_step, penalty=penalty, masks=held)

    def seen(
        self, model: nn.Module, own: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Equation (3): the weights, `own`, masked and quantised."""
        if self.quantise == "none":
            return {name: own[name] * mask for name, mask in masks.items()}
        return {
            name: quantise(own[name], self.quantise, masks.get(name), self.quantiser)
            for name in prunable(model)
        }
