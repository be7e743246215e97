"""The block-sparse path with parameters that were searched on this very GPU, from the repository.

As `bsr`, but for the kernel's parameters: `bench/kernels/tuned/<device>.json`, which
`python -m bench tune` fills. A shape that is not in there is an error, not the default.
"""

from __future__ import annotations

import torch

from bench.kernels import KernelError
from bench.products import blocks, pointwise

DTYPES = {"cuda": ("bf16",)}
MODES = ("eager", "graph")
LAYOUTS = ("nhwc",)
supports, convert = pointwise.by_layer(blocks.refusal, lambda layer: blocks.Blocks(layer, known))


def known(product: blocks.Blocks, tokens: int) -> blocks.Parameters:
    """What the table of this GPU says; `KernelError` where it says nothing."""
    device, key = torch.cuda.get_device_name(), blocks.tuning_key(product, tokens)
    found = blocks.table(device)
    if key not in found:
        raise KernelError(f"no tuned parameters for {key} on {device}: run python -m bench tune")
    return found[key]
