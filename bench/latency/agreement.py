"""Top-1 agreement: whether a path gives real images the classes that the pruned net gives them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import data
from bench.latency import machine
from bench.latency.fold import fold
from bench.latency.gate import SLACK, WrongOutput
from bench.latency.prepare import DTYPES, Cell, Prepared

IMAGES = 1024
LEAST = 0.99
CHUNK = 256


@dataclass(frozen=True)
class Agreement:
    """The classes that one pruned net gives in one cell, and what share a path has to give, too.

    `images`: (n, C, H, W), fp32, normalised, on the CPU; `classes`: (n,).
    """

    images: Tensor
    classes: Tensor
    least: float

    def check(self, prepared: Prepared) -> float:
        """The share of images on which the path agrees; `WrongOutput` if it is too small."""
        x = prepared.x
        assert x is not None

        def run(images: Tensor) -> Tensor:
            # the last ones are repeated where images do not fill a batch
            full = images[torch.arange(len(x)) % len(images)]
            x.copy_(full)
            return prepared.output()[: len(images)]

        share = float((top1(run, self.images, len(x)) == self.classes).float().mean())
        if share < self.least:
            said = f"{100 * share:.1f} % of {len(self.images)} images get the pruned net's class"
            raise WrongOutput(f"{said}; {100 * self.least:.1f} % have to", 1 - share)
        return share


def agreement(model: nn.Module, cell: Cell, images: Tensor) -> Agreement:
    """For `model` as stored, executed plainly in fp32.

    A path may give 1 % of `images` another class, or 1.5 times as many as the folded net does, run
    plainly in the cell's dtype.
    """
    net = copy.deepcopy(model).eval().to(cell.device)
    with machine.exact():
        classes = top1(lambda part: net(part.to(cell.device)), images, CHUNK)
    folded, dtype = fold(net)[0].to(DTYPES[cell.dtype]), DTYPES[cell.dtype]
    plain = top1(lambda part: folded(part.to(cell.device, dtype)), images, CHUNK)
    apart = float((plain != classes).float().mean())
    return Agreement(images, classes, 1 - max(1 - LEAST, SLACK * apart))


def top1(run: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """The class (n,) of each image, on the CPU; `run`: at most `batch` images to (., classes)."""
    with torch.inference_mode():
        return torch.cat([run(part).float().argmax(1).cpu() for part in images.split(batch)])


def images_of(name: str, root: Path) -> Tensor | None:
    """The first `IMAGES` validation images of a data set, as a net is given them.

    None where the data set is not on this machine or has no classes: then agreement is not checked,
    and its column is empty.
    """
    if data.task_of(name) != "classification" or data.missing(name, root):
        return None
    found = data.load(name, root)
    order = torch.arange(min(IMAGES, len(found.validation)))
    return torch.cat([found.normalise(own) for own, _ in found.validation.batches(CHUNK, order)])
