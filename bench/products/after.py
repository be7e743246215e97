"""What follows a layer, done by the layer: a sum with another tensor, a ReLU.

Dense libraries write a convolution's result once, with all that comes after it; a path of our own
has to do the same. Layers that take part have bounds `low` and `high` and, where they say `adds`,
`forward(x, add)`.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.latency.fold import chains
from bench.products.geometry import Geometry

SUMS = (torch.add, operator.add, operator.iadd, "add", "add_")
RELU, RELU6 = (0.0, float("inf")), (0.0, 6.0)
BOUNDS = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"), RELU),
    **dict.fromkeys((nn.ReLU6, F.relu6), RELU6),
}

NOTHING = (nn.Identity, nn.Dropout)


Kind = type[nn.Module] | tuple[type[nn.Module], ...]


def taken(model: nn.Module, kind: Kind, whole: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """`model` with the sums and ReLUs that directly follow layers of `kind` done by those.

    `model` is in eval mode. Only where nothing else reads what comes between. Of a net whose
    control flow cannot be traced the plain sequences are seen to, in place. `whole`: modules that
    cannot be traced themselves.
    """
    if isinstance(model, kind) or not any(isinstance(m, kind) for m in model.modules()):
        return model
    traced = model
    if not isinstance(traced, fx.GraphModule):
        try:
            traced = fx.GraphModule(model, Tracer(kind, whole).trace(model))
        except Exception:  # tracing runs the model's own code, which may raise anything
            for chain in chains(model):
                _chain(chain, kind)
            return model
    _skip(traced)
    found = [step(traced, n, kind) for step in (_sum, _bound) for n in list(traced.graph.nodes)]
    if not any(found) and traced is not model:
        return model
    traced.graph.lint()
    traced.recompile()
    return traced


class Following(nn.Module):
    """A layer of a path's own that takes along what follows it.

    A subclass runs it. `low`, `high`: bounds of what it gives; `adds`: that it takes something to
    add; `linear`: that it is a linear layer, and no 2-D convolution.
    """

    low, high, adds = -math.inf, math.inf, True
    linear: bool
    geometry: Geometry

    def shape(self, input: Tensor) -> tuple[int, ...]:
        """Of what it gives for `input`."""
        if self.linear:
            return (*input.shape[:-1], self.geometry.outputs)
        return (len(input), self.geometry.outputs, *self.geometry.places(*input.shape[2:]))

    def run(self, input: Tensor, add: Tensor | None, low: float, high: float) -> Tensor:
        """As the layer, plus `add`, of the result's shape and dtype, within the bounds."""
        raise NotImplementedError

    def forward(self, input: Tensor, add: Tensor | None = None) -> Tensor:
        """As the layer, plus `add`, within the bounds; torch adds what is of another shape."""
        if add is None or (tuple(add.shape) == self.shape(input) and add.dtype == input.dtype):
            return self.run(input, add, self.low, self.high)
        return (self.run(input, None, -math.inf, math.inf) + add).clamp(self.low, self.high)


class Tracer(fx.Tracer):
    """Sees layers of `kind` whole, and those in `whole`."""

    def __init__(self, kind: Kind, whole: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.whole = (*(kind if isinstance(kind, tuple) else (kind,)), *whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to leave `m` whole."""
        return isinstance(m, self.whole) or super().is_leaf_module(m, module_qualified_name)


def _skip(model: fx.GraphModule) -> None:
    """Leave out what does nothing in a finished net: identities and dropout."""
    for node in list(model.graph.nodes):
        if node.op == "call_module" and _what(model, node) in NOTHING and node.args:
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)


def _chain(chain: nn.Sequential, kind: Kind) -> None:
    """Let the layers of a sequence bound what they give."""
    live = [at for at, module in enumerate(chain) if type(module) not in NOTHING]
    for at, then in pairwise(live):
        bounds, layer = BOUNDS.get(type(chain[then])), chain[at]
        if bounds is not None and isinstance(layer, kind) and free(layer):
            layer.low, layer.high = bounds  # type: ignore[assignment]
            chain[then] = nn.Identity()


def _sum(model: fx.GraphModule, node: fx.Node, kind: Kind) -> bool:
    """Let the later of two added results take the other along, if it comes from such a layer."""
    if node.target not in SUMS or len(node.args) != 2 or node.kwargs:
        return False
    first, second = node.args
    if not (isinstance(first, fx.Node) and isinstance(second, fx.Node)) or first is second:
        return False
    order = list(model.graph.nodes)
    for made, other in ((first, second), (second, first)):
        layer = _layer(model, made, kind)
        if layer is None or not layer.adds or not free(layer) or len(made.args) != 1 or made.kwargs:
            continue
        if _writes(model, node) and made is not first:
            continue  # others may read the tensor that it writes
        # the layer is to run where the sum is, and must not read what was written since
        between = order[order.index(made) + 1 : order.index(node)]
        if any(_writes(model, step) for step in between):
            continue
        with model.graph.inserting_before(node):
            new = model.graph.call_module(str(made.target), (made.args[0], other))
        node.replace_all_uses_with(new)
        model.graph.erase_node(node)
        model.graph.erase_node(made)
        return True
    return False


def _bound(model: fx.GraphModule, node: fx.Node, kind: Kind) -> bool:
    """Let a layer bound what it gives, if nothing but this ReLU reads it."""
    bounds = BOUNDS.get(_what(model, node))
    if bounds is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    layer = _layer(model, node.args[0], kind)
    if layer is None or not free(layer):
        return False
    layer.low, layer.high = bounds  # type: ignore[assignment]
    node.replace_all_uses_with(node.args[0])
    model.graph.erase_node(node)
    return True


def free(layer: nn.Module) -> bool:
    """Whether a layer bounds nothing yet."""
    return bool((layer.low, layer.high) == (-RELU[1], RELU[1]))


def _what(model: fx.GraphModule, node: fx.Node) -> object:
    """What a node calls: a function, a method's name, or the class of a module."""
    return type(model.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def _layer(model: fx.GraphModule, node: fx.Node, kind: Kind) -> nn.Module | None:
    """The layer of `kind` that a node runs, if it runs there only and one node reads its result."""
    if node.op != "call_module" or len(node.users) != 1:
        return None
    calls = Counter(
        model.get_submodule(str(n.target)) for n in model.graph.nodes if n.op == "call_module"
    )
    layer = model.get_submodule(str(node.target))
    return layer if isinstance(layer, kind) and calls[layer] == 1 else None


def _writes(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may change a tensor in place."""
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    named = node.kwargs.get("inplace") or "out" in node.kwargs
    return name.endswith("_") or node.target is operator.iadd or bool(named)
