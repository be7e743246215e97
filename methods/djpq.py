"""DJPQ: channels and bit-widths of all layers are learned together, against one bill of operations.

Wang, Lu, Blankevoort, "Differentiable Joint Pruning and Quantization for Hardware Efficiency", ECCV
2020 (arXiv 2007.10463). Verified: the abstract; gates and their penalty, from VIBNet's code.
Second hand: the quantiser's gradients and (3) (GETA). Recalled, weakly: the sigmoid in (3), the sum
in (4), both rules of (5). The paper's text was out of reach.

1. Each channel has a gate z = mu + sigma e, e ~ N(0, 1) for each sample; each prunable layer a
   quantiser for its weights and one for what it reads, with learned step d, range q_m and exponent
   t, hence b bits (`bench.surgery.learned_levels`).                                         (1)
2. R_VIB = sum_l 1/2 sum_c ln(1 + mu^2 / sigma^2), times a factor for the size of l's maps.   (2)
3. BOP_l = MAC_l (1 - P_in) (1 - P_out) b_w b_a, P the share of channels that goes, each counted by
   a sigmoid of mu^2 / sigma^2 against a threshold.                                           (3)
4. Train on CE + gamma R_VIB + beta sum_l BOP_l.                                              (4)
5. Channels of small mu^2 / sigma^2 go. With `power_of_two`, b is 2, 4, 8, 16 or 32.          (5)

Deviations from the paper:
- The threshold of (5) is the one, over all layers, that leaves the density asked for; that of (3)
  is `threshold` (recalled, weakly), in logarithms, and the bill is relative to the dense net's at
  32 bits, both of the prunable weights only. It charges all weights of the channels that stay; the
  harness counts those that are not zero. A kept weight may be rounded to zero, so less than
  `density` is left.
- Channels go after the fraction `share` of the training, and the gates with them: mu^(1/t) is
  multiplied into the weights that read a channel, whose ranges and steps grow with the largest of
  them (the quantised net is the one before but for rounding and, where
  weights lie beyond q_m, for what is clipped). So that it can, a gate stands behind
  the quantiser of what a layer reads (coupled channels share it), where the paper has it behind the
  ReLU of what makes it. What two layers read has a quantiser in front of each, and what passes them
  by on a skip connection has none, where the paper quantises what a layer makes (recalled).
- Weights and biases of what makes a channel go with it. Recurrent layers, whose states would need
  quantisers of their own, and channels that a grouped convolution reads in groups are refused.
  Biases and normalisation keep 32 bits, attention's own products are not quantised.
- d, q_m - q_s and t are learned as logarithms: with the rates of a short training, q_m and t of
  some layers went below zero otherwise. d is held where there is a level beside zero. Bits are
  never rounded (but with `power_of_two`): what is stored needs at most the next larger integer,
  and 32 beyond 16.
- gamma, beta, the sigmoid's `width` and the rates are ours (the paper's are unknown; VIBNet's gamma
  is 1e-5, for 300 epochs). Gates and quantisers learn by Adam, at constant rates for trainings this
  short.
- The factor of (2) is the side of a map where it is read (VIBNet: the area where it is made, times
  multipliers by stage; for VGG the product is the side).
- What is not negative in a first batch has no sign bit (recalled, weakly), and what is later counts
  as zero. First and last layer are quantised, too.
- Training starts from the dense net, and q_m from the largest value (of weights; of a batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.measure import macs
from bench.method import Density, Method
from bench.surgery.bottleneck import Gates
from bench.surgery.channels import SurgeryError
from bench.surgery.layers import RECURRENT
from bench.surgery.quantised_input import WHOLE
from bench.surgery.quantisers import Quantisers, What, before_layers, reads
from bench.surgery.views import Channels
from bench.trainer import Trainer


class Djpq(Method):
    """Learn gates of channels and bit-widths of weights and activations in one training."""

    family = "joint quantisation"
    patterns = ("channel",)
    citation = "Wang et al., ECCV 2020"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    gamma: float = Field(1e-4, ge=0, description="weight of the gates' information, (2)")
    beta: float = Field(10.0, ge=0, description="weight of the bit operations, (3)")
    threshold: float = Field(1e-3, gt=0, description="mu^2 / sigma^2 where a channel counts half")
    width: float = Field(4.0, gt=0, description="of the sigmoid around it, in ln(mu^2 / sigma^2)")
    maps: Literal["side", "area", "none"] = Field(
        "side", description="the size of a layer's maps that multiplies its information"
    )
    quantise: What = Field("both", description="both: weights and what they are multiplied with")
    bits: float = Field(8, ge=2, le=16, description="bit-width that training starts from")
    power: bool = Field(True, description="learn the exponent t; else levels are evenly spaced")
    dead: float = Field(0.0, ge=0, description="q_s: smaller absolute values become zero")
    power_of_two: bool = Field(False, description="only bit-widths of 2, 4, 8, 16 and 32")
    gate_lr: float = Field(0.02, gt=0, description="learning rate of the gates, of Adam")
    quantiser_lr: float = Field(5e-3, gt=0, description="that of the quantisers")
    share: float = Field(0.5, gt=0, lt=1, description="of the training, before channels go")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train with gates and quantisers, remove channels, train on; one point."""
        if any(isinstance(layer, RECURRENT) for layer in model.modules()):
            raise SurgeryError("the states of a recurrent layer would need quantisers")
        view = Channels(model, trainer.shape)
        view.kept(self.density, {})  # out of reach is refused before training
        gates = Gates(view, trainer.generator("gates"))
        with trainer.spend("score"):
            read = reads(model, next(trainer.samples())[0])
            for name, x in read.items():
                gates.measure(name, x)
            quantisers = Quantisers(
                model, read, self.quantise, self.bits, self.dead, self.power_of_two
            )
        adam = torch.optim.Adam(
            [
                {"params": gates.parameters(), "lr": self.gate_lr},
                {"params": quantisers.parameters(self.power), "lr": self.quantiser_lr},
            ]
        )
        work, steps, per_epoch = macs(model, trainer.shape), trainer.steps(), trainer.steps(1)
        due = max(1, round(self.share * steps))
        keep: dict[str, Tensor] = {}
        left: dict[str, Tensor] = {}

        def before(name: str, x: Tensor) -> Tensor:
            x = quantisers.read(name, x)
            return x if keep else gates.at(name, x)

        def see(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
            gates.forget()
            seen = view.seen(own, keep)
            return seen | quantisers.seen({**own, **seen})

        def penalty(model: nn.Module) -> Tensor:
            if keep:
                return self.beta * self.bill(left, work, quantisers)
            soft = view.left(gates.kept(self.threshold, self.width))
            power = {"none": 0, "side": 1, "area": 2}[self.maps]
            return self.beta * self.bill(soft, work, quantisers) + (
                self.gamma * gates.information(power)
            )

        def on_step(model: nn.Module, step: int) -> None:
            adam.step()
            adam.zero_grad()
            quantisers.hold()
            if step == due:
                with trainer.spend("prune"):
                    ratio = {n: r.detach().cpu() for n, r in gates.ratio().items()}
                    keep.update(view.best(ratio, self.density))
                    left.update(view.left(keep))
                    with quantisers.following(dict(model.named_parameters())):
                        gates.fold(quantisers.power)
            if step in (due, steps) or step % per_epoch == 0:
                stay = keep or {n: r > self.threshold for n, r in gates.ratio().items()}
                for line in self.report(view, quantisers, stay):
                    trainer.log("precision", step=step, **line)

        with before_layers(model, before):
            trainer.fit(model, through=see, penalty=penalty, on_step=on_step)
        smaller, _ = view.without(keep)
        quantisers.finish(smaller)
        yield smaller

    def bill(
        self, left: Mapping[str, Tensor], work: Mapping[str, int], quantisers: Quantisers
    ) -> Tensor:
        """sum_l BOP_l, (3), over that of the dense net at 32 bits.

        `left`: (1 - P_in) (1 - P_out) by weight; `work`: MAC_l.
        """
        whole = sum(work[n] for n in left) * WHOLE**2
        parts = []
        for name, share in left.items():
            weight, activation = quantisers.bits(name)
            parts.append(work[name] / whole * share * weight * activation)
        return torch.stack(parts).sum()

    @torch.no_grad()
    def report(
        self, view: Channels, quantisers: Quantisers, keep: Mapping[str, Tensor]
    ) -> Iterator[dict[str, Any]]:
        """For each prunable weight its bits and exponents, and how many channels it still makes."""
        made = view.made(keep)
        for name in made:
            own, read = quantisers.of(name)
            weight, activation = quantisers.bits(name)
            yield {
                "layer": name,
                "width": made[name],
                "weight_bits": float(weight),
                "activation_bits": float(activation),
                "weight_power": float(own.power) if own else 1.0,
                "activation_power": float(read.power) if read else 1.0,
            }
