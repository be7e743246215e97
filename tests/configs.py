"""A small config, and small changes to it."""

from __future__ import annotations

import copy
from typing import Any

BASE: dict[str, Any] = {
    "suite": "small",
    "densities": [0.5, 0.2],
    "seeds": [0, 1],
    "tasks": [
        {
            "datasets": ["digits"],
            "architectures": ["resnet8", "lstm"],
            "train": {"epochs": 2, "lr": 0.1},
            "finetune": {"epochs": 1},
        }
    ],
    "methods": {"all": [{}]},
}


def changed(task: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """`BASE` with other top-level keys, and other keys in its task."""
    content = copy.deepcopy(BASE)
    content["tasks"][0].update(task or {})
    return content | keys
