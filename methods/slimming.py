"""Network slimming: the scales of batch norms are pushed to zero, and channels go by them.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017 (arXiv 1708.06519). Recalled.

1. Train with lambda sum |gamma| added to the loss, over the scales of all batch norms.          (1)
2. Remove the channels of smallest |gamma| over all layers.                                      (2)
3. Train on.

Deviations from the paper:
- Half of the training is (1), half comes after the pruning, to spend what all methods spend; the
  paper trains each in full, as the paper tier does.
- Channels that several batch norms scale have their mean |gamma|; channels without any stay. The
  paper puts a channel selection layer in front of residual blocks instead, which would stay in
  the net.
- Scales start from 1, as those of all methods; in the code from 0.5. lambda is 1e-4 everywhere; the
  paper has 1e-5 for ResNets and DenseNets.
- Nets without batch norm are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import PatternError, channels
from bench.surgery.allocation import one_threshold
from bench.surgery.patterns import keep_top
from bench.surgery.prune import channel_counts, even_counts
from bench.trainer import Trainer


class Slimming(Method):
    """Train towards few scales, remove the channels of the smallest."""

    start = "init"
    family = "filter"
    patterns = ("channel",)
    citation = "Liu et al., ICCV 2017"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    lam: float = Field(1e-4, ge=0, description="lambda, weight of the sum of |gamma|")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train with the penalty, remove channels, train on; one point."""
        found = channels.groups(model, trainer.shape)
        scales = scales_of(model)

        def penalty(model: nn.Module) -> Tensor:
            return self.lam * torch.stack([g.abs().sum() for g in scales.values()]).sum()  # (1)

        if not any(place.name in scales for group in found for place in group.slices):
            raise PatternError("no batch norm scales a channel that can be removed")
        whole = {g.name: g.size for g in found}
        able = [g for g in found if scale_of(g, scales) is not None]
        # a density out of reach is refused before training
        channel_counts(model, found, self.density, lambda part: whole | even_counts(able, part))
        trainer.fit(model, trainer.epochs(2), penalty=penalty)
        scores = {g.name: scale_of(g, scales) for g in able}
        scaled = {name: s for name, s in scores.items() if s is not None}

        def counts(fraction: float) -> dict[str, int]:
            return whole | one_threshold(scaled, dict.fromkeys(scaled, 1), fraction)  # (2)

        kept = channel_counts(model, found, self.density, counts)
        keep = {name: keep_top(s, kept[name]) for name, s in scaled.items()}
        for name, s in scaled.items():
            trainer.log(
                "scales", layer=name, width=kept[name], of=whole[name], mean=float(s.mean())
            )
        model = channels.shrink(model, trainer.shape, keep)
        trainer.pruned(model)
        trainer.fit(model, trainer.epochs(2))
        yield model


def scales_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The scales of all batch norms, by name."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
    }


def scale_of(group: channels.Group, scales: dict[str, nn.Parameter]) -> Tensor | None:
    """|gamma| of each channel of `group`, the mean over its batch norms; none without any."""
    found = [
        scales[place.name].detach().abs().cpu()[place.index].mean(1)
        for place in group.slices
        if place.name in scales and place.output
    ]
    return torch.stack(found).mean(0) if found else None
