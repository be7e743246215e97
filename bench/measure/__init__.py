"""What a model is worth and what it costs: multiply-adds, bits, counts and accuracy."""

from bench.measure.accuracy import accuracy, worst_class_drop
from bench.measure.cost import LAYER_COLUMNS, cost
from bench.measure.macs import macs
from bench.measure.size import bits, count, model_bits

__all__ = [
    "LAYER_COLUMNS",
    "accuracy",
    "bits",
    "cost",
    "count",
    "macs",
    "model_bits",
    "worst_class_drop",
]
