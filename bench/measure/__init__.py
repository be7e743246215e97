"""What a model is worth and what it costs: accuracy or error, multiply-adds, bits, counts."""

from bench.measure.accuracy import accuracy, worst_class_drop
from bench.measure.cost import LAYER_COLUMNS, cost
from bench.measure.field import field_error
from bench.measure.macs import macs
from bench.measure.size import bits, count, model_bits

__all__ = [
    "LAYER_COLUMNS",
    "accuracy",
    "bits",
    "cost",
    "count",
    "field_error",
    "macs",
    "model_bits",
    "worst_class_drop",
]
