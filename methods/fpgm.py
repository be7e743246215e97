"""FPGM: the filters that the others can replace go.

He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
Acceleration", CVPR 2019 (arXiv 1811.00250). Recalled.

1. Score each filter by the sum of its distances to the other filters of its layer:
   s_i = sum_j |W_i - W_j|_2; the smallest are nearest to the geometric median.                 (1)
2. Remove the same fraction of every layer's filters, with all that reads them.
3. Train on.

Deviations from the paper:
- It prunes once and removes filters for good, to compare with the other filter criteria; the paper
  zeroes them after every epoch of a training in which they may come back (soft filter pruning).
- Filters that are coupled by residual additions go together, by the sum of their scores, since
  neither can go alone.
- Filters of a grouped convolution are compared across its groups, though they read other channels:
  of a depthwise one every group has one filter only.
- Neurons of fully connected layers count as filters; of a recurrent layer each gate's rows are
  compared with one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, gates, prunable, prune
from bench.surgery.layers import TRANSPOSED
from bench.trainer import Trainer


class Fpgm(Method):
    """Remove the filters nearest to their layer's geometric median."""

    family = "filter"
    patterns = ("channel",)
    citation = "He et al., CVPR 2019"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    allocation: Allocation = "layerwise"

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score, remove, fine-tune; one point."""
        stacked, transposed = gates(model), transposed_weights(model)
        scores = {}
        for name, weight in prunable(model).items():
            w = weight.detach()
            filters = w.transpose(0, 1) if name in transposed else w
            far = torch.cat([distances(part) for part in filters.chunk(stacked[name])])
            # a channel's score is the sum over its weights
            each = (far / filters[0].numel()).view(-1, *[1] * (w.dim() - 1)).expand(filters.shape)
            scores[name] = (each.transpose(0, 1) if name in transposed else each).contiguous()
        model, masks = prune(
            model,
            scores,
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            shape=trainer.shape,
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model


def distances(filters: Tensor) -> Tensor:
    """Equation (1): for each of (filters, ...) the sum of its distances to all, (filters,)."""
    flat = filters.flatten(1).double()
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


def transposed_weights(model: nn.Module) -> set[str]:
    """The weights whose filters lie along their second axis."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, TRANSPOSED)
    }
