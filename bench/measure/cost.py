"""What a model costs against the dense net it came from.

Size and multiply-adds, whole and per layer.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.measure.macs import macs
from bench.measure.size import bits, count, model_bits
from bench.surgery.layers import prunable

LAYER_COLUMNS = (
    "point", "layer", "shape", "weights", "nonzeros", "density", "macs", "effective_macs", "bits",
)  # fmt: skip
"""The columns of `layers.csv`.

A row for each operating point and prunable weight of the dense net.
"""


def cost(
    model: nn.Module, dense: nn.Module, shape: tuple[int, ...], point: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(`bench.spec.Point` fields that need no data, rows of `layers.csv`) of `model`.

    `dense`: the unpruned net, for the weights that are gone; `shape`: one input (C, H, W).
    """
    found, stored = macs(model, shape), prunable(model)
    rows = layers(model, dense, found, point)
    # what has no weight to prune (attention products, weights of other kinds) is done in full
    rest = sum(adds for name, adds in found.items() if name not in stored)
    total, by_format = model_bits(model)
    parameters, nonzeros = count(model)
    fields = {
        "density": sum(r["nonzeros"] for r in rows) / sum(r["weights"] for r in rows),
        "parameters": parameters,
        "nonzeros": nonzeros,
        "bits": total,
        "bits_format": by_format,
        "macs": sum(found.values()),
        "effective_macs": sum(r["effective_macs"] for r in rows) + rest,
    }
    return fields, rows


def layers(
    model: nn.Module, dense: nn.Module, found: dict[str, int], point: int
) -> list[dict[str, Any]]:
    """A row for each prunable weight of `dense`.

    What `model` has left of it, and what that costs.
    """
    stored, rows = prunable(model), []
    for name, weight in prunable(dense).items():
        left = stored.get(name)
        nonzeros = 0 if left is None else int(left.count_nonzero())
        adds = 0 if left is None else found[name]
        rows.append(
            {
                "point": point,
                "layer": name,
                "shape": "x".join(map(str, weight.shape if left is None else left.shape)),
                "weights": weight.numel(),
                "nonzeros": nonzeros,
                "density": nonzeros / weight.numel(),
                "macs": adds,
                "effective_macs": 0 if left is None else round(adds * nonzeros / left.numel()),
                "bits": 0 if left is None else min(bits(left).values()),
            }
        )
    return rows
