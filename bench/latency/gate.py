"""The gate before any timing: a path must compute what the pruned net computes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench import kernels, rng
from bench.latency import machine
from bench.latency.fold import fold
from bench.latency.prepare import DTYPES, Cell, Prepared

TOLERANCE = 1e-5
LEAST, SLACK = 3e-3, 1.5
SEEN = 1 / 3
"""Largest limit, as a share of what an output changes from one input to another."""
DEAD = 0.1
"""Largest share of layers that may be given the same whatever the net is given."""
ROUNDING = 1e-3
"""What folding may change in fp32, in a net that makes much of small errors; mistakes do more."""


class WrongOutput(ArithmeticError):
    """A path's output is further from the reference than rounding; `distance` says how far."""

    def __init__(self, message: str, error: float) -> None:
        """With the relative error, for the row's column."""
        super().__init__(message)
        self.distance = error


@dataclass(frozen=True)
class Gate:
    """The reference outputs of one pruned net in one cell, and how far from them a path may be.

    `cases`: inputs and outputs, fp32; the last input is the one that is timed.
    """

    cases: tuple[tuple[Tensor, Tensor], ...]
    limit: float

    def check(self, prepared: Prepared) -> float:
        """The largest relative error; `WrongOutput` if it is too large or not finite.

        Another input comes first: an output that a path leaves unwritten may be in memory that
        still holds the right one of an earlier call.
        """
        worst = 0.0
        for x, reference in self.cases if prepared.x is not None else self.cases[-1:]:
            if prepared.x is not None:
                prepared.x.copy_(x)
            error = distance(prepared.output(), reference)
            if not error <= self.limit:  # NaN fails too
                said = f"relative output error {error:.2e} exceeds {self.limit:.2e}"
                raise WrongOutput(said, error)
            worst = max(worst, error)
        return worst


def other_than(x: Tensor, cell: Cell) -> Tensor:
    """Another standard normal input of that shape."""
    return torch.randn(x.shape, generator=rng.generator("gate", cell.batch)).to(x)


def gate(model: nn.Module, cell: Cell, x: Tensor, other: Tensor | None = None) -> Gate:
    """For `model` as stored: zeros in place, batch norm unfolded, executed plainly.

    The reference is that net in fp32. A path may be 1.5 times as far away (relative to the output's
    norm) as the folded net, run plainly in the cell's dtype, and 1e-5 at least in fp32, 3e-3 in
    others: room for the rounding of folded weights and another order of summation, for nothing
    else. Nets that make too little of their input for that to say anything are refused. `other`: as
    `other_than` makes it, for whoever keeps it.
    """
    net = copy.deepcopy(model).eval().to(cell.device)
    other = other_than(x, cell) if other is None else other
    with machine.exact():
        cases = tuple((given, net(given).clone()) for given in (other, x))
    if not all(bool(torch.isfinite(reference).all()) for _, reference in cases):
        raise WrongOutput("the net itself gives NaN or infinity on normal input", math.nan)
    if (dead := unmoved(net, x[:1], other[:1])) > DEAD:
        said = f"{100 * dead:.0f} % of its layers are given the same whatever the input is"
        raise WrongOutput(f"the net is dead: {said}", math.nan)
    dtype, least = DTYPES[cell.dtype], TOLERANCE if cell.dtype == "fp32" else LEAST
    folded, _ = fold(net)
    with machine.exact():
        if not (off := distance(folded(x), cases[-1][1])) <= ROUNDING:
            raise WrongOutput(f"with batch norm folded the net is {off:.1e} from itself", off)
    plain = distance(folded.to(dtype)(x.to(dtype)), cases[-1][1])
    limit = max(least, SLACK * plain if math.isfinite(plain) else 0)
    if limit > SEEN * (change := distance(*(reference for _, reference in cases))):
        raise WrongOutput(
            f"nothing can be checked: another input changes its output by {change:.1e}, and an "
            f"error may be {limit:.1e}",
            math.nan,
        )
    return Gate(cases, limit)


def unmoved(net: nn.Module, *inputs: Tensor) -> float:
    """Share of the layers with a prunable weight that are given the same for all `inputs`.

    Their products are of constants, often of zeros, which draws less power.
    """
    given: dict[nn.Module, list[Tensor]] = {}

    def seen(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        given.setdefault(layer, []).extend(part.clone() for part in args[:1])

    hooks = [layer.register_forward_pre_hook(seen) for layer in kernels.layers(net).values()]
    for x in inputs:
        net(x)
    for hook in hooks:
        hook.remove()
    same = [all(torch.equal(own[0], other) for other in own[1:]) for own in given.values()]
    return sum(same) / max(1, len(same))


def distance(output: Tensor, reference: Tensor) -> float:
    """||output - reference|| / ||reference||, in double; infinite if the shapes differ."""
    if output.shape != reference.shape:
        return math.inf
    wanted = reference.double()
    return float((output.double() - wanted).norm() / wanted.norm().clamp_min(1e-300))
