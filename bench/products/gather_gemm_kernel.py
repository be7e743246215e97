"""The Triton kernels of `bench.products.gather_gemm`. Importing them needs Triton, no GPU.

Both read maps that lie channel by channel with the images innermost, (channels, height, width,
batch), padding included, so that the places of an output follow each other in memory and a weight's
input is as far from each of them. A weight's code says its input: `tap's row << 24 | tap's column
<< 16 | channel`. Both write (outputs, places) and take `add` from there; `count`: places.
"""

# annotations of a kernel mean something to Triton
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

VARYING = ["height", "width", "out_width", "stride_h", "stride_w", "outputs"]


@triton.jit
def distance(code, height, width, batch):
    """From an output's first input to the one that `code` says."""
    down = code >> 24
    right = (code >> 16) & 255
    return (((code & 65535) * height + down) * width + right) * batch


@triton.jit
def first(place, width, out_width, batch, stride_h, stride_w, FLAT: tl.constexpr):
    """Where an output's first input lies. FLAT: at the output's own place."""
    if FLAT:
        begin = place
    else:
        spot = place // batch
        top = spot // out_width * stride_h
        left = spot % out_width * stride_w
        begin = (top * width + left) * batch + place % batch
    return begin


@triton.jit
def finished(sums, low, high):
    """Bounded as torch bounds: what is no number stays none."""
    sums = tl.maximum(sums, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(sums, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit(do_not_specialize=VARYING)
def shared(
    x,
    y,
    add,
    bias,
    weights,
    codes,
    ends,
    count,
    batch,
    height,
    width,
    out_width,
    stride_h,
    stride_w,
    outputs,
    low,
    high,
    PLACES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FLAT: tl.constexpr,
    ADDS: tl.constexpr,
):
    """ROWS outputs that share their inputs, at PLACES: a product on tensor cores.

    weights: (entries, ROWS), ordered by rows of outputs, which end at `ends`; codes: of each entry,
    COLUMNS more than there are.
    """
    strips = outputs // ROWS
    # neighbours share their input, which stays in the L2 cache
    program = tl.program_id(0)
    strip = program % strips
    place = program // strips * PLACES + tl.arange(0, PLACES)
    inside = place < count
    begin = first(place, width, out_width, batch, stride_h, stride_w, FLAT)
    column = tl.arange(0, COLUMNS)
    row = strip * ROWS + tl.arange(0, ROWS)
    entry = tl.load(ends + strip)
    end = tl.load(ends + strip + 1)
    sums = tl.full((PLACES, ROWS), 0.0, tl.float32)  # zeros is no builtin: not interpreted
    for at in range(entry, end, COLUMNS):
        held = (at + column < end)[:, None]
        far = distance(tl.load(codes + at + column), height, width, batch)
        a = tl.load(x + far[:, None] + begin[None, :], mask=held & inside[None, :], other=0.0)
        own = (at + column)[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
        b = tl.load(weights + own, mask=held, other=0.0)
        sums = tl.dot(tl.trans(a), b, sums, input_precision="ieee")
    sums += tl.load(bias + row)[None, :]
    target = row[None, :] * count + place[:, None]
    if ADDS:
        sums += tl.load(add + target, mask=inside[:, None], other=0.0).to(tl.float32)
    sums = finished(sums, low, high)
    tl.store(y + target, sums.to(y.dtype.element_ty), mask=inside[:, None])


@triton.jit(do_not_specialize=VARYING)
def single(
    x,
    y,
    add,
    bias,
    weights,
    codes,
    ends,
    count,
    batch,
    height,
    width,
    out_width,
    stride_h,
    stride_w,
    outputs,
    low,
    high,
    PLACES: tl.constexpr,
    OUTPUTS: tl.constexpr,
    TOGETHER: tl.constexpr,
    FLAT: tl.constexpr,
    ADDS: tl.constexpr,
):
    """OUTPUTS one after another at PLACES: a multiply-add for each of an output's own inputs.

    weights, codes: of each entry, ordered by outputs, which end at `ends`; each has a multiple of
    TOGETHER, whose loads are on their way at once.
    """
    strips = (outputs + OUTPUTS - 1) // OUTPUTS  # tl.cdiv is no builtin: not interpreted
    program = tl.program_id(0)
    begin = program % strips * OUTPUTS
    place = program // strips * PLACES + tl.arange(0, PLACES)
    inside = place < count
    ahead = x + first(place, width, out_width, batch, stride_h, stride_w, FLAT)
    # those that follow find in the first cache what the one before has read
    for output in range(begin, tl.minimum(begin + OUTPUTS, outputs)):
        entry = tl.load(ends + output)
        end = tl.load(ends + output + 1)
        sums = tl.full((PLACES,), 0.0, tl.float32)
        for at in range(entry, end, TOGETHER):
            for one in tl.static_range(TOGETHER):
                far = distance(tl.load(codes + at + one), height, width, batch)
                given = tl.load(ahead + far, mask=inside, other=0.0)
                sums += tl.load(weights + at + one).to(tl.float32) * given.to(tl.float32)
        sums += tl.load(bias + output)
        target = output * count + place
        if ADDS:
            sums += tl.load(add + target, mask=inside, other=0.0).to(tl.float32)
        sums = finished(sums, low, high)
        tl.store(y + target, sums.to(y.dtype.element_ty), mask=inside)
