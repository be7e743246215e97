"""Batch norm folded into the convolution or linear layer before it, as every deployment does."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)


def fold(model: nn.Module) -> tuple[nn.Module, str]:
    """`model` with batch norm folded where it directly follows a convolution or linear layer.

    The arithmetic is done in double precision, so folding costs one rounding of each weight; zeros
    stay zeros. A batch norm that follows anything else (a sum, an activation) stays. Of timm's
    batch norms with an activation in them the activation stays. Of a net whose control flow cannot
    be traced the plain sequences are folded, in place.

    Args:
        model: in eval mode; its modules may be changed.

    Returns:
        The net, and a note: empty, or why batch norms are left (control flow).
    """
    if not normed(model):
        return model, ""
    try:
        traced = fx.GraphModule(model, Tracer().trace(model))
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        for chain in chains(model):
            fold_chain(chain)
        note = f"batch norm not folded: {type(error).__name__} while tracing"
        return model, note if normed(model) else ""
    for node in list(traced.graph.nodes):
        pair = foldable(traced, node)
        if pair is not None:
            source, first, norm = pair
            traced.set_submodule(str(source.target), fused(first, norm))
            rest = beyond(norm)
            if rest is not None and len(rest):
                traced.set_submodule(str(node.target), rest if len(rest) > 1 else rest[0])
            else:
                node.replace_all_uses_with(source)
                traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, ""


def chains(model: nn.Module) -> list[nn.Sequential]:
    """The plain sequences in a net, whose order of calls is known without tracing.

    None of a net in which a layer stands in more than one place.
    """
    places = list(model.named_modules(remove_duplicate=False))
    if len(places) > len(list(model.modules())):
        return []
    return [module for _, module in places if type(module) is nn.Sequential]


def fold_chain(chain: nn.Sequential) -> None:
    """Fold what directly follows a layer, in place; the norm leaves an identity, or its rest."""
    for at in range(len(chain) - 1):
        first, norm = chain[at], chain[at + 1]
        if type(first) in LAYERS and isinstance(norm, NORMS) and norm.running_mean is not None:
            rest = beyond(norm)
            if rest is not None:
                chain[at] = fused(first, norm)
                chain[at + 1] = rest[0] if len(rest) == 1 else rest if len(rest) else nn.Identity()


def normed(model: nn.Module) -> bool:
    """Whether there is a batch norm in it."""
    return any(isinstance(module, NORMS) for module in model.modules())


class Tracer(fx.Tracer):
    """Sees every batch norm as one module, those of other libraries included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to leave `m` whole."""
        return isinstance(m, NORMS) or super().is_leaf_module(m, module_qualified_name)


def beyond(norm: nn.Module) -> nn.Sequential | None:
    """What a batch norm does besides: nothing for torch's own; none where it is not known."""
    if type(norm) in NORMS:
        return nn.Sequential()
    if type(norm).__name__ == "BatchNormAct2d":  # timm's
        parts = [norm.get_submodule(name) for name in ("drop", "act")]
        return nn.Sequential(*(part for part in parts if not isinstance(part, nn.Identity)))
    return None


def foldable(traced: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, nn.Module, nn.Module] | None:
    """For a batch norm that can be folded: the node before it, that node's layer, and the norm."""
    source = node.args[0] if node.args else None
    if node.op != "call_module" or not isinstance(source, fx.Node):
        return None
    norm = traced.get_submodule(str(node.target))
    if not isinstance(norm, NORMS) or norm.running_mean is None or beyond(norm) is None:
        return None
    if source.op != "call_module" or len(source.users) > 1:
        return None
    # A layer that is called twice feeds two things; folding would change the other one too.
    if (
        sum(
            other.op == "call_module" and other.target == source.target
            for other in traced.graph.nodes
        )
        > 1
    ):
        return None
    first = traced.get_submodule(str(source.target))
    if type(first) not in LAYERS:
        return None
    return source, first, norm


def fused(first: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer that does the work of both, in the dtype of `first`."""
    dtype = next(first.parameters()).dtype
    fuse: Any = fuse_linear_bn_eval if isinstance(first, nn.Linear) else fuse_conv_bn_eval
    with torch.no_grad():
        return fuse(copy.deepcopy(first).double(), copy.deepcopy(norm).double()).to(dtype)
