"""Parameters, non-zeros and bits of a stored model.

Three ways to store a tensor, with v bits a value, as a matrix of r rows and c columns (`weight`:
(out, in, kh, kw) has r = out, c = in * kh * kw; a vector is one row) with n non-zeros:

- dense: r c v;
- csr: n (v + ceil(log2 c)) + 32 (r + 1): a column index of the fewest bits for each value (at least
  one), and 32-bit row pointers;
- bitmap: n v + r c: the non-zeros, and one bit for each position.

v is what the values need (`integers`): fewer bits than their dtype has, where they are integers
times one step, which then takes 32 bits more; in the last two formats zero is no value.
"""

from __future__ import annotations

from torch import Tensor, nn

from bench.measure.integers import value_bits
from bench.surgery.layers import matrix, prunable

FORMATS = ("dense", "csr", "bitmap")


def bits(tensor: Tensor) -> dict[str, int]:
    """The size of `tensor`, of any shape, in bits, by format (see the module's formulas)."""
    values = matrix(tensor) if tensor.ndim > 1 else tensor.reshape(1, -1)
    rows, columns = values.shape
    nonzeros = int(values.count_nonzero())
    index = max(1, (columns - 1).bit_length())  # ceil(log2 columns), without rounding
    value, kept = value_bits(values)
    step = 32 if value < 8 * values.element_size() else 0
    return {
        "dense": rows * columns * value + step,
        "csr": nonzeros * (kept + index) + (rows + 1) * 32 + step,
        "bitmap": nonzeros * kept + rows * columns + step,
    }


def model_bits(model: nn.Module) -> tuple[int, dict[str, int]]:
    """The size of `model` in bits: every weight in its smallest format; all weights in one format.

    Only prunable weights have a choice of format. All else that inference needs is dense: biases,
    normalisation parameters, embeddings, and the buffers of the state dict (running mean and
    variance) but for `num_batches_tracked`, which only training reads. A tensor with two names
    counts once.
    """
    weights = {id(w): bits(w) for w in prunable(model).values()}
    kept = {id(t): t for name, t in model.state_dict(keep_vars=True).items() if _needed(name)}
    rest = sum(8 * t.element_size() * t.numel() for i, t in kept.items() if i not in weights)
    smallest = sum(min(sizes.values()) for sizes in weights.values())
    return rest + smallest, {f: rest + sum(s[f] for s in weights.values()) for f in FORMATS}


def count(model: nn.Module) -> tuple[int, int]:
    """Parameters of all kinds, and how many of them are not zero; a tied one counts once."""
    parameters = tuple(model.parameters())
    return sum(p.numel() for p in parameters), sum(int(p.count_nonzero()) for p in parameters)


def _needed(name: str) -> bool:
    return not name.endswith("num_batches_tracked")
