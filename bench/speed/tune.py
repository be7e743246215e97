"""Search the parameters of torch's block-sparse kernel for a campaign's layers, on this GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import nn

from bench.latency.prepare import DTYPES
from bench.products import blocks
from bench.spec import slug
from bench.speed.campaign import Subject, find, read, subjects
from bench.speed.roofline import places
from bench.speed.shapes import calls
from bench.suite import ConfigError


def tune(name: str) -> Iterator[str]:
    """Tune what `bench/kernels/tuned/<device>.json` lacks, adding each as it is found; yields keys.

    Raises `ConfigError` without a GPU.
    """
    if not torch.cuda.is_available():
        raise ConfigError("tuning needs a CUDA device, and there is none")
    device = torch.cuda.get_device_name()
    path, known = blocks.TABLES / f"{slug(device)}.json", dict(blocks.table(device))
    for subject in subjects(read(find(name))).values():
        for layer, tokens in wanted(subject):
            product = blocks.Blocks(layer.to("cuda", DTYPES["bf16"]))
            key = blocks.tuning_key(product, tokens)
            if key in known:
                continue
            x = torch.randn(tokens, product.matrix.shape[1], device="cuda", dtype=DTYPES["bf16"])
            known[key] = blocks.tune(product, x)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
            yield key


def wanted(subject: Subject) -> Iterator[tuple[nn.Module, int]]:
    """The block-sparse layers of a subject's versions, and how many tokens each is given."""
    for make in subject.versions.values():
        model = make()
        for name, shape in calls(model, subject.shape):
            layer = model.get_submodule(name)
            if blocks.refusal(layer):
                continue
            for batch in subject.part.latency.batch_sizes:
                tokens = batch * places(shape)
                yield layer, tokens + -tokens % blocks.SIDES[0]
