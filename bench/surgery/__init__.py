"""What pruning does to a net.

Prunable layers, masks, patterns, allocations, channel removal, save and load.
"""

from bench.surgery.layers import gates, prunable
from bench.surgery.masks import Masks, magnitudes, nonzero, uniform
from bench.surgery.patterns import PatternError, PatternName
from bench.surgery.prune import Allocation, Uneven, prune

__all__ = [
    "Allocation",
    "Masks",
    "PatternError",
    "PatternName",
    "Uneven",
    "gates",
    "magnitudes",
    "nonzero",
    "prunable",
    "prune",
    "uniform",
]
