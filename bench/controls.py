"""Controls: a method run with the layer densities, or the shape, of another run's points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from bench.method import Method
from bench.spec import Record
from bench.surgery import channels, store
from bench.surgery.layers import parts, prunable
from bench.training import TrainingFailed


def copies(
    method: Method,
    source: Path,
    record: Record,
    initial: Callable[[], nn.Module],
    shape: tuple[int, ...],
) -> Iterator[tuple[Method, nn.Module | None]]:
    """`method`, once for each operating point of the run in `source`, and the net that it is given.

    With that point's counts, of weights by layer, or of channels by group where the method removes
    channels, and no net: it starts where it always does. A method that starts from a copy is given
    the point's net. `initial`: makes the unpruned net; `shape`: of one input. Raises
    `TrainingFailed` if the run has no point.
    """
    if not record.points:
        raise TrainingFailed(
            f"the run it copies, {record.id}, has no operating point: {record.reason}"
        )
    for point in record.operating_points:
        other = store.load(source / "points" / str(point.index))
        if method.start == "copy":
            yield method, other
            continue
        if getattr(method, "pattern", "") == "channel":
            counts = {g.name: g.size for g in channels.groups(other, shape)}
        else:
            dense = initial()
            stored = parts(other, dense)
            # factors may hold more numbers than the layer that they stand for
            counts = {
                n: min(sum(int(p.count_nonzero()) for p in stored[n].values()), w.numel())
                for n, w in prunable(dense).items()
            }
        yield method.model_copy(update={"allocation": counts}), None
