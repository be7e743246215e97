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
from bench.surgery.views import Channels
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
        view = Channels(model, trainer.shape)
        scales = scales_of(model)

        def penalty(model: nn.Module) -> Tensor:
            return self.lam * torch.stack([g.abs().sum() for g in scales.values()]).sum()  # (1)

        scaled = {n: g for n, g in view.groups.items() if scale_of(g, scales) is not None}
        if not scaled:
            raise PatternError("no batch norm scales a channel that can be removed")
        # a density out of reach is refused before training
        view.kept(self.density, {n: k for n, k in view.sizes.items() if n not in scaled})
        trainer.fit(model, trainer.epochs(2), penalty=penalty)
        scores = {n: s for n, g in scaled.items() if (s := scale_of(g, scales)) is not None}
        keep = view.best(scores, self.density)  # (2)
        for name, s in scores.items():
            width = int(keep[name].sum())
            trainer.log("scales", layer=name, width=width, of=len(s), mean=float(s.mean()))
        model, _ = view.without(keep)
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
