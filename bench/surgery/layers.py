"""Which weights can be pruned, and how a weight looks as the matrix of its matrix product."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that may be pruned, by dotted name, in the order of the model's modules.

    Weights with two or more dimensions of convolutions, linear layers and recurrent layers; biases,
    normalisation, embeddings and positions never (the usual rule; SAP's code has the same).
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)):
            found[f"{prefix}weight"] = cast(nn.Parameter, module.weight)
        elif isinstance(module, RECURRENT):
            found |= {
                prefix + p: w for p, w in module.named_parameters() if p.startswith("weight_")
            }
    return found


def parts(model: nn.Module, dense: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """The weights of `model` that stand for each prunable weight of `dense`, by its name.

    One of the same name, as a rule; the factors of a layer that was replaced by several; none of a
    layer that is gone. Raises `ValueError` for a weight that stands for none.
    """
    stored, names = prunable(model), prunable(dense)
    owners = {name.rpartition(".")[0]: name for name in names}
    found: dict[str, dict[str, nn.Parameter]] = {name: {} for name in names}
    for name, weight in stored.items():
        owner, whole = name, name.rpartition(".")[0]
        while owner not in names and whole:
            owner, whole = owners.get(whole, owner), whole.rpartition(".")[0]
        if owner not in names:
            raise ValueError(f"{name} stands in the place of no weight of the dense net")
        found[owner][name] = weight
    return found


def gates(model: nn.Module) -> dict[str, int]:
    """The number of gates stacked along each prunable weight's first axis; 1 unless recurrent."""
    count = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}
    stacked = {}
    for name, module in model.named_modules():
        if isinstance(module, RECURRENT):
            for parameter, _ in module.named_parameters():
                stacked[f"{name}.{parameter}" if name else parameter] = count[type(module)]
    return {name: stacked.get(name, 1) for name in prunable(model)}


def matrix(weight: Tensor) -> Tensor:
    """`weight` (out, in, *kernel) as (out, in * kernel).

    A row per output, reduced over its columns.
    """
    return weight.flatten(1)


def scoring_copy(model: nn.Module, batch_statistics: bool = False) -> nn.Module:
    """A copy of `model` whose gradients score its weights: nothing is drawn, `model` is untouched.

    In eval mode, so without dropout; `batch_statistics`: but for batch norms, which an untrained
    net needs to take from the batch, as in training.
    """
    copied = copy.deepcopy(model).eval()
    copied.zero_grad()
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN has no backward in eval mode
            module.train()
            module.dropout = 0.0
        elif batch_statistics and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return copied
