"""What no net may be: collapsed, or more than the plain module that is stored and measured."""

from __future__ import annotations

from torch import nn

from bench.method import MethodError
from bench.surgery.masks import nonzero
from bench.training import TrainingFailed


def refuse_collapse(model: nn.Module) -> None:
    """Raise `TrainingFailed` if a layer has no weight left."""
    if empty := nonzero(model).collapsed():
        raise TrainingFailed(f"layer collapse: no weight is left in {', '.join(empty)}")


def refuse_tricks(model: nn.Module, method: str) -> None:
    """Raise `MethodError` if a yielded model is not plain.

    It would be measured as something that nobody can ship.
    """
    for name, module in model.named_modules():
        if nn.utils.parametrize.is_parametrized(module):
            raise MethodError(
                f"{method} yields a model with a parametrisation left on {name or 'it'}"
            )
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise MethodError(f"{method} yields a model with a hook left on {name or 'it'}")
