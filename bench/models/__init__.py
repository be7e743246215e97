"""Architectures. Each file here that says `NAMES = (...)` is a family, found by itself.

A family has one function, `build(name, shape, classes) -> nn.Module`, for the names that it lists.
It draws its initial weights from torch's global generator and refuses an input that it cannot take
with a `ModelError`. `timm:<name>` builds any net that the installed timm knows.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm:"


class ModelError(ValueError):
    """An unknown architecture, or one that does not fit its input, classes or weights."""


def names() -> tuple[str, ...]:
    """All architectures of this folder, sorted; nothing is imported for it."""
    return tuple(sorted(_families()))


def build(
    name: str, shape: tuple[int, int, int], classes: int, weights: str | Path | None = None
) -> nn.Module:
    """A fresh net for images of `shape` (C, H, W): float32 (B, C, H, W) -> logits (B, classes).

    `weights`: a local `.safetensors` or `.pth` file that replaces the initial weights, all of them.

    Raises:
        ModelError: unknown name; an input size or class count that the net cannot take; weights of
            another net. The message says which and why.
    """
    if len(shape) != 3 or min(shape) < 1 or classes < 2:
        raise ModelError(
            f"{name}: shape is {tuple(shape)} with {classes} classes; "
            "it must be (channels, height, width), all at least 1, and two classes or more"
        )
    if name.startswith(TIMM):
        from bench.models import timm_models

        model = timm_models.build(name.removeprefix(TIMM), shape, classes)
    elif name in _families():
        model = importlib.import_module(f"bench.models.{_families()[name]}").build(
            name, shape, classes
        )
    else:
        raise ModelError(unknown(name))
    _check(model, name, shape, classes)
    if weights is not None:
        from bench.models import weights as files

        files.load(model, Path(weights))
    return model


def unknown(name: str) -> str | None:
    """Why there is no architecture `name`; none: there is, or timm has to say."""
    if name.startswith(TIMM) or name in _families():
        return None
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown architecture {name!r}{hint} Known: {', '.join(names())}, timm:<name>"


@cache
def _families() -> dict[str, str]:
    """The module of each architecture, read from the `NAMES = (...)` line of every file here."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES":
                found |= dict.fromkeys(ast.literal_eval(node.value), path.stem)
    return found


def _check(model: nn.Module, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Push the shape of two samples through the net (meta device, no arithmetic)."""
    from bench.measure import meta

    try:
        output = tuple(meta.forward(meta.twin(model), shape, batch=2).shape)
    except Exception as error:  # each net fails in its own way on an input that does not fit
        raise ModelError(f"{name} cannot take an input of {tuple(shape)}: {error}") from error
    if output != (2, classes):
        raise ModelError(
            f"{name}: two samples give an output of {output} instead of (2, {classes})"
        )
