"""The gate before any timing: a path must compute what the pruned net computes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.latency import machine
from bench.latency.prepare import DTYPES, Cell, Prepared

TOLERANCE = {"fp32": 1e-5, "tf32": 1e-2, "fp16": 1e-2, "bf16": 1e-2}
SLACK = 1.5


class WrongOutput(ArithmeticError):
    """A path's output is further from the reference than rounding; `distance` says how far."""

    def __init__(self, message: str, error: float) -> None:
        """With the relative error, for the row's column."""
        super().__init__(message)
        self.distance = error


@dataclass(frozen=True)
class Gate:
    """The reference output of one pruned net in one cell, and how far from it a path may be."""

    reference: Tensor
    limit: float

    def check(self, prepared: Prepared) -> float:
        """The relative error of one call; `WrongOutput` if it is too large or not finite."""
        error = distance(prepared.output(), self.reference)
        if not error <= self.limit:  # NaN fails too
            raise WrongOutput(f"relative output error {error:.2e} exceeds {self.limit:.2e}", error)
        return error


def gate(model: nn.Module, cell: Cell, x: Tensor) -> Gate:
    """For `model` as stored: zeros in place, batch norm unfolded, executed plainly.

    The reference is that net in fp32. In fp32 a path may be 1e-5 away (relative to the output's
    norm), which leaves room for the rounding of folded weights and another order of summation, and
    for nothing else. In tf32, fp16 and bf16 the limit is 1e-2, or 1.5 times the error of the plain
    net in that dtype where a deep net's own rounding is more than that.
    """
    net = copy.deepcopy(model).eval().to(cell.device)
    with machine.exact():
        reference = net(x).clone()
    if not bool(torch.isfinite(reference).all()):
        raise WrongOutput("the net itself gives NaN or infinity on normal input", math.nan)
    if cell.dtype == "fp32":
        return Gate(reference, TOLERANCE["fp32"])
    dtype = DTYPES[cell.dtype]
    plain = distance(net.to(dtype)(x.to(dtype)), reference)
    return Gate(reference, max(TOLERANCE[cell.dtype], SLACK * plain if math.isfinite(plain) else 0))


def distance(output: Tensor, reference: Tensor) -> float:
    """||output - reference|| / ||reference||, in double; infinite if the shapes differ."""
    if output.shape != reference.shape:
        return math.inf
    wanted = reference.double()
    return float((output.double() - wanted).norm() / wanted.norm().clamp_min(1e-300))
