"""A linear layer or 2-D convolution as a sparse matrix product, for the paths in `bench/kernels`.

The weight's matrix (outputs, inputs x taps), as `bench.surgery.layers.matrix` has it, times columns
of the input: one for each token of a linear layer, one for each place of a convolution's output. A
grouped convolution is the same matrix with zeros between its groups. A product is a module that
maps columns (K, P) to (outputs, P), bias included; what differs between paths is that alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.surgery.layers import matrix

DENSEST = 0.5
"""A layer that keeps more of its weights than this has nothing to exploit and stays dense."""


def refusal(layer: nn.Module) -> str:
    """Why this layer cannot or need not be a sparse product; empty if it can and should."""
    return padding(layer) or unsuited(layer)


def padding(layer: nn.Module) -> str:
    """Why a convolution's padding is none of some rows of zeros; empty if it is."""
    if isinstance(layer, nn.Conv2d) and plain(layer):
        if layer.padding_mode != "zeros":
            return f"padding with {layer.padding_mode} is not implemented"
        if isinstance(layer.padding, str):
            return f"padding given as {layer.padding!r} is not implemented; give numbers"
    return ""


def plain(layer: nn.Module) -> bool:
    """Whether a layer is a linear layer or 2-D convolution and nothing more."""
    return type(layer) in (nn.Linear, nn.Conv2d)


def unsuited(layer: nn.Module, densest: float = DENSEST) -> str:
    """Why this layer is no matrix product, or has too few zeros for one; empty if neither."""
    if not plain(layer):
        return f"{type(layer).__name__} is no plain linear layer or 2-D convolution"
    weight = layer.get_parameter("weight")
    if int(weight.count_nonzero()) > densest * weight.numel():
        return f"it keeps more than {100 * densest:g} % of its weights, so it stays dense"
    return ""


Supports = Callable[[nn.Module, str], tuple[bool, str]]


def by_layer(
    refusal: Callable[[nn.Module], str], make: Callable[[nn.Module], nn.Module]
) -> tuple[Supports, Callable[[nn.Module], nn.Module]]:
    """`supports` and `convert` of a path that replaces layers one by one.

    `refusal`: why a layer stays, empty if it does not; `make`: what stands in its place.
    """

    def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
        """Whether the layer is replaced, and if not, why."""
        reason = refusal(layer)
        return not reason, reason

    def convert(model: nn.Module) -> nn.Module:
        """`model` with every supported layer replaced, in place."""
        if plain(model) and not refusal(model):
            return make(model)
        made: dict[nn.Module, nn.Module] = {}  # a layer may stand in two places
        for name, layer in list(model.named_modules(remove_duplicate=False)):
            if name and plain(layer) and (layer in made or not refusal(layer)):
                made[layer] = made.get(layer) or make(layer)
                model.set_submodule(name, made[layer])
        return model

    return supports, convert


def any_layer(supports: Supports, what: str) -> Callable[[nn.Module, nn.Module], tuple[bool, str]]:
    """`applies` of a dense path: nets with a layer for it, pruned or not. `what`: such a layer."""

    def applies(model: nn.Module, dense: nn.Module) -> tuple[bool, str]:
        """Whether one of its modules is supported; zeros are multiplied like any number."""
        able = any(supports(module, name)[0] for name, module in model.named_modules())
        return able, "" if able else f"no {what}"

    return applies


def csr(layer: nn.Module) -> Tensor:
    """The weight as a CSR matrix (outputs, inputs x taps), with 32-bit indices.

    Of a grouped convolution each row's entries stand at its own group's inputs. MKL, as torch is
    built with it, would convert 64-bit indices in every call.
    """
    weight = matrix(layer.get_parameter("weight").detach())
    groups = getattr(layer, "groups", 1)
    rows, columns = weight.nonzero(as_tuple=True)
    values = weight[rows, columns]
    columns = columns + rows // (len(weight) // groups) * weight.shape[1]
    ends = torch.zeros(len(weight) + 1, dtype=torch.int32, device=weight.device)
    ends[1:] = (weight != 0).sum(1).cumsum(0)
    size = (len(weight), weight.shape[1] * groups)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(ends, columns.int(), values, size, check_invariants=True)


class Lowered(nn.Module):
    """A layer as `product(columns)`.

    On the CPU a batch goes image by image: the columns of one stay in the caches, and those of a
    1x1 convolution are the image itself. On a GPU it is one product.
    """

    def __init__(self, layer: nn.Module, product: nn.Module) -> None:
        """`layer`: supported; its geometry is kept, its weight is not."""
        super().__init__()
        self.product = product
        self.window: tuple[tuple[int, int], ...] | None = None
        if isinstance(layer, nn.Conv2d):
            assert not isinstance(layer.padding, str)
            kernel, stride, padding, dilation = (
                (pair[0], pair[1])
                for pair in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            )
            self.window = (kernel, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer: (..., inputs) to (..., outputs), or (N, C, H, W) to (N, O, Ho, Wo)."""
        if self.window is None:
            columns = x.reshape(-1, x.shape[-1]).T.contiguous()
            return self.product(columns).T.reshape(*x.shape[:-1], -1)
        parts = [x] if x.is_cuda or len(x) == 1 else x.split(1)
        outputs = [self.images(part) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def images(self, x: Tensor) -> Tensor:
        """Some images at once."""
        assert self.window is not None
        found, high, wide = columns(x.transpose(0, 1), *self.window)
        return self.product(found).view(-1, len(x), high, wide).transpose(0, 1)


def columns(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Tensor, int, int]:
    """(C, N, H, W) as (C x taps, N x Ho x Wo), contiguous; Ho, Wo. A view where that will do."""
    if kernel == (1, 1) and stride == (1, 1) and padding == (0, 0):
        return x.reshape(len(x), -1), x.shape[2], x.shape[3]
    if any(padding):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    high, wide = (
        (size - step * (taps - 1) - 1) // jump + 1
        for size, step, taps, jump in zip(x.shape[2:], dilation, kernel, stride, strict=True)
    )
    # slices; torch's unfold took 10 to 100 times as long
    taps = [
        x[
            ...,
            i * dilation[0] : i * dilation[0] + stride[0] * (high - 1) + 1 : stride[0],
            j * dilation[1] : j * dilation[1] + stride[1] * (wide - 1) + 1 : stride[1],
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return torch.stack(taps, 1).view(len(x) * len(taps), -1), high, wide
