"""The gathering kernels: under Triton's interpreter, compiled for Hopper, on a GPU."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from torch import nn

from bench import kernels, models
from bench.kernels import gather_gemm as path
from bench.latency.fold import fold
from bench.latency.gate import distance, gate
from bench.latency.prepare import Cell, Variant, prepare
from bench.products import after, gather_gemm
from bench.surgery import prune, uniform

from . import hopper

KERNEL = "bench.products.gather_gemm_kernel"


@pytest.fixture
def interpreter(monkeypatch):
    """Triton on the CPU."""
    yield from hopper.interpreted(KERNEL, monkeypatch)


LAYERS = {
    "3x3": (lambda: nn.Conv2d(6, 32, 3, padding=1), (2, 6, 7, 9)),
    "3x3, stride 2, no bias": (
        lambda: nn.Conv2d(7, 32, 3, padding=1, stride=2, bias=False),
        (3, 7, 7, 9),
    ),
    "1x1": (lambda: nn.Conv2d(13, 32, 1), (1, 13, 5, 7)),
    "1x1, stride 2": (lambda: nn.Conv2d(13, 16, 1, stride=2), (2, 13, 5, 6)),
    "1x1, padded": (lambda: nn.Conv2d(13, 16, 1, padding=1), (2, 13, 3, 2)),
    "7x7, stride 2": (lambda: nn.Conv2d(3, 16, 7, padding=3, stride=2), (1, 3, 11, 9)),
    "1x7": (lambda: nn.Conv2d(5, 16, (1, 7), padding=(0, 3)), (1, 5, 3, 8)),
    "dilated": (lambda: nn.Conv2d(5, 16, 3, padding=2, dilation=2), (1, 5, 9, 8)),
    "uneven strides": (lambda: nn.Conv2d(5, 16, (3, 2), stride=(1, 3)), (2, 5, 6, 8)),
    "2 groups": (lambda: nn.Conv2d(10, 32, 3, padding=1, groups=2), (2, 10, 5, 5)),
    "one place": (lambda: nn.Conv2d(9, 16, 3), (2, 9, 3, 3)),
    "linear": (lambda: nn.Linear(21, 32), (2, 5, 21)),
    "linear, no bias": (lambda: nn.Linear(11, 16, bias=False), (7, 11)),
}
PATTERNS = {"unstructured": 1, "k-of-n:16": 16, "column": 16}
"""Pattern -> the fewest outputs that are to share their inputs."""


def pruned(name, pattern="k-of-n:16", density=0.3):
    torch.manual_seed(0)
    make, size = (LAYERS | WIDE)[name]
    net = nn.Sequential(make()).eval()
    scores = uniform(net, torch.Generator().manual_seed(0))
    made, _ = prune(net, scores, density, pattern=pattern, allocation="layerwise", shape=size[1:])
    return made[0], torch.randn(size)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_gathered_gives_what_the_layer_gives(name, pattern, interpreter):
    for density in (0.1, 0.5) if pattern != "unstructured" else (0.1,):  # which is slow
        layer, x = pruned(name, pattern, density)
        assert gather_gemm.refusal(layer) == ""
        with torch.inference_mode():
            made, wanted = gather_gemm.Gathered(layer), layer(x)
            assert made.rows >= PATTERNS[pattern]
            add = torch.randn_like(wanted)
            last = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
            innermost = (
                x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2) if x.dim() == 4 else x
            )
            for given in (x, last, innermost):
                found = made(given)
                assert found.shape == wanted.shape
                assert distance(found, wanted) < 1e-6
            assert distance(made(x, add), wanted + add) < 1e-6
            made.low, made.high = 0.0, 0.5
            assert distance(made(x, add), (wanted + add).clamp(0, 0.5)) < 1e-6


WIDE = {
    "3x3, 16 to 256": (lambda: nn.Conv2d(16, 256, 3, padding=1), (3, 16, 9, 8)),
    "linear, 70 to 128": (lambda: nn.Linear(70, 128), (5, 70)),
}


FIRST, *OTHERS = gather_gemm.SHARED
SIZES = [*((rows, FIRST) for rows in gather_gemm.ROWS), *((16, program) for program in OTHERS)]


@pytest.mark.parametrize(("rows", "program"), SIZES)
@pytest.mark.parametrize("name", WIDE)
def test_rows_and_programs_of_every_size_compute_the_same(
    name, rows, program, interpreter, monkeypatch
):
    monkeypatch.setattr(gather_gemm, "SHARED", (program, gather_gemm.SHARED[-1]))
    layer, x = pruned(name, f"k-of-n:{rows}")
    with torch.inference_mode():
        made = gather_gemm.Gathered(layer)
        assert made.rows == rows
        assert made.weights.numel() == int(layer.weight.count_nonzero())
        assert distance(made(x), layer(x)) < 1e-6


@pytest.mark.parametrize("program", gather_gemm.SINGLE)
def test_programs_for_single_outputs_compute_the_same(program, interpreter, monkeypatch):
    monkeypatch.setattr(gather_gemm, "SINGLE", (program,))
    layer, x = pruned("3x3", "unstructured")
    with torch.inference_mode():
        assert distance(gather_gemm.Gathered(layer)(x), layer(x)) < 1e-6


@pytest.mark.parametrize("pattern", ["unstructured", "k-of-n:16"])
def test_outputs_without_a_weight_beside_full_ones(pattern, interpreter):
    layer, x = pruned("3x3", pattern, density=0.1)
    layer.weight.data[:16] = 0
    if pattern == "unstructured":
        layer.weight.data[16:18] = torch.randn(2, *layer.weight.shape[1:])
    with torch.inference_mode():
        assert gather_gemm.Gathered(layer).rows == PATTERNS[pattern]
        assert distance(gather_gemm.Gathered(layer)(x), layer(x)) < 1e-6
        layer.weight.data[:] = 0
        found = gather_gemm.Gathered(layer)(x)
        assert torch.equal(found, layer.bias[:, None, None].expand_as(found))


def test_layers_that_follow_each_other_turn_their_maps_once(interpreter):
    """The first one's result lies as the second one reads it, so nothing is copied between."""
    first, x = pruned("1x1")
    torch.manual_seed(1)
    then = nn.Conv2d(32, 16, 1)
    then.weight.data[:, ::3] = 0
    then.weight.data[:, 1::3] = 0
    with torch.inference_mode():
        x = torch.randn(4, *x.shape[1:])
        made = gather_gemm.Gathered(first)(x)
        second = gather_gemm.Gathered(then)
        assert second.turned(made).data_ptr() == made.data_ptr()
        assert second.turned(made).is_contiguous()
        assert distance(second(made), then(first(x))) < 1e-6


def test_shapes_without_a_gpu_are_those_of_the_layer():
    for name in ("3x3, stride 2, no bias", "linear"):
        layer, x = pruned(name)
        found = gather_gemm.Gathered(layer).to("meta")(x.to("meta"))
        assert found.shape == layer(x).shape


REFUSED = {
    "dense": (lambda: nn.Conv2d(4, 16, 3), 1.0, "stays dense"),
    "named padding": (lambda: nn.Conv2d(4, 16, 3, padding="same"), 0.1, "'same' is not impl"),
    "conv1d": (lambda: nn.Conv1d(4, 16, 3), 0.1, "Conv1d is no plain"),
    "far taps": (lambda: nn.Conv2d(4, 16, 3, dilation=64), 0.1, "reaches over 129 x 129"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_the_reason(name):
    make, density, reason = REFUSED[name]
    layer = make()
    layer.weight.data[torch.rand_like(layer.weight) >= density] = 0
    able, why = kernels.load("gather_gemm").supports(layer, "layer")
    assert not able
    assert reason in why


def test_wrong_inputs_are_errors(interpreter):
    made = gather_gemm.Gathered(pruned("3x3")[0])
    with pytest.raises(TypeError, match="bfloat16"):
        made(torch.randn(1, 6, 5, 5).bfloat16())
    with pytest.raises(ValueError, match="6 channels are expected, not 16"):
        made(torch.randn(1, 16, 5, 5))
    with pytest.raises(ValueError, match="smaller than the kernel"):
        gather_gemm.Gathered(pruned("one place")[0])(torch.randn(1, 9, 2, 5))


def test_no_tokens_and_no_images_give_none(interpreter):
    assert gather_gemm.Gathered(pruned("linear")[0])(torch.randn(0, 5, 21)).shape == (0, 5, 32)
    made = gather_gemm.Gathered(pruned("3x3")[0])
    assert made(torch.randn(0, 6, 7, 9)).shape == (0, 32, 7, 9)


def test_what_is_no_number_stays_none(interpreter):
    for pattern in ("unstructured", "k-of-n:16"):
        layer, x = pruned("3x3", pattern)
        x[0, :, 3, 4] = torch.nan
        made = gather_gemm.Gathered(layer)
        with torch.inference_mode():
            for low in (-torch.inf, 0.0):
                made.low = low
                found = made(x).isnan()
                assert 0 < found.sum() < found.numel()
                assert not (found & ~layer(x).isnan()).any()


@pytest.mark.parametrize("pattern", ["unstructured", "k-of-n:16"])
def test_a_group_does_not_see_the_infinite_inputs_of_another(pattern, interpreter):
    layer, x = pruned("2 groups", pattern)
    made = gather_gemm.Gathered(layer)
    for mine, other in ((slice(0, 16), slice(5, 10)), (slice(16, 32), slice(0, 5))):
        given = x.clone()
        given[:, other] = torch.inf
        with torch.inference_mode():
            found, wanted = made(given)[:, mine], layer(given)[:, mine]
            assert wanted.isfinite().all()
            assert distance(found, wanted) < 1e-6


@pytest.mark.parametrize(("density", "able"), [(0.8, True), (0.95, False)])
def test_many_outputs_that_share_may_keep_more_than_half(density, able, interpreter):
    layer, x = pruned("3x3, 16 to 256", "column", density)
    assert kernels.load("gather_gemm").supports(layer, "layer")[0] == able
    if able:
        made = gather_gemm.Gathered(layer)
        assert made.rows == 128
        with torch.inference_mode():
            assert distance(made(x), layer(x)) < 1e-6
    layer, _ = pruned("3x3", "column", 0.8)  # of 32 outputs
    assert "more than 50 %" in kernels.load("gather_gemm").supports(layer, "layer")[1]


def test_sums_and_relus_of_a_residual_net_are_taken_along(interpreter):
    net = models.build("resnet8", (3, 32, 32), 10).eval()
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.3, pattern="k-of-n:16",
                    uneven="dense", shape=(3, 32, 32))  # fmt: skip
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        wanted = made(x)
        net, _ = fold(made)
        net = after.taken(path.by_layer(net), gather_gemm.Gathered)
        assert distance(net(x), wanted) < 1e-5
    own = [m for m in net.modules() if isinstance(m, gather_gemm.Gathered)]
    assert len(own) >= 6
    assert sum(m.low == 0 for m in own) >= 5


COMMON = dict.fromkeys(("x", "y", "add", "weights"), "bf16") | {
    "bias": "fp32", "codes": "i32", "ends": "i32",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "program", "flat"),
    [
        *((rows, program, False) for rows in (128, 16) for program in gather_gemm.SHARED),
        *((rows, FIRST, True) for rows in gather_gemm.ROWS),
    ],
)
def test_on_hopper_shared_inputs_are_tensor_cores_fed_by_wide_loads_without_spills(
    rows, program, flat, tmp_path
):
    places, columns, warps, stages = program
    code = hopper.built(
        importlib.import_module(KERNEL).shared,
        COMMON,
        {"PLACES": places, "ROWS": rows, "COLUMNS": columns, "FLAT": flat, "ADDS": True},
        ("count", "batch"),
        warps,
        stages,
    )
    assert f"wgmma.mma_async.sync.aligned.m64n{rows}k16.f32.bf16.bf16" in code["ptx"]
    assert "mma.sync.aligned" not in code["ptx"]
    # of two steps; weights of 16 outputs are too few for 16 bytes a thread
    assert hopper.wide_copies(code, warps) >= 2 * 2 * columns * (places + rows * (rows > 16))
    assert not hopper.spills(code, tmp_path)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("program", gather_gemm.SINGLE)
def test_on_hopper_single_outputs_read_wide_vectors_without_spills(program, flat, tmp_path):
    places, outputs, warps = program
    sizes = {"PLACES": places, "OUTPUTS": outputs, "TOGETHER": gather_gemm.TOGETHER}
    code = hopper.built(
        importlib.import_module(KERNEL).single,
        COMMON,
        sizes | {"FLAT": flat, "ADDS": True},
        ("count", "batch"),
        warps,
    )
    loads = code["ptx"].count("ld.global.v4.b32")  # of eight numbers each
    assert loads * 8 * 32 * warps >= places * (gather_gemm.TOGETHER + 1)
    assert not hopper.spills(code, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", [*LAYERS, *WIDE])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_on_a_gpu_it_passes_the_gate_on_each_layer(name, pattern, dtype):
    layer, x = pruned(name, pattern)
    layer, kernel = layer.cuda(), kernels.load("gather_gemm")
    for batch, mode in ((1, "eager"), (32, "graph"), (33, "graph")):
        x = torch.randn(batch, *x.shape[1:], device="cuda")
        cell = Cell("cuda", dtype, batch, 1)
        with torch.inference_mode():
            side = prepare(layer, kernel, cell, Variant(mode, "nhwc"), x)
            gate(layer, cell, x).check(side)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["graph", "compile"])
@pytest.mark.parametrize("pattern", ["k-of-n:16", "column", "unstructured"])
@pytest.mark.parametrize("name", ["timm:resnet18", "timm:deit_tiny_patch16_224"])
def test_on_a_gpu_whole_nets_pass_the_gate(name, pattern, mode):
    shape = (3, 224, 224)
    net = models.build(name, shape, 1000).eval()
    made, _ = prune(net, uniform(net, torch.Generator().manual_seed(0)), 0.3, pattern=pattern,
                    uneven="dense", shape=shape)  # fmt: skip
    cell, kernel = Cell("cuda", "bf16", 16, 1), kernels.load("gather_gemm")
    x = torch.randn(16, *shape, device="cuda")
    with torch.inference_mode():
        side = prepare(copy.deepcopy(made).cuda(), kernel, cell, Variant(mode, "nhwc"), x)
        gate(made, cell, x).check(side)
