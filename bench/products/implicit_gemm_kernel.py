"""The Triton kernel of `bench.products.implicit_gemm`. Importing it needs Triton, no GPU."""

# annotations of a kernel mean something to Triton
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(
    do_not_specialize=[
        *("count", "height", "width", "out_height", "out_width"),
        *("stride_h", "stride_w", "pad_h", "pad_w"),
    ]
)
def convolve(
    x,
    y,
    add,
    bias,
    tiles,
    places,
    ends,
    count,
    height,
    width,
    out_height,
    out_width,
    channels,
    outputs,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    low,
    high,
    PLACES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    ADDS: tl.constexpr,
):
    """One program: PLACES of the output by ROWS of its channels.

    x: (N, height, width, channels); y, add: (count, outputs), `count` places of all images; tiles:
    (kept, COLUMNS, ROWS), ordered by their rows, which end at `ends`; places: of each tile its tap
    and inputs, as `tap's row << 24 | tap's column << 16 | block of COLUMNS inputs`.
    """
    strips = outputs // ROWS
    # neighbours share their input, which stays in the L2 cache
    program = tl.program_id(0)
    strip = program % strips
    place = program // strips * PLACES + tl.arange(0, PLACES)
    inside = place < count
    known = tl.minimum(place, count - 1)
    image = known // (out_height * out_width)
    top = known // out_width % out_height * stride_h - pad_h
    left = known % out_width * stride_w - pad_w
    corner = ((image * height + top) * width + left) * channels
    column = tl.arange(0, COLUMNS)
    row = tl.arange(0, ROWS)
    sums = tl.full((PLACES, ROWS), 0.0, tl.float32)  # zeros is no builtin: not interpreted
    for tile in range(tl.load(ends + strip), tl.load(ends + strip + 1)):
        code = tl.load(places + tile)
        down = code >> 24
        right = (code >> 16) & 255
        start = corner + (down * width + right) * channels + (code & 65535) * COLUMNS
        ahead = x + start[:, None] + column[None, :]
        if PADDED:
            there = (top + down >= 0) & (top + down < height)
            there &= (left + right >= 0) & (left + right < width)
            a = tl.load(ahead, mask=there[:, None], other=0.0)
        else:
            a = tl.load(ahead)
        b = tl.load(tiles + tile * (COLUMNS * ROWS) + column[:, None] * ROWS + row[None, :])
        sums = tl.dot(a, b, sums, input_precision="ieee")
    sums += tl.load(bias + strip * ROWS + row)[None, :]
    target = known[:, None] * outputs + strip * ROWS + row[None, :]
    if ADDS:
        sums += tl.load(add + target).to(tl.float32)
    # as torch bounds: what is no number stays none
    sums = tl.maximum(sums, low, propagate_nan=tl.PropagateNan.ALL)
    sums = tl.minimum(sums, high, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + target, sums.to(y.dtype.element_ty), mask=inside[:, None])
