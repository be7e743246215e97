"""Execution paths, one file each: how a pruned net is run. A dropped-in file is a path by its name.

A file `bench/kernels/<name>.py` holds

- `supports(layer, name) -> (bool, reason)`: can this path run the layer called `name`, with these
  weights? The reason says why not (`""` when it can);
- `convert(model) -> nn.Module`: the net (eval mode, batch norm folded, on its device, in its dtype
  and layout) with every supported layer replaced; the rest stays dense. It may change `model` in
  place;
- `DTYPES`: the dtypes that it takes on each device that it runs on, as in `LatencyConfig`;

and, where the defaults below do not fit,

- `MODES` (of eager, graph, compile) and `LAYOUTS` (of nchw, nhwc) that it can take;
- `applies(model, dense) -> (bool, reason)`: can it run this net, given the dense net it came from?
  Default: it supports at least one prunable layer;
- `ZEROS = False`: it multiplies zeros like any number;
- `version() -> str`: of the library behind it, where the version of torch does not say it;
- `BASELINE = True`: it also runs unpruned nets, and the fastest of such paths is the denominator of
  all speed-ups.

A layer without enough zeros to exploit is not supported and stays dense, so an unpruned net must
come through any path unchanged (see `bench.products.lowering`).

Importing this package loads no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Verdict = tuple[bool, str]


class KernelError(ValueError):
    """An unknown execution path, or a path file that lacks a part."""


@dataclass(frozen=True)
class Kernel:
    """One execution path, as its file defines it."""

    name: str
    dtypes: dict[str, tuple[str, ...]]
    """By device."""
    supports: Callable[[nn.Module, str], Verdict]
    convert: Callable[[nn.Module], nn.Module]
    modes: tuple[str, ...] = ("eager", "graph", "compile")
    layouts: tuple[str, ...] = ("nchw", "nhwc")
    rule: Callable[[nn.Module, nn.Module], Verdict] | None = None
    baseline: bool = False
    zeros: bool = True
    """Whether it exploits zeros that are stored."""
    version: Callable[[], str] = lambda: ""
    """Of the library behind it, where torch's own does not say it."""

    def applies(self, model: nn.Module, dense: nn.Module, device: str, dtype: str) -> Verdict:
        """Whether this path can run `model` there, and if not, why."""
        if device not in self.dtypes:
            return False, f"{self.name} runs on {', '.join(self.dtypes)}, not on {device}"
        if dtype not in self.dtypes[device]:
            known = ", ".join(self.dtypes[device])
            return False, f"{self.name} on {device} runs in {known}, not in {dtype}"
        from bench.surgery.quantised_input import QuantisedInput

        if any(isinstance(module, QuantisedInput) for module in model.modules()):
            return False, "its quantised activations are simulated in floating point"
        if self.rule is not None:
            return self.rule(model, dense)
        verdicts = [self.supports(layer, name) for name, layer in layers(model).items()]
        if any(able for able, _ in verdicts):
            return True, ""
        reasons = dict.fromkeys(reason for _, reason in verdicts)
        return False, "no layer is supported: " + (
            "; ".join(reasons) or "there is no prunable layer"
        )


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold a prunable weight, by dotted name."""
    from bench.surgery.layers import prunable

    return {
        (owner := weight.rpartition(".")[0]): model.get_submodule(owner)
        for weight in prunable(model)
    }


def names() -> tuple[str, ...]:
    """Every execution path there is."""
    return tuple(
        sorted({file.stem for folder in __path__ for file in Path(folder).glob("[a-z]*.py")})
    )


def load(name: str) -> Kernel:
    """The path `name`; `KernelError` if there is no such file or a part is missing."""
    if name not in names():
        raise KernelError(f"no execution path {name!r}; there are: {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    missing = [part for part in ("supports", "convert", "DTYPES") if not hasattr(module, part)]
    if missing:
        raise KernelError(f"bench/kernels/{name}.py lacks {', '.join(missing)}")
    return assemble(name, module)


def assemble(name: str, module: ModuleType) -> Kernel:
    """The parts of a path's file as one value."""
    return Kernel(
        name=name,
        dtypes=dict(module.DTYPES),
        supports=module.supports,
        convert=module.convert,
        modes=tuple(getattr(module, "MODES", Kernel.modes)),
        layouts=tuple(getattr(module, "LAYOUTS", Kernel.layouts)),
        rule=getattr(module, "applies", None),
        baseline=getattr(module, "BASELINE", False),
        zeros=getattr(module, "ZEROS", True),
        version=getattr(module, "version", lambda: ""),
    )
