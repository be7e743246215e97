"""Weights from a local file. Nothing but tensors is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.models import ModelError

SHOWN = 5


def load(model: nn.Module, path: Path) -> None:
    """Replace all parameters and buffers of `model` by those of a `.safetensors` or `.pth` file.

    A dictionary with the tensors under `state_dict` or `model` is unwrapped, as is the prefix
    `module.` that DataParallel leaves.

    Raises:
        ModelError: no such file, no file of weights, or names or shapes other than the model's.
    """
    found = _read(path)
    expected = model.state_dict()
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    shapes = [
        f"{k} is {tuple(found[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "other shape": shapes}
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise ModelError(f"{path} holds the weights of another net. {listed}")
    model.load_state_dict(found, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"no file of weights at {path}")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        cause = str(error).partition("\n")[0]
        raise ModelError(f"{path} cannot be read as a file of tensors: {cause}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(f"{path} is no dictionary of tensors by name")
    return {k.removeprefix("module."): v for k, v in content.items()}


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
