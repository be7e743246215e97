"""The direct path: our own kernel for unstructured zeros on CPUs.

Linear layers and 2-D convolutions as in `bench.products.direct`; what follows a convolution (a sum
with a shortcut, a ReLU) is done before its result is stored (`bench.products.after`), and maxima
are pooled by slices. Compiled on first use; without a compiler this path is refused, and
`embedding_bag` is the one to take.
"""

from __future__ import annotations

from torch import nn

from bench.products import after, compiled, direct, geometry, lowering, pool

DTYPES = {"cpu": ("fp32",)}
MODES = ("eager",)
LAYOUTS = ("nchw",)


def refusal(layer: nn.Module) -> str:
    """Why this layer stays dense; empty if it does not."""
    try:
        direct.functions()
    except compiled.CompilerError as error:
        return f"{error}; embedding_bag needs no compiler"
    return lowering.refusal(layer)


supports, by_layer = lowering.by_layer(refusal, direct.Direct)


def convert(model: nn.Module) -> nn.Module:
    """`model` with every supported layer replaced, and what follows it taken along."""
    made = by_layer(model)
    if not any(isinstance(module, direct.Direct) for module in made.modules()):
        return made
    return after.taken(pool.sliced(made), direct.Direct)


def version() -> str:
    """A digest of the code: what was measured with other code is not taken for today's."""
    return f"direct {compiled.digest(direct, geometry, after, pool)}"
