"""A layer in factored form: a chain of plain layers that computes it with a structured kernel.

No non-linearity lies between the factors, so the chain is one convolution (or linear layer), whose
kernel `compose` returns. For C inputs, O outputs and the sum S of the kernel's lengths:

| mode | kernel | factors | weights |
| --- | --- | --- | --- |
| `rank1` | K[o,c,i,j] = a[o,c] b[o,i] g[o,j] | 1x1, then depthwise by axis | O (C + S) |
| `separable` | K[o,c,i,j] = b[o,c,i] g[o,c,j] | by axis, on C O channels | C O S |
| `cp` | K[o,c,i,j] = sum_q d[q,o] a[q,c] b[q,i] g[q,j] | 1x1, depthwise, 1x1 | Q (C + S + O) |

An axis of length 1 has no factor and does not count in S: a number that other factors absorb. The
first factor takes its stride and padding. Each other axis keeps its stride, padding, dilation and
output padding in its own factor, which is exact for every padding mode, since only the last factor
has a bias. A linear layer is a convolution without axes: `cp` makes it a product of two matrices.

Multiply-adds: `rank1` and `cp` do their first 1x1 at every position, so with a stride they save
less than weights, or nothing where the stride is the kernel's length (a transformer's patches).
`separable` without stride saves as many multiply-adds as weights, but has C O channels between its
factors: C times the memory of the layer's output. Its factors are grouped convolutions, first by
input, then by output; between them a channel shuffle regroups the (input, output) pairs. It is many
times slower than the dense layer in practice, as measured on a CPU: 30 to 50 times in the forward
pass of a 3x3 layer of 64 -> 64 channels, and 12 to 14 times (some 30 -> 390 ms of CPU time) in a
training step of `wave_net` at batch 16. The shuffle would mix unbatched inputs along another axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.surgery import leaves
from bench.surgery.allocation import AllocationError, water_fill
from bench.surgery.layers import CONVOLUTIONS, TRANSPOSED
from bench.surgery.probe import SurgeryError

Mode = Literal["rank1", "separable", "cp"]
KINDS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
NEUTRAL = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}


def refusal(layer: nn.Module) -> str | None:
    """Why `layer` cannot be written as factors; none if it can."""
    if type(layer) not in KINDS:
        return f"{type(layer).__name__} is no plain convolution or linear layer"
    if getattr(layer, "groups", 1) != 1:
        return f"it has {layer.groups} groups already"
    return None


def weights(layer: nn.Module, mode: Mode, rank: int = 1) -> int:
    """Weights, without bias, of `layer` in factors; its own number where the mode changes nothing.

    `rank` is Q of `cp`. Raises `SurgeryError` where `refusal` has a reason.
    """
    inputs, outputs, kernel = _sizes(layer)
    axes = [k for k in kernel if k > 1]
    if mode == "cp":
        return rank * (inputs + sum(axes) + outputs)
    if mode == "rank1":
        return outputs * (inputs + sum(axes))
    return inputs * outputs * (sum(axes) or 1)


def factorise(
    layer: nn.Module, mode: Mode, rank: int = 1, generator: torch.Generator | None = None
) -> nn.Sequential:
    """Untrained factors in the place of `layer`, on its device; `layer` itself stays as it is.

    The composed kernel has exactly the mean square of the layer's weights, so it keeps the dense
    layer's variance, whatever rule drew it; where that rule does not preserve variance, neither do
    the factors. Before that scale, which the channel factor carries, no factor changes the variance
    of white data: 1-D filters have norm 1 (variance 1/k) and channel factors variance 1/fan-in, so
    under He's rule Var(a) = 2 / C_in in `rank1`. `generator`: a CPU stream for the draws.

    Raises:
        SurgeryError: `refusal` has a reason; a rank below 1; a mode that leaves nothing to factor.
    """
    inputs, outputs, kernel = _sizes(layer)
    axes = [a for a, k in enumerate(kernel) if k > 1]
    if mode == "cp" and rank < 1:
        raise SurgeryError(f"rank {rank}: a factored layer has rank 1 or more")
    if (mode == "rank1" and not axes) or (mode == "separable" and len(axes) < 2):
        raise SurgeryError(f"mode {mode!r} has nothing to split in a kernel of lengths {kernel}")
    unit = [a for a in range(len(kernel)) if a not in axes]
    chain = nn.Sequential()
    if mode == "separable":
        pairs = inputs * outputs
        chain.add_module(f"axis{axes[0]}", _factor(layer, inputs, pairs, [axes[0], *unit], inputs))
        for a in axes[1:-1]:
            chain.add_module(f"axis{a}", _factor(layer, pairs, pairs, [a], pairs))
        # from the outputs of each input together to the inputs of each output together
        chain.add_module("shuffle", nn.ChannelShuffle(inputs))
        chain.add_module(f"axis{axes[-1]}", _factor(layer, pairs, outputs, [axes[-1]], outputs))
    else:
        inner = rank if mode == "cp" else outputs
        chain.add_module("inputs", _factor(layer, inputs, inner, unit))
        for a in axes:
            chain.add_module(f"axis{a}", _factor(layer, inner, inner, [a], inner))
        if mode == "cp":
            chain.add_module("outputs", _factor(layer, inner, outputs, []))
    if isinstance(layer.bias, Tensor):
        chain[-1].bias = nn.Parameter(layer.bias.detach().clone())
    carrier = chain.get_submodule("inputs") if mode == "rank1" else chain[-1]
    _initialise(chain, _weight(layer), carrier, generator)
    return chain.train(layer.training)


def compose(factors: nn.Sequential) -> Tensor:
    """The weight, in the layout of the layer that was replaced, that `factors` stand for."""
    kernel: Tensor | None = None
    paired = False
    for factor in factors:
        if isinstance(factor, nn.ChannelShuffle):
            assert kernel is not None
            # (input, output) pairs on the first axis become (output, input)
            kernel = kernel.view(factor.groups, -1, *kernel.shape[2:]).transpose(0, 1)
            paired = True
            continue
        weight = _by_output(_weight(factor), factor)
        if kernel is None:
            kernel = weight
        elif paired or weight[0, 0].numel() > 1:  # a filter of every channel, or pair, by itself
            kernel = kernel * weight
        else:
            kernel = torch.tensordot(weight.flatten(1), kernel, 1)
    assert kernel is not None
    return kernel.transpose(0, 1) if isinstance(factors[0], TRANSPOSED) else kernel


def replace(
    model: nn.Module, factors: Mapping[str, nn.Sequential], shape: tuple[int, ...]
) -> nn.Module:
    """`model`, changed in place, with `factors` in the place of the layers that they are named by.

    Raises:
        SurgeryError: the net is itself such a layer, or reads the weights of one, so nothing can
        replace it; the second is found by forward passes of inputs of `shape` without arithmetic,
        as in evaluation and as in training.
    """
    from bench.measure import meta

    if "" in factors:
        raise SurgeryError(f"the net is a bare {type(model).__name__}: nothing holds its factors")
    for name, chain in factors.items():
        model.set_submodule(name, chain)
    twin = meta.twin(model)
    try:
        meta.forward(twin, shape)
        # a net that needs values to train, as for a random depth, has no pass without arithmetic
        with suppress(RuntimeError):
            meta.forward(twin.train(), shape, batch=2)
    except AttributeError as error:
        raise SurgeryError(
            f"{type(model).__name__} looks into a layer that was to be factorised: {error}"
        ) from error
    return model


def ranks(sizes: Mapping[str, int], steps: Mapping[str, int], budget: int) -> dict[str, int]:
    """Q of each layer, such that all together have at most `budget` weights, and nearly so many.

    `sizes`: weights of the dense layers; `steps`: weights of one rank. Every layer gets the same
    share of its weights, but at least rank 1 and whole ranks, by largest remainder; what is then
    left over goes to layers of smaller steps, until no rank fits. A layer whose factors would be as
    large as itself costs, and is, itself: its rank is the first for which that holds.

    Raises `AllocationError` if rank 1 everywhere is above `budget`.
    """

    def spent(name: str, rank: int) -> int:
        return min(rank * steps[name], sizes[name])

    least = sum(spent(n, 1) for n in sizes)
    if least > budget:
        raise AllocationError(f"rank 1 in every layer takes {least} weights, {budget} are left")
    if not sizes:
        return {}
    shares = water_fill(
        lambda c: {n: max(spent(n, 1) / s, min(1.0, c)) for n, s in sizes.items()},
        dict(sizes),
        budget / sum(sizes.values()),
    )
    wanted = {n: shares[n] * s / steps[n] for n, s in sizes.items()}
    found = {n: max(1, math.floor(w + 1e-9)) for n, w in wanted.items()}
    while True:
        left = budget - sum(spent(n, q) for n, q in found.items())
        fits = [n for n, q in found.items() if 0 < spent(n, q + 1) - spent(n, q) <= left]
        if not fits:
            return found
        found[max(fits, key=lambda n: wanted[n] - found[n])] += 1


def _sizes(layer: nn.Module) -> tuple[int, int, tuple[int, ...]]:
    """(inputs, outputs, kernel) of a layer that can be factored."""
    if reason := refusal(layer):
        raise SurgeryError(f"the layer cannot be factorised: {reason}")
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, ()
    values = leaves.arguments(layer)
    return values["in_channels"], values["out_channels"], values["kernel_size"]


def _factor(
    layer: nn.Module, inputs: int, outputs: int, axes: list[int], groups: int = 1
) -> nn.Module:
    """A layer of the kind of `layer` with its settings along `axes`, without bias or values."""
    weight = _weight(layer)
    values: dict[str, Any] = leaves.arguments(layer)
    if isinstance(layer, nn.Linear):
        values |= {"in_features": inputs, "out_features": outputs}
    else:
        values |= {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        for key, neutral in NEUTRAL.items():
            own = values.get(key)
            if isinstance(own, tuple):  # padding may be a word, "same" or "valid"
                values[key] = tuple(v if a in axes else neutral for a, v in enumerate(own))
    factor = leaves.construct(type(layer), values | {"bias": False}, device=str(weight.device))
    return factor.to(weight.dtype)


def _by_output(weight: Tensor, factor: nn.Module) -> Tensor:
    """The weight of a factor as (outputs, inputs / groups, *kernel), and back: its own inverse."""
    if not isinstance(factor, TRANSPOSED):
        return weight
    return weight.unflatten(0, (factor.groups, -1)).transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def _initialise(
    chain: nn.Sequential, dense: Tensor, carrier: nn.Module, generator: torch.Generator | None
) -> None:
    """Draw every factor; `carrier`, one of them, takes the scale of the weights `dense`."""
    for factor in chain:
        if isinstance(factor, nn.ChannelShuffle):
            continue
        drawn = torch.randn(_by_output(_weight(factor), factor).shape, generator=generator)
        if drawn[0, 0].numel() > 1:
            filters = drawn.flatten(2)
            drawn = (filters / filters.norm(dim=2, keepdim=True)).view(drawn.shape)
        _weight(factor).copy_(_by_output(drawn / math.sqrt(drawn.shape[1]), factor))
    scale = dense.double().square().mean() / compose(chain).double().square().mean()
    _weight(carrier).mul_(scale.sqrt())


def _weight(layer: nn.Module) -> Tensor:
    """The weight of a convolution or linear layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
