"""How many of a net's activations are not zero: of every ReLU, by group of coupled channels.

    activity = Activity(model, shape)        # which ReLU carries which channels
    with activity:
        ...                                  # training steps, each followed by activity.step()
    activity.read()                          # group name -> density of each ReLU and channel

A function mode sees every ReLU as it is called (`F.relu`, `Tensor.relu`, `nn.ReLU`, in place, and
ReLU6), before any pooling. Nothing is attached to the net.

Which channels a ReLU carries is found by experiment, so that no operation needs a rule: all
removable channels are numbered, and in pass b those whose number has bit b are masked. An element
in front of a ReLU is zero in exactly the passes of its channel's number, whatever adds,
concatenations, shuffles or normalisation lie between.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench import rng
from bench.surgery import channels, removal
from bench.surgery.channels import Group, SurgeryError

__all__ = ["Activity", "SurgeryError", "carried"]


class _Rectifiers(TorchFunctionMode):
    """Calls `seen(input, call)` in the place of every ReLU; what it returns is the output."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if _rectifies(func, args, options):
            x = args[0] if args else options["input"]
            return self.seen(x, lambda: func(*args, **options))
        return func(*args, **options)

    def seen(self, x: Tensor, call: Any) -> Tensor:
        """`x` is about to be rectified; `call()` does it."""
        raise NotImplementedError


def _rectifies(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    if name in ("hardtanh", "hardtanh_"):  # what nn.ReLU6 calls
        return (args[1] if len(args) > 1 else options.get("min_val", -1.0)) == 0
    return name in ("relu", "relu_", "relu6")


class _Linear(_Rectifiers):
    """Leaves every ReLU out, so that none is dead, and keeps what stands in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.zero: list[Tensor] = []  # for each ReLU, which elements of the one sample are zero

    def seen(self, x: Tensor, call: Any) -> Tensor:
        self.zero.append((x[0] == 0).cpu())
        return x


@torch.no_grad()
def carried(model: nn.Module, shape: tuple[int, ...], found: list[Group]) -> list[Tensor]:
    """For every ReLU of `model`, in the order of the calls, the channels that it carries.

    An int64 tensor of the output's shape without the batch axis: 0 for an element of no group, else
    the number of its unit, counted from 1 through all groups of `found`. `model` is left as it is.
    """
    stream = rng.generator("activations", *shape)
    probe = copy.deepcopy(model).eval()
    removal.scatter(probe, stream)
    image = torch.randn(1, *shape, generator=stream).to(next(probe.parameters()))
    numbers = _numbers(found)
    codes: list[Tensor] = []
    # one more, so that no unit has the number of an element that is always zero
    for bit in range((sum(g.size for g in found) + 1).bit_length()):
        trial = copy.deepcopy(probe)
        channels.mask(trial, found, {n: (m >> bit) & 1 == 0 for n, m in numbers.items()})
        with _Linear() as passed:
            trial(image)
        codes = codes or [torch.zeros(z.shape, dtype=torch.int64) for z in passed.zero]
        for code, zero in zip(codes, passed.zero, strict=True):
            code += zero.long() << bit
    return codes


def _numbers(found: list[Group]) -> dict[str, Tensor]:
    """Group name -> the numbers of its units, int64 (C,)."""
    numbers, first = {}, 1
    for group in found:
        numbers[group.name] = torch.arange(first, first + group.size)
        first += group.size
    return numbers


class Activity(_Rectifiers):
    """Counts non-zero activations exactly, in forward passes that record gradients.

    `groups`: the groups of coupled channels that a ReLU carries whole, in layer order; only these
    are measured. `every`: count in each n-th training step only.

    Raises:
        SurgeryError: as `channels.groups`.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], every: int = 1) -> None:
        super().__init__()
        self.net, self.every = type(model).__name__, every
        found = channels.groups(model, shape)
        self.codes = carried(model, shape, found)
        every_unit = _numbers(found)
        # (call, units) of each ReLU that carries all of a group
        self.calls = {
            group.name: [
                (call, every_unit[group.name])
                for call, code in enumerate(self.codes)
                if bool(torch.isin(every_unit[group.name], code).all())
            ]
            for group in found
        }
        self.groups = [group for group in found if self.calls[group.name]]
        self.steps = self.call = 0
        self.counts: dict[int, Tensor] = {}
        self.rows: dict[int, int] = defaultdict(int)

    def seen(self, x: Tensor, call: Any) -> Tensor:
        """Add the non-zero elements of the output, summed over the batch, to this call's."""
        output: Tensor = call()
        if not torch.is_grad_enabled():  # validation
            return output
        if self.steps % self.every == 0:
            with torch.no_grad():
                if self.call >= len(self.codes) or output.shape[1:] != self.codes[self.call].shape:
                    raise SurgeryError(f"{self.net} rectifies other tensors in training")
                # the sign of a rectified number is 0 or 1; float32 counts exactly to 2^24
                count = output.sign().sum(0, dtype=torch.float32)
                known = self.counts.get(self.call)
                self.counts[self.call] = count if known is None else known.add_(count)
                self.rows[self.call] += len(output)
        self.call += 1
        return output

    def step(self) -> None:
        """A training step is over: the next ReLU is the first again.

        Raises:
            SurgeryError: the step had more or fewer ReLUs than the trace.
        """
        if self.call != len(self.codes):
            raise SurgeryError(
                f"{self.net} called {self.call} ReLUs in a training step, not {len(self.codes)}"
            )
        self.steps, self.call = self.steps + 1, 0

    def read(self) -> dict[str, Tensor]:
        """Group name -> fraction of non-zero activations since the last reading.

        Float64 on the CPU, (n, C): a row for each of the n ReLUs that carry the group, and in it
        the fraction over all samples and places of each of its C units.

        Raises:
            SurgeryError: no step was counted.
        """
        if not self.counts:
            raise SurgeryError("no training step was counted since the last reading")
        size = 1 + max(int(code.max()) for code in self.codes)
        units = {}
        for call, count in self.counts.items():
            code = self.codes[call].flatten()
            on, of = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
            on.index_add_(0, code, count.double().cpu().flatten())
            of.index_add_(0, code, torch.full(code.shape, self.rows[call], dtype=torch.float64))
            units[call] = on / of.clamp_min(1)
        self.counts, self.rows = {}, defaultdict(int)
        return {
            g.name: torch.stack([units[call][numbers] for call, numbers in self.calls[g.name]])
            for g in self.groups
        }
