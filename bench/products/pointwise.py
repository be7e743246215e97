"""A linear layer or 1x1 convolution as one product over tokens, for paths that know matrices only.

Tokens are rows: a linear layer's inputs, or the places of a channels-last map, which are a view. A
product is a module that maps tokens (P, K) to (P, outputs), bias included.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import cudnn, lowering
from bench.products.lowering import plain, unsuited
from bench.surgery.layers import matrix


def refusal(layer: nn.Module) -> str:
    """Why this layer is no product over tokens, or has too few zeros; empty if it is and has."""
    if isinstance(layer, nn.Conv2d) and plain(layer):
        if layer.kernel_size != (1, 1):
            return "a convolution that is not 1x1 would have to copy its input for every tap"
        if layer.groups != 1:
            return "a grouped convolution is no single matrix product"
        if layer.padding not in ((0, 0), 0, "valid"):
            return "a padded 1x1 convolution is not implemented"
    return unsuited(layer)


def weights(layer: nn.Module) -> Tensor:
    """The weight as (outputs, inputs), contiguous."""
    return matrix(layer.get_parameter("weight").detach()).contiguous()


def padded(tokens: Tensor, multiple: int) -> Tensor:
    """Rows of zeros added until there are a multiple of so many."""
    missing = -len(tokens) % multiple
    return F.pad(tokens, (0, 0, 0, missing)) if missing else tokens


class Pointwise(nn.Module):
    """A layer as `product(tokens)`."""

    def __init__(self, layer: nn.Module, product: nn.Module) -> None:
        """`layer`: supported; its geometry is kept, its weight is not."""
        super().__init__()
        self.product = product
        self.stride = layer.stride if isinstance(layer, nn.Conv2d) else None

    def forward(self, x: Tensor) -> Tensor:
        """As the layer: (..., inputs) to (..., outputs), or (N, C, H, W) to (N, O, Ho, Wo)."""
        if self.stride is None:
            return self.product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)
        places = x[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
        found = self.product(places.reshape(-1, places.shape[-1]))
        return found.view(*places.shape[:-1], -1).permute(0, 3, 1, 2)


def by_layer(
    refusal: Callable[[nn.Module], str], product: Callable[[nn.Module], nn.Module]
) -> tuple[lowering.Supports, Callable[[nn.Module], nn.Module]]:
    """`supports` and `convert` of a path with such a `product`, as `lowering.by_layer`.

    On a GPU the convolutions that stay dense are cuDNN's, with what follows them.
    """
    supports, replaced = lowering.by_layer(refusal, lambda layer: Pointwise(layer, product(layer)))

    def convert(model: nn.Module) -> nn.Module:
        """`model` with every supported layer replaced, in place."""
        on_gpu = any(tensor.is_cuda for tensor in chain(model.parameters(), model.buffers()))
        made = replaced(model)
        return cudnn.beside(made, Pointwise) if on_gpu else made

    return supports, convert
