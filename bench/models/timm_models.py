"""Every net of timm. Nothing is downloaded: weights come from a local file or from chance."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from bench.models import ModelError


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The net `name` of timm for images of `shape` (C, H, W); fresh weights.

    The image size goes only to nets that take one.
    """
    import timm

    # is_model also keeps out names that would make timm ask a hub (`hf-hub:...`)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean 'timm:{near[0]}'?" if near else ""
        raise ModelError(f"timm {timm.__version__} has no model {name!r}{hint}")
    options = {"num_classes": classes, "in_chans": shape[0]}
    try:
        return _create(name, shape[1:], options)
    except Exception as error:  # each family of timm refuses in its own way
        raise ModelError(f"timm:{name} cannot be built for {tuple(shape)}: {error}") from error


def _create(name: str, size: tuple[int, int], options: dict[str, Any]) -> nn.Module:
    import timm

    state = torch.get_rng_state()
    try:
        return timm.create_model(name, pretrained=False, img_size=size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    torch.set_rng_state(state)
    return timm.create_model(name, pretrained=False, **options)
