"""The pruning benchmark: accuracy, size and measured latency in one row.

With intervals and provenance.
"""

__version__ = "0.1.0"
