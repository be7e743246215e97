"""Gates of channels whose noise tells what a channel is worth: the information bottleneck's.

z = mu + sigma e, e ~ N(0, 1) drawn for each sample and channel, multiplies a channel wherever it is
read. A channel whose mu^2 / sigma^2 is small carries no information.

Dai, Zhu, Guo, Wipf, "Compressing Neural Networks using the Variational Information Bottleneck",
ICML 2018, and its authors' code (VIBNet), where the gate stands behind the layer that makes the
channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.surgery.probe import SurgeryError
from bench.surgery.views import Channels


class Reader(NamedTuple):
    """How a layer reads gated channels.

    `axis`: of its weight; `order`: int64 (inputs,), for each input the number of its gate, 0 for
    none; `parts`: each set of channels that it reads, with inputs per channel.
    """

    layer: nn.Module
    axis: int
    order: Tensor
    parts: list[tuple[str, int]]


class Gates:
    """A gate for each channel of every coupled set of `view`.

    `mean`, `log_variance`: mu and ln sigma^2, which learn, (channels,) by the set's name; `readers`
    by the layer's name.
    """

    def __init__(self, view: Channels, generator: torch.Generator) -> None:
        """As VIBNet starts: mu ~ N(1, 0.01^2), ln sigma^2 ~ N(-9, 0.01^2).

        Raises `SurgeryError` where a gate cannot stand in front of what reads the channel.
        """
        self.generator = generator
        device = next(view.model.parameters()).device

        def near(middle: float, size: int) -> nn.Parameter:
            return nn.Parameter((middle + 0.01 * torch.randn(size, generator=generator)).to(device))

        self.mean = {n: near(1.0, size) for n, size in view.sizes.items()}
        self.log_variance = {n: near(-9.0, size) for n, size in view.sizes.items()}
        self.readers = _readers(view, device)
        self.sides: dict[str, float] = {}
        self.drawn: Tensor | None = None  # z of every channel, the same for all its readers

    def parameters(self) -> list[nn.Parameter]:
        """What learns."""
        return [*self.mean.values(), *self.log_variance.values()]

    def measure(self, layer: str, x: Tensor) -> None:
        """Learn from what `layer` reads, `x`, how large the maps of its channels are.

        Of channels that several layers read, from the first of these. A token is a place.
        """
        if layer in self.readers:
            linear = _linear(self.readers[layer].layer)
            places = math.prod(x.shape[1:-1] if linear else x.shape[2:])
            for name, inputs in self.readers[layer].parts:
                self.sides.setdefault(name, math.sqrt(inputs * places))

    def forget(self) -> None:
        """Before a forward pass with gradients: its noise is not that of the last one."""
        self.drawn = None

    def at(self, layer: str, x: Tensor) -> Tensor:
        """What `layer` reads, `x` (samples, channels, ...) or, linear, (..., channels), times z.

        Without gradients, so when a net is judged, times mu.
        """
        if layer not in self.readers:
            return x
        reader = self.readers[layer]
        if not torch.is_grad_enabled():
            every = self.opening().expand(len(x), -1)
        elif self.drawn is None:
            every = self.drawn = self.sampled(len(x))
        else:
            every = self.drawn
        z = every[:, reader.order].to(x.dtype)
        ones = [1] * (x.dim() - 2)
        return (
            x * z.view(len(x), *ones, -1) if _linear(reader.layer) else x * z.view(*z.shape, *ones)
        )

    def opening(self) -> Tensor:
        """The mu of every channel, (1 + channels,), after the 1 of what has no gate."""
        mean = torch.cat(list(self.mean.values()))
        return torch.cat([mean.new_ones(1), mean])

    def sampled(self, samples: int) -> Tensor:
        """The z of every channel for so many samples, (samples, 1 + channels)."""
        deviation = torch.cat(list(self.log_variance.values())).mul(0.5).exp()
        noise = torch.randn(samples, len(deviation), generator=self.generator)
        noise = deviation * noise.to(deviation.device)
        return self.opening() + torch.cat([noise.new_zeros(samples, 1), noise], 1)

    def ratio(self) -> dict[str, Tensor]:
        """mu^2 / sigma^2 of each channel, (channels,)."""
        return {n: mu.square() / self.log_variance[n].exp() for n, mu in self.mean.items()}

    def information(self, power: float) -> Tensor:
        """sum_l (side of l's maps)^power / 2 * sum_c ln(1 + mu^2 / sigma^2)."""
        ratios = self.ratio().items()
        return torch.stack([self.sides[n] ** power / 2 * r.log1p().sum() for n, r in ratios]).sum()

    def kept(self, threshold: float, width: float) -> dict[str, Tensor]:
        """How surely each channel stays, in (0, 1): a sigmoid in ln(mu^2 / sigma^2)."""
        logs = {n: torch.log(r + 1e-8) - math.log(threshold) for n, r in self.ratio().items()}
        return {n: torch.sigmoid(log / width) for n, log in logs.items()}

    @torch.no_grad()
    def fold(self, power: Callable[[str], float] = lambda name: 1.0) -> None:
        """Put mu into the weights that read a channel: without gates the net then does the same.

        But for what a quantiser's rounding makes of the new weights. `power`: the exponent t, by
        the weight's name, where w counts as |w|^t: such a weight grows by the t-th root.
        """
        mean = self.opening()
        for owner, reader in self.readers.items():
            weight, name = reader.layer.get_parameter("weight"), f"{owner}.weight"
            factor = mean.sign() * mean.abs() ** (1 / power(name))
            weight.movedim(reader.axis, -1).mul_(factor[reader.order])


def _readers(view: Channels, device: torch.device) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    modules = dict(view.model.named_modules())
    first = 1
    for name, group in view.groups.items():
        for place in group.slices:
            owner, _, own = place.name.rpartition(".")
            if place.output:
                continue
            layer = modules[owner]
            if own != "weight" or getattr(layer, "groups", 1) > 1:
                raise SurgeryError(f"no gate can stand in front of {place.name}")
            size = layer.get_parameter(own).shape[place.axis]
            order = torch.zeros(size, dtype=torch.int64, device=device)
            reader = found.setdefault(owner, Reader(layer, place.axis, order, []))
            units = torch.arange(first, first + group.size)[:, None].expand_as(place.index)
            reader.order[place.index.to(device)] = units.to(device)
            reader.parts.append((name, place.index.shape[1]))
        first += group.size
    return found


def _linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)
