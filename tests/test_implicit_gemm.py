"""The block-sparse kernel: under Triton's interpreter, compiled for Hopper, on a GPU."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from torch import nn

from bench import kernels, models
from bench.kernels import implicit_gemm as implicit_path
from bench.latency.fold import fold
from bench.latency.gate import distance, gate
from bench.latency.prepare import Cell, Variant, prepare
from bench.products import after, implicit_gemm
from bench.surgery import prune, uniform

from . import hopper

KERNEL = "bench.products.implicit_gemm_kernel"


@pytest.fixture
def interpreter(monkeypatch):
    """Triton on the CPU."""
    yield from hopper.interpreted(KERNEL, monkeypatch)


LAYERS = {
    "3x3": (lambda: nn.Conv2d(32, 64, 3, padding=1), (2, 32, 7, 9)),
    "3x3, stride 2, no bias": (
        lambda: nn.Conv2d(32, 64, 3, padding=1, stride=2, bias=False),
        (3, 32, 7, 9),
    ),
    "1x1": (lambda: nn.Conv2d(64, 32, 1), (1, 64, 5, 7)),
    "1x1, stride 2": (lambda: nn.Conv2d(64, 32, 1, stride=2), (2, 64, 5, 6)),
    "1x1, padded": (lambda: nn.Conv2d(64, 32, 1, padding=1), (2, 64, 3, 2)),
    "7x7, stride 2": (lambda: nn.Conv2d(16, 32, 7, padding=3, stride=2), (1, 16, 11, 9)),
    "1x7": (lambda: nn.Conv2d(16, 32, (1, 7), padding=(0, 3)), (1, 16, 3, 8)),
    "dilated": (lambda: nn.Conv2d(32, 32, 3, padding=2, dilation=2), (1, 32, 9, 8)),
    "one place": (lambda: nn.Conv2d(32, 32, 3), (2, 32, 3, 3)),
    "linear": (lambda: nn.Linear(64, 32), (2, 5, 64)),
    "linear, no bias": (lambda: nn.Linear(32, 128, bias=False), (70, 32)),
}


def pruned(name, tile="16x16", density=0.3):
    torch.manual_seed(0)
    make, size = (LAYERS | WIDE)[name]
    net, shape = nn.Sequential(make()).eval(), size[1:]
    scores = uniform(net, torch.Generator().manual_seed(0))
    made, _ = prune(net, scores, density, pattern=f"tile:{tile}", uneven="dense", shape=shape)
    return made[0], torch.randn(size)


@pytest.mark.parametrize("name", LAYERS)
def test_tiles_compute_what_their_layer_computes(name, interpreter):
    for density in (0.1, 0.5):
        layer, x = pruned(name, density=density)
        assert implicit_gemm.refusal(layer) == ""
        with torch.inference_mode():
            made, wanted = implicit_gemm.Tiles(layer), layer(x)
            add = torch.randn_like(wanted)
            last = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
            for given in (x, last):
                found = made(given)
                assert found.shape == wanted.shape
                assert distance(found, wanted) < 1e-6
            assert distance(made(x, add), wanted + add) < 1e-6
            made.low, made.high = 0.0, 0.5
            assert distance(made(x, add), (wanted + add).clamp(0, 0.5)) < 1e-6


def test_a_layer_with_no_tile_gives_its_bias(interpreter):
    layer, x = pruned("3x3")
    layer.weight.data[:] = 0
    with torch.inference_mode():
        found = implicit_gemm.Tiles(layer)(x)
    assert torch.equal(found, layer.bias[:, None, None].expand_as(found))


def test_empty_rows_of_tiles_beside_full_ones(interpreter):
    layer, x = pruned("3x3")
    layer.weight.data[:16] = 0
    layer.weight.data[16:32] = torch.randn(16, 32, 3, 3)
    with torch.inference_mode():
        assert distance(implicit_gemm.Tiles(layer)(x), layer(x)) < 1e-6


@pytest.mark.parametrize("tile", ["64x16", "32x32", "16x32"])
def test_the_largest_tiles_that_waste_nothing_are_stored_and_no_zeros_with_them(tile):
    layer, _ = pruned("3x3", tile)
    made = implicit_gemm.Tiles(layer)
    assert f"{made.tiles.shape[2]}x{made.tiles.shape[1]}" == tile
    assert made.tiles.numel() == int(made.tiles.count_nonzero())
    assert made.tiles.numel() == int(layer.weight.count_nonzero())


def test_shapes_without_a_gpu_are_those_of_the_layer():
    layer, x = pruned("3x3, stride 2, no bias")
    made = implicit_gemm.Tiles(layer).to("meta")
    found = made(x.to("meta"))
    assert found.shape == layer(x).shape
    assert found.is_contiguous(memory_format=torch.channels_last)


REFUSED = {
    "grouped": (lambda: nn.Conv2d(64, 64, 3, groups=2), "grouped"),
    "unstructured": (lambda: nn.Conv2d(64, 64, 3), "its zeros are not in tiles"),
    "named padding": (lambda: nn.Conv2d(64, 64, 3, padding="same"), "'same' is not implemented"),
    "conv1d": (lambda: nn.Conv1d(64, 64, 3), "Conv1d is no plain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_the_reason(name):
    make, reason = REFUSED[name]
    layer = make()
    layer.weight.data[torch.rand_like(layer.weight) > 0.2] = 0
    able, why = kernels.load("implicit_gemm").supports(layer, "layer")
    assert not able
    assert reason in why


def test_a_dense_layer_stays_and_wrong_inputs_are_errors(interpreter):
    assert "stays dense" in kernels.load("implicit_gemm").supports(nn.Linear(64, 64), "layer")[1]
    made = implicit_gemm.Tiles(pruned("3x3")[0])
    with pytest.raises(TypeError, match="bfloat16"):
        made(torch.randn(1, 32, 5, 5).bfloat16())
    with pytest.raises(ValueError, match="32 channels are expected, not 16"):
        made(torch.randn(1, 16, 5, 5))


@pytest.mark.parametrize("name", ["3x3", "linear"])
def test_what_is_added_may_have_any_shape_that_torch_takes(name, interpreter):
    layer, x = pruned(name)
    made = implicit_gemm.Tiles(layer)
    made.low = 0.0
    with torch.inference_mode():
        wanted = layer(x)
        whole = tuple(wanted.shape)
        for shape in (whole, whole[-1:], (1, *whole[1:]), (1,) * len(whole), (), (3, *whole)):
            for add in (torch.randn(shape), torch.randn(shape).double()):
                found, right = made(x, add), (wanted + add).relu()
                assert (found.shape, found.dtype) == (right.shape, right.dtype)
                assert distance(found, right) < 1e-6


def test_what_is_no_number_stays_none(interpreter):
    layer, x = pruned("3x3")
    x[0, :, 3, 4] = torch.nan
    made = implicit_gemm.Tiles(layer)
    with torch.inference_mode():
        for low in (-torch.inf, 0.0):
            made.low = low
            found = made(x).isnan()
            assert 0 < found.sum() < found.numel()
            assert not (found & ~layer(x).isnan()).any()


def test_no_tokens_give_no_tokens(interpreter):
    made = implicit_gemm.Tiles(pruned("linear")[0])
    assert made(torch.randn(0, 5, 64)).shape == (0, 5, 32)


@pytest.mark.parametrize(
    ("down", "right", "able"), [(127, 0, 1), (128, 0, 0), (0, 255, 1), (0, 256, 0)]
)
def test_a_kernel_that_reaches_too_far_for_a_tiles_place_is_refused(down, right, able, interpreter):
    taps = (1 + (down > 0), 1 + (right > 0))
    layer = nn.Conv2d(16, 16, taps, dilation=(max(1, down), max(1, right)))
    layer.weight.data[:, :, 0, 0] = 0
    assert (implicit_gemm.refusal(layer) == "") == able
    if able:
        x = torch.randn(1, 16, down + 2, right + 2)
        with torch.inference_mode():
            assert distance(implicit_gemm.Tiles(layer)(x), layer(x)) < 1e-6


WIDE = {
    "3x3, stride 2, 64 to 256": (
        lambda: nn.Conv2d(64, 256, 3, stride=2, padding=1),
        (1, 64, 9, 8),
    ),
    "linear, 128 to 256": (lambda: nn.Linear(128, 256), (5, 128)),
}


@pytest.mark.parametrize("program", implicit_gemm.PROGRAMS)
@pytest.mark.parametrize("tile", ["128x64", "64x64", "64x32", "16x64", "32x16"])
@pytest.mark.parametrize("name", WIDE)
def test_tiles_and_programs_of_every_size_compute_the_same(
    name, tile, program, interpreter, monkeypatch
):
    monkeypatch.setattr(implicit_gemm, "PROGRAMS", (program,))
    layer, x = pruned(name, tile, density=0.25)
    with torch.inference_mode():
        made = implicit_gemm.Tiles(layer)
        assert f"{made.tiles.shape[2]}x{made.tiles.shape[1]}" == tile
        assert distance(made(x), layer(x)) < 1e-6


def test_sums_and_relus_of_a_residual_net_are_taken_along(interpreter):
    net = models.build("resnet8", (3, 32, 32), 10).eval()
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.3, pattern="tile:16x16",
                    uneven="dense", shape=(3, 32, 32))  # fmt: skip
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        wanted = made(x)
        net, _ = fold(made)
        net = after.taken(implicit_path.by_layer(net), implicit_gemm.Tiles)
        assert distance(net(x), wanted) < 1e-5
    tiles = [m for m in net.modules() if isinstance(m, implicit_gemm.Tiles)]
    assert len(tiles) >= 6
    assert sum(m.low == 0 for m in tiles) >= 5


@pytest.mark.parametrize("program", implicit_gemm.PROGRAMS)
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (16, 64), (32, 32)])
def test_on_hopper_it_is_tensor_cores_fed_by_wide_loads_without_spills(
    rows, columns, program, tmp_path
):
    places, warps, stages = program
    code = hopper.built(
        importlib.import_module(KERNEL).convolve,
        dict.fromkeys(("x", "y", "add", "tiles"), "bf16")
        | {"bias": "fp32", "places": "i32", "ends": "i32"},
        {"PLACES": places, "ROWS": rows, "COLUMNS": columns, "PADDED": True, "ADDS": True},
        ("channels", "outputs"),
        warps,
        stages,
    )
    assert f"wgmma.mma_async.sync.aligned.m64n{rows}k16.f32.bf16.bf16" in code["ptx"]
    assert "mma.sync.aligned" not in code["ptx"]
    on_the_way = (stages - 1) // 2
    assert hopper.wide_copies(code, warps) >= (1 + on_the_way) * 2 * places * columns
    assert not hopper.spills(code, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "tile"),
    [*((name, "16x16") for name in LAYERS), *((n, t) for n in WIDE for t in ("128x64", "64x64"))],
)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_on_a_gpu_it_passes_the_gate_on_each_layer(name, tile, dtype):
    layer, x = pruned(name, tile)
    layer, kernel = layer.cuda(), kernels.load("implicit_gemm")
    for batch, mode in ((1, "eager"), (33, "graph")):
        x = torch.randn(batch, *x.shape[1:], device="cuda")
        cell = Cell("cuda", dtype, batch, 1)
        with torch.inference_mode():
            side = prepare(layer, kernel, cell, Variant(mode, "nhwc"), x)
            gate(layer, cell, x).check(side)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["graph", "compile"])
@pytest.mark.parametrize("name", ["timm:resnet18", "timm:deit_tiny_patch16_224"])
def test_on_a_gpu_whole_nets_pass_the_gate(name, mode):
    shape = (3, 224, 224)
    net = models.build(name, shape, 1000).eval()
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.3, pattern="tile:32x32",
                    uneven="dense", shape=shape)  # fmt: skip
    cell, kernel = Cell("cuda", "bf16", 3, 1), kernels.load("implicit_gemm")
    x = torch.randn(3, *shape, device="cuda")
    with torch.inference_mode():
        side = prepare(copy.deepcopy(made).cuda(), kernel, cell, Variant(mode, "nhwc"), x)
        gate(made, cell, x).check(side)
