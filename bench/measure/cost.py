"""What a model costs against the dense net it came from.

Size and multiply-adds, whole and per layer.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.measure.integers import value_bits
from bench.measure.macs import macs
from bench.measure.size import bits, count, model_bits
from bench.surgery.layers import parts, prunable
from bench.surgery.quantised_input import WHOLE, input_bits

LAYER_COLUMNS = (
    "point", "layer", "shape", "weights", "nonzeros", "density", "macs", "effective_macs", "bits",
    "weight_bits", "activation_bits", "bops",
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
    done = sum(r["effective_macs"] for r in rows)
    total, by_format = model_bits(model)
    parameters, nonzeros = count(model)
    fields = {
        "density": sum(r["nonzeros"] for r in rows) / sum(r["weights"] for r in rows),
        "parameters": parameters,
        "nonzeros": nonzeros,
        "bits": total,
        "bits_format": by_format,
        "macs": sum(found.values()),
        "effective_macs": done + rest,
        "bops": sum(r["bops"] for r in rows) + rest * WHOLE * WHOLE,
        "weight_bits": mean(rows, "weight_bits", "nonzeros"),
        "activation_bits": mean(rows, "activation_bits", "effective_macs"),
    }
    return fields, rows


def mean(rows: list[dict[str, Any]], column: str, weight: str) -> float:
    """Of `column` over the layers, each as often as `weight` says; of full precision if never."""
    total = sum(r[weight] for r in rows)
    return sum(r[column] * r[weight] for r in rows if r[weight]) / total if total else float(WHOLE)


def layers(
    model: nn.Module, dense: nn.Module, found: dict[str, int], point: int
) -> list[dict[str, Any]]:
    """A row for each prunable weight of `dense`.

    What `model` has left of it, in one weight or in several factors, and what that costs.
    """
    rows, stored, modules = [], parts(model, dense), dict(model.named_modules())
    for name, weight in prunable(dense).items():
        left = stored[name]
        nonzeros = {n: int(w.count_nonzero()) for n, w in left.items()}
        shapes = ["x".join(map(str, w.shape)) for w in left.values()]
        effective = {n: round(found[n] * nonzeros[n] / w.numel()) for n, w in left.items()}
        values = {n: value_bits(w)[0] for n, w in left.items()}
        inputs = {n: min(WHOLE, input_bits(modules[n.rpartition(".")[0]]) or WHOLE) for n in left}
        rows.append(
            {
                "point": point,
                "layer": name,
                "shape": " ".join(shapes) or "x".join(map(str, weight.shape)),
                "weights": weight.numel(),
                "nonzeros": sum(nonzeros.values()),
                "density": sum(nonzeros.values()) / weight.numel(),
                "macs": sum(found[n] for n in left),
                "effective_macs": sum(effective.values()),
                "bits": sum(min(bits(w).values()) for w in left.values()),
                "weight_bits": max(values.values(), default=None),
                "activation_bits": max(inputs.values(), default=None),
                "bops": sum(effective[n] * values[n] * inputs[n] for n in left),
            }
        )
    return rows
