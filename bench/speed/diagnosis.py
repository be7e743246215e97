"""Why a pruned net is not as fast as its multiply-adds say: its layers, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.kernels import Kernel
from bench.latency.prepare import DTYPES, Cell
from bench.speed.clock import WHOLE, clock, operators, ready
from bench.speed.roofline import Ceilings, floor, work
from bench.speed.shapes import calls

SHOWN = 3
"""Operators of a layer."""
UNITS = 8
"""Channels that vector and tensor units take at once: other counts are padded."""


@dataclass(frozen=True)
class Layer:
    """One layer of the unpruned net, and what stands for it in a pruned one on some path.

    `exploits`: whether its zeros are exploited, or it is smaller; else `reason`. `operators`: what
    took longest inside, kernels on a GPU. `share`: of the dense net's multiply-adds; `left`: those
    that are left, over the dense layer's. `aligned`: its channels are multiples of 8. Times: ms of
    a batch.
    """

    name: str
    exploits: bool
    reason: str
    operators: str
    share: float
    left: float
    aligned: bool
    dense_ms: float
    ms: float
    floor_ms: float


class Diagnosis(NamedTuple):
    """The layers of a net, and both nets' own times in the same layout: eager, graphs on a GPU."""

    layers: list[Layer]
    dense_ms: float
    ms: float

    @property
    def theory(self) -> float:
        """Multiply-adds of the dense net over those left."""
        return 1 / sum(layer.share * layer.left for layer in self.layers)


class Part(NamedTuple):
    """What is left of a layer: multiply-adds of a sample, least ms of a batch, channels."""

    work: float
    floor_ms: float
    channels: tuple[int, ...]


def diagnose(
    dense: nn.Module,
    model: nn.Module,
    path: Kernel,
    cell: Cell,
    layout: str,
    x: Tensor,
    limits: Ceilings,
    before: dict[str, float],
) -> Diagnosis:
    """The layers of `dense` (unpruned) and `model` (pruned) on `path`, timed one by one, eagerly.

    `x`: (batch, ...), fp32, on the device; `before`: `unpruned` of the same. On a GPU the nets as a
    whole are graphs.
    """
    shape = tuple(x.shape[1:])
    whole, left = parts(dense, shape, cell, limits), parts(model, shape, cell, limits)
    names = list(whole)
    x = given(x, cell, layout)
    made = ready(model, path, cell.dtype, layout, cell.device)
    after, ran = clock(made, names, x), operators(made, names, x)
    total = sum(part.work for part in whole.values())
    found = []
    for name in names:
        inside = {n: part for n, part in left.items() if n == name or n.startswith(f"{name}.")}
        reason = stays(dense, model, made, name, path)
        found.append(
            Layer(
                name=name,
                exploits=not reason,
                reason=reason,
                operators=", ".join(ran.get(name, [])[:SHOWN]),
                share=whole[name].work / total,
                left=sum(part.work for part in inside.values()) / whole[name].work,
                aligned=all(n % UNITS == 0 for part in inside.values() for n in part.channels),
                dense_ms=before[name],
                ms=after[name],
                floor_ms=sum(part.floor_ms for part in inside.values()),
            )
        )
    return Diagnosis(found, before[WHOLE], after[WHOLE])


def unpruned(dense: nn.Module, cell: Cell, layout: str, x: Tensor) -> dict[str, float]:
    """The times of the unpruned net's layers, as in `Layer.dense_ms`."""
    names = [name for name, _ in calls(dense, tuple(x.shape[1:]))]
    return clock(ready(dense, None, cell.dtype, layout, cell.device), names, given(x, cell, layout))


def given(x: Tensor, cell: Cell, layout: str) -> Tensor:
    """The input as a net of this dtype and layout takes it."""
    x = x.to(DTYPES[cell.dtype])
    return x.to(memory_format=torch.channels_last) if layout == "nhwc" else x


def stays(dense: nn.Module, model: nn.Module, made: nn.Module, name: str, path: Kernel) -> str:
    """Why a layer does all of the dense one's work in `made`, `model` on `path`; empty if not."""
    old, new = dense.get_submodule(name), model.get_submodule(name)
    if type(new) is not type(old) or new.weight.shape != old.weight.shape:
        return ""
    able, reason = path.supports(new, name)
    if able and type(made.get_submodule(name)) is type(new):
        return f"{path.name} multiplies zeros like any number"
    return reason


def parts(
    model: nn.Module, shape: tuple[int, ...], cell: Cell, limits: Ceilings
) -> dict[str, Part]:
    """What each layer of `model` has left to do; called twice, it does so twice."""
    found: dict[str, Part] = {}
    for name, layer in calls(model, shape):
        weight = model.get_submodule(name).get_parameter("weight")
        kept = int(weight.count_nonzero()) / weight.numel()
        done, least = work(layer, 1, kept)[0], floor(layer, cell, kept, limits).ms
        before = found.get(name, Part(0, 0, ()))
        found[name] = Part(before.work + done, before.floor_ms + least, tuple(weight.shape[:2]))
    return found


CAUSES = {
    "ineligible": "layers that do not exploit their zeros",
    "kernel": "the kernel itself, above what its layers' arithmetic and traffic need",
    "traffic": "memory traffic, which falls less than the arithmetic",
    "between": "launches and what lies between the layers",
    "runtime": "the dense net is faster elsewhere than in this path's own surroundings",
}


def causes(found: Diagnosis, best_ms: float) -> dict[str, float]:
    """The time in ms above what the multiply-adds left would take, by its cause (see `CAUSES`).

    `best_ms`: of the fastest way to run the dense net; over the theoretical speed-up it is what
    they would take. Of a layer that is the dense layer's time, times its share of multiply-adds
    left; of what lies between the layers, times the whole net's.
    """
    lost = dict.fromkeys(CAUSES, 0.0)
    ideals = 0.0
    for layer in found.layers:
        ideal = layer.dense_ms * layer.left
        ideals += ideal
        if not layer.exploits:
            lost["ineligible"] += layer.ms - ideal
            continue
        least = max(layer.floor_ms, ideal)
        lost["traffic"] += least - ideal
        lost["kernel"] += layer.ms - least
    between = found.dense_ms - sum(layer.dense_ms for layer in found.layers)
    after = found.ms - sum(layer.ms for layer in found.layers)
    lost["between"] = after - between / found.theory
    lost["runtime"] = ideals + between / found.theory - best_ms / found.theory
    return lost


def sentence(found: Diagnosis, best_ms: float) -> str:
    """What holds a net back most that is not as fast as its multiply-adds say; empty if nothing.

    `best_ms`: of the fastest way to run the dense net, as measured.
    """
    lost = {cause: time for cause, time in causes(found, best_ms).items() if time > 0}
    if not lost:
        return ""
    worst = max(lost, key=lambda cause: lost[cause])
    said = f"{100 * lost[worst] / sum(lost.values()):.0f} % of the time lost: {CAUSES[worst]}"
    if worst == "ineligible":
        most = max((one for one in found.layers if not one.exploits), key=lambda one: one.ms)
        said += f" ({most.name}: {most.reason})"
    if worst == "kernel":
        own = (one for one in found.layers if one.exploits)
        most = max(own, key=lambda one: one.ms - one.floor_ms)
        said += f" (most in {most.name}, {most.operators})"
    return said
