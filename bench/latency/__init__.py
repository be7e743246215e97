"""Measured latency: the protocol, its statistics and the table it fills.

`measure` times the points of one (data set, architecture) against one dense baseline, `run` does so
for a suite's folder. Importing the package loads no torch; the parts that need it come on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.latency.config import LatencyConfig
from bench.latency.table import COLUMNS

if TYPE_CHECKING:
    from bench.latency.job import LatencyError, run
    from bench.latency.protocol import measure
    from bench.latency.trial import Target

__all__ = ["COLUMNS", "LatencyConfig", "LatencyError", "Target", "measure", "run"]

_HOME = {"measure": "protocol", "Target": "trial", "run": "job", "LatencyError": "job"}


def __getattr__(name: str) -> Any:
    """Load the part that defines `name` (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
