"""Architectures. Each file here that says `NAMES = (...)` is a family, found by itself.

A family has one function, `build(name, shape, classes) -> nn.Module`, for the names that it lists.
It draws its initial weights from torch's global generator and refuses an input that it cannot take
with a `ModelError`. `timm:<name>` builds any net that the installed timm knows. A family whose
layers do not keep torch's own initialisation draws them in a function `initialise(model)`. One that
says `TASK = "field"` has nets that predict fields (B, classes, H, W) in the place of logits.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from bench.spec import TaskName

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

    One of the task `field` gives (B, classes, H, W). `weights`: a local `.safetensors` or `.pth`
    file that replaces the initial weights, all of them.

    Raises:
        ModelError: unknown name; an input size or class count that the net cannot take; weights of
            another net. The message says which and why.
    """
    least = 1 if task(name) == "field" else 2
    if len(shape) != 3 or min(shape) < 1 or classes < least:
        raise ModelError(
            f"{name}: shape is {tuple(shape)} with {classes} classes; "
            "it must be (channels, height, width), all at least 1, and two classes or more"
            + ("" if least == 2 else ", or the number of frames to predict")
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


def reinitialise(model: nn.Module, name: str) -> nn.Module:
    """Draw all weights of `model`, a net `name` with changed sizes, anew; returns `model`.

    In place, from torch's global generator on the CPU: each layer's own `reset_parameters`, then
    the family's `initialise` for the sizes that the layers have now. Of timm's nets those with an
    `init_weights()` of their own follow it, the others keep torch's initialisation.

    Raises:
        SurgeryError: a module holds parameters and does not say how they are drawn.
    """
    from bench.surgery.probe import SurgeryError

    device = next(model.parameters()).device
    model.cpu()
    for path, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise SurgeryError(
                f"{name}: {path or 'the net'} does not say how its weights are drawn anew"
            )
    if name.startswith(TIMM):
        rule = getattr(type(model), "init_weights", None)
    else:
        family = importlib.import_module(f"bench.models.{_families()[name]}")
        rule = getattr(family, "initialise", None)
    if rule is not None:
        rule(model)
    return model.to(device)


def unknown(name: str) -> str | None:
    """Why there is no architecture `name`; none: there is, or timm has to say."""
    if name.startswith(TIMM) or name in _families():
        return None
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown architecture {name!r}{hint} Known: {', '.join(names())}, timm:<name>"


def task(name: str) -> TaskName:
    """What the net `name` is for; any of timm, and one that there is not, is a classifier."""
    said = (s for s in _said().values() if name in s.get("NAMES", ()))
    return next((s["TASK"] for s in said if "TASK" in s), "classification")


@cache
def _families() -> dict[str, str]:
    """The module of each architecture, read from the `NAMES = (...)` line of every file here."""
    return {name: path.stem for path, said in _said().items() for name in said.get("NAMES", ())}


@cache
def _said() -> dict[Path, dict[str, Any]]:
    """What every file here says in its lines `NAMES = ` and `TASK = `; nothing is imported."""
    found: dict[Path, dict[str, Any]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("NAMES", "TASK"):
                said = {ast.unparse(node.targets[0]): ast.literal_eval(node.value)}
                found[path] = found.get(path, {}) | said
    return found


def _check(model: nn.Module, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Push the shape of two samples through the net (meta device, no arithmetic)."""
    from bench.measure import meta

    try:
        output = tuple(meta.forward(meta.twin(model), shape, batch=2).shape)
    except Exception as error:  # each net fails in its own way on an input that does not fit
        raise ModelError(f"{name} cannot take an input of {tuple(shape)}: {error}") from error
    wanted = (2, classes, *shape[1:]) if task(name) == "field" else (2, classes)
    if output != wanted:
        raise ModelError(f"{name}: two samples give an output of {output} instead of {wanted}")
