"""Top-1 agreement: whether a path gives real images the classes that the pruned net gives them."""

from __future__ import annotations

import copy
import math
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
LEAST, FEWEST = 0.99, 0.5
"""The share that has to agree, and the least that rounding may make of it."""
CHUNK = 256


class Disagreement(WrongOutput):
    """A path gives too many images another class; `share` is that of the others."""

    share = math.nan


@dataclass(frozen=True)
class Agreement:
    """The classes that one pruned net gives in one cell, and what share a path has to give, too.

    `images`: (n, C, H, W), fp32, normalised, on the CPU; `classes`: (n,).
    """

    images: Tensor
    classes: Tensor
    least: float

    def check(self, prepared: Prepared, error: float = math.nan) -> float:
        """The share of images on which the path agrees; `Disagreement` if it is too small.

        What the path reads is afterwards what it was. `error`: the gate's, for the exception.
        """
        x = prepared.x
        assert x is not None
        before = x.clone()

        def run(images: Tensor) -> Tensor:
            # a part that does not fill the batch is repeated from its first image
            x.copy_(images[torch.arange(len(x)) % len(images)])
            return prepared.output()[: len(images)]

        try:
            given = top1(run, self.images, len(x))
        finally:
            x.copy_(before)  # all sides are timed on the same input
        share = float((given == self.classes).float().mean())
        if share < self.least:
            said = f"{100 * share:.1f} % of {len(self.images)} images get the pruned net's class"
            wrong = Disagreement(f"{said}; {100 * self.least:.1f} % have to", error)
            wrong.share = share
            raise wrong
        return share


def agreement(model: nn.Module, cell: Cell, images: Tensor) -> Agreement:
    """For `model` as stored, executed plainly in fp32.

    A path may give 1 % of `images` another class, or 1.5 times as many as the folded net does, run
    plainly in the cell's dtype. `WrongOutput` for a net of which that leaves less than half.
    """
    net = copy.deepcopy(model).eval().to(cell.device)
    with machine.exact():
        classes = top1(lambda part: net(part.to(cell.device)), images, cell.batch)
    folded, dtype = fold(net)[0].to(DTYPES[cell.dtype]), DTYPES[cell.dtype]
    plain = top1(lambda part: folded(part.to(cell.device, dtype)), images, cell.batch)
    apart = float((plain != classes).float().mean())
    if (least := 1 - max(1 - LEAST, SLACK * apart)) < FEWEST:
        said = f"in {cell.dtype} {100 * apart:.0f} % of real images get another class"
        raise WrongOutput(f"nothing can be checked: {said}", math.nan)
    return Agreement(images, classes, least)


def top1(run: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """The class (n,) of each image, on the CPU; -1 where an output is no number.

    `run`: at most `batch` images to (., classes).
    """
    found = []
    with torch.inference_mode():
        for part in images.split(batch):
            outputs = run(part).float()
            found.append(outputs.argmax(1).masked_fill(outputs.isnan().any(1), -1).cpu())
    return torch.cat(found)


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
