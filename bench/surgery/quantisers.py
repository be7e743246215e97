"""A learned quantiser for every prunable weight of a net, and for what each layer reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.surgery.layers import prunable
from bench.surgery.learned_levels import Levels
from bench.surgery.quantised_input import WHOLE, quantise_input

What = Literal["both", "weights", "none"]


class Quantisers:
    """`weights`: by the weight's name; `inputs`: by the layer's. Both may be empty."""

    def __init__(
        self,
        model: nn.Module,
        read: Mapping[str, Tensor],
        what: What,
        bits: float,
        dead: float,
        power_of_two: bool,
    ) -> None:
        """Levels up to the largest weight, and the largest of what each layer reads (`read`)."""
        uniform = partial(Levels.uniform, bits=bits, dead=dead, power_of_two=power_of_two)
        weights = prunable(model) if what != "none" else {}
        inputs = read if what == "both" else {}
        self.weights = {n: uniform(w.detach().abs().max(), signed=True) for n, w in weights.items()}
        self.inputs = {
            n: uniform(x.abs().max(), signed=bool((x < 0).any())) for n, x in inputs.items()
        }

    def parameters(self, power: bool) -> list[nn.Parameter]:
        """What learns; the exponents only with `power`."""
        levels = [*self.weights.values(), *self.inputs.values()]
        exponents = [one.log_power for one in levels] if power else []
        return [p for one in levels for p in (one.log_step, one.log_reach)] + exponents

    def hold(self) -> None:
        """After a step of the optimiser (see `Levels.hold`)."""
        for one in [*self.weights.values(), *self.inputs.values()]:
            one.hold()

    def power(self, weight: str) -> float:
        """The exponent of a weight's levels; 1 where it has none."""
        return float(self.weights[weight].power) if weight in self.weights else 1.0

    @contextmanager
    def following(self, own: Mapping[str, Tensor]) -> Iterator[None]:
        """While the block changes the weights, their ranges grow as the largest of each does."""

        def largest() -> dict[str, float]:
            return {n: float(own[n].detach().abs().max()) for n in self.weights}

        before = largest()
        yield
        for name, after in largest().items():
            if before[name] > 0 and after > 0:
                self.weights[name].scale(after / before[name])

    def of(self, weight: str) -> tuple[Levels | None, Levels | None]:
        """The quantisers of a weight and of what it is multiplied with."""
        return self.weights.get(weight), self.inputs.get(weight.rpartition(".")[0])

    def bits(self, weight: str) -> tuple[Tensor, Tensor]:
        """Bit-widths of a weight and of what it is multiplied with."""
        own, read = self.of(weight)
        whole = torch.tensor(float(WHOLE))
        return own.bits if own else whole, read.bits if read else whole

    def seen(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights on their levels."""
        return {name: levels(own[name]) for name, levels in self.weights.items()}

    def read(self, layer: str, x: Tensor) -> Tensor:
        """What `layer` reads, `x`, on its levels."""
        return self.inputs[layer](x) if layer in self.inputs else x

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        """Leave the levels in `model`: weights that lie on them, layers that quantise their input.

        `model`: the net, or a smaller one with the same names.
        """
        own = dict(model.named_parameters())
        for name, value in self.seen(own).items():
            own[name].copy_(value)
        for name, levels in self.inputs.items():
            quantise_input(model.get_submodule(name), levels)


@contextmanager
def before_layers(model: nn.Module, see: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """While the block runs, every layer with a prunable weight reads `see(its name, x)`, not x."""

    def hook(name: str, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (see(name, args[0]), *args[1:])

    owners = dict.fromkeys(name.rpartition(".")[0] for name in prunable(model))
    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(hook, name)) for name in owners
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def reads(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """What each layer with a prunable weight reads in a forward pass of `batch`, by its name."""
    found: dict[str, Tensor] = {}

    def see(name: str, x: Tensor) -> Tensor:
        found[name] = x
        return x

    training = model.training
    with before_layers(model, see):
        model.eval()(batch)
    model.train(training)
    return found
