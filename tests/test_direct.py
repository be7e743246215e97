"""The direct path, beyond what all products share (test_lowering.py)."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import kernels
from bench.latency.fold import fold
from bench.latency.gate import WrongOutput, distance, gate
from bench.latency.prepare import Cell
from bench.products import compiled, direct, pool

from .test_lowering import COMPILER, pruned

pytestmark = COMPILER

PATH = kernels.load("direct")


def convolution(*sizes, **options):
    torch.manual_seed(0)
    return pruned(nn.Conv2d(*sizes, **options), 0.1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "layer",
    [
        convolution(5, 7, 3, padding=1),
        convolution(5, 7, 7, stride=2, padding=3),
        convolution(5, 7, 5, stride=3, padding=1, dilation=2),
        convolution(4, 6, 3, stride=(2, 1), padding=(0, 2), dilation=(1, 3), groups=2),
        convolution(5, 7, 1),
        convolution(5, 7, 1, stride=2),
    ],
    ids=str,
)
def test_maps_of_every_size_in_strips_of_every_height(layer, threads, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for high, wide in ((64, 64), (37, 61), (17, 16), (9, 11)):
            x = torch.randn(3, layer.in_channels, high, wide)
            wanted = layer(x).detach()
            for strip in (1, 2**12, 2**20):
                monkeypatch.setattr(direct, "STRIP", strip)
                found = direct.Direct(layer)(x)
                assert distance(found, wanted) < 1e-6
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("side", [3, 7, 33])
@pytest.mark.parametrize("kernel", [1, 3])
def test_threads_share_the_images_the_rows_or_the_outputs(side, kernel):
    """And the same number of threads gives the same bits."""
    layer = convolution(16, 24, kernel, padding=kernel // 2)
    made, before = direct.Direct(layer), torch.get_num_threads()
    try:
        for batch in (1, 2, 5):
            x = torch.randn(batch, 16, side, side + 2)
            wanted = layer(x).detach()
            for threads in (1, 2, 3, 8):
                torch.set_num_threads(threads)
                found = made(x)
                assert distance(found, wanted) < 1e-6
                assert torch.equal(made(x), found)
    finally:
        torch.set_num_threads(before)


def test_an_input_is_read_to_its_last_number_and_no_further():
    """Behind it stands NaN, in a map whose channels are not whole vectors, and in one of one."""
    layer = convolution(3, 4, 1)
    layer.weight.data.fill_(1)
    for side in (4, 7, 16):
        memory = torch.full((3 * side * side + 64,), math.nan)
        x = memory[: 3 * side * side].view(1, 3, side, side)
        x.copy_(torch.randn_like(x))
        assert torch.allclose(direct.Direct(layer)(x), layer(x), atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 70])
def test_linear_layers_gather_for_few_tokens(tokens):
    layer, x = pruned(nn.Linear(50, 30), 0.2), torch.randn(tokens, 50)
    assert distance(direct.Direct(layer)(x), layer(x)) < 1e-6


class Block(nn.Module):
    """A residual block as timm writes it: identities, sums in place, ReLUs in place."""

    def __init__(self, act=nn.ReLU, first=True):
        super().__init__()
        self.conv1, self.conv2 = (convolution(8, 8, 3, padding=1) for _ in range(2))
        self.down = convolution(8, 8, 1)
        self.drop, self.act1, self.act2 = nn.Identity(), act(inplace=True), act(inplace=True)
        self.first = first

    def forward(self, x):
        shortcut = self.down(x) if self.first else x
        x = self.conv2(self.act1(self.drop(self.conv1(x))))
        x += shortcut
        return self.act2(x)


class Reread(Block):
    """The result of a convolution is read twice, so nothing may be done to it."""

    def forward(self, x):
        made = self.conv1(x)
        return self.act1(made.clone()) + made + self.conv2(made)


class Written(Block):
    """The input of a convolution changes between it and the sum that it could have taken along."""

    def forward(self, x):
        x = self.drop(x) * 1
        made = self.conv1(x)
        other = x.add_(1)
        return made + other


class Twice(Block):
    """One layer in two places: a ReLU behind one of them only."""

    def forward(self, x):
        return self.conv1(F.relu(self.conv1(x)))


class Larger(Block):
    """What is added has more places than the convolution gives."""

    def forward(self, x):
        return self.act1(x + self.conv2(x.mean((2, 3), keepdim=True)))


class WrittenInto(Block):
    """A sum in place, into a tensor that is read again."""

    def forward(self, x):
        x = x * 1
        x.add_(self.conv1(x))
        return self.down(x)


class Same(Block):
    def forward(self, x):
        made = self.conv1(x)
        return made + made


class View(Block):
    """The input is written through a view of it."""

    def forward(self, x):
        x = x * 1
        other = x.view(x.shape)
        made = self.conv1(x)
        other.add_(1)
        return self.act1(other + made)


class Functions(Block):
    """As functions and methods."""

    def forward(self, x):
        return torch.add(self.conv2(F.relu6(self.conv1(x))), x).relu()


NETS = {
    "block": (Block(), 2, 1),
    "block, no layer on the shortcut": (Block(first=False), 2, 1),
    "relu6": (Block(nn.ReLU6), 2, 1),
    "functions": (Functions(), 2, 1),
    "read twice": (Reread(), 0, 1),
    "written between": (Written(), 0, 0),
    "written in place": (WrittenInto(), 0, 0),
    "written through a view": (View(), 0, 0),
    "larger than the convolution": (Larger(), 1, 1),
    "twice the same": (Same(), 0, 0),
    "one layer in two places": (Twice(), 0, 0),
}


@pytest.mark.parametrize("path", ["direct", "onednn"])
@pytest.mark.parametrize("name", NETS)
def test_what_follows_a_layer_is_taken_along_where_nothing_else_reads_it(name, path):
    """Per net: layers that bound what they give, and those that add something to it."""
    net, bounds, sums = NETS[name]
    kernel = kernels.load(path)
    net = copy.deepcopy(net).eval()
    x = torch.randn(2, 8, 12, 12)
    with torch.inference_mode():
        wanted = net(x.clone())
        made = kernel.convert(copy.deepcopy(net))
        for _ in range(2):
            assert distance(made(x.clone()), wanted) < 1e-6
    layers = [m for m in made.modules() if hasattr(m, "adds")]
    assert sum(layer.low == 0 for layer in layers) == bounds
    nodes = made.graph.nodes if isinstance(made, torch.fx.GraphModule) else ()
    assert sum(n.op == "call_module" and len(n.args) == 2 for n in nodes) == sums


def test_a_net_that_cannot_be_traced_is_right_all_the_same():
    class Branch(Block):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    net, x = Branch().eval(), torch.rand(1, 8, 9, 9)
    with torch.inference_mode():
        wanted = net(x.clone())
        made = PATH.convert(copy.deepcopy(net))
        assert isinstance(made, Branch)
        assert isinstance(made.conv1, direct.Direct)
        assert distance(made(x), wanted) < 1e-6


def test_parts_keep_what_their_parents_know_of_them():
    """Of a net whose control flow cannot be traced, as timm's VGG."""

    class Stage(nn.Sequential):
        resolution = 7

    class Net(Block):
        def __init__(self):
            super().__init__()
            self.stage = Stage(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.plain = nn.Sequential(
                pruned(nn.Conv2d(8, 8, 1), 0.2), nn.BatchNorm2d(8), nn.ReLU()
            )

        def forward(self, x):
            for step in self.plain:
                x = step(x)
            return self.stage(x) * self.stage.resolution if x.sum() > -1e9 else x

    net, x = Net().eval(), torch.randn(2, 8, 6, 6)
    with torch.inference_mode():
        wanted = net(x)
        folded, note = fold(copy.deepcopy(net))
        assert "not folded" in note  # a subclass may do anything with its layers
        assert isinstance(folded.plain[1], nn.Identity)
        made = PATH.convert(folded)
        assert (made.plain[0].low, type(made.plain[2])) == (0, nn.Identity)
        assert distance(made(x), wanted) < 1e-6


def test_a_wrong_fold_does_not_pass_the_gate(monkeypatch):
    net, cell = nn.Sequential(nn.Conv2d(3, 3, 1)).eval(), Cell("cpu", "fp32", 1, 1)

    def wrong(model):
        model[0].weight.data *= 1.01
        return model, ""

    monkeypatch.setattr("bench.latency.gate.fold", wrong)
    with pytest.raises(WrongOutput, match="folded the net is"):
        gate(net, cell, torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        (torch.randn(1, 16, 8, 8, dtype=torch.float64), TypeError, "dtype"),
        (torch.randn(1, 1, 8, 8), TypeError, "channels"),
        (torch.randn(16, 8, 8), TypeError, "channels"),
        (torch.randn(1, 16, 2, 8), ValueError, "smaller than the kernel"),
    ],
)
def test_what_the_kernel_cannot_take_is_an_error_and_no_crash(x, error, said):
    made = direct.Direct(convolution(16, 24, 3))
    with pytest.raises(error, match=said):
        made(x)
    assert made(torch.randn(0, 16, 8, 8)).shape == (0, 24, 6, 6)
    assert direct.Direct(pruned(nn.Linear(16, 8), 0.3))(torch.randn(0, 16)).shape == (0, 8)


def test_an_unpruned_net_comes_through_unchanged_with_its_pooling():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)).eval()
    assert [type(m) for m in PATH.convert(net)] == [nn.Conv2d, nn.MaxPool2d]


def test_a_layer_that_two_parts_share_is_folded_into_neither():
    class Part(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv, self.norm = conv, nn.BatchNorm2d(8)
            self.norm.weight.data.uniform_(1, 2)

        def forward(self, x):
            return self.norm(self.conv(x))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Part(convolution(8, 8, 1))
            self.second = Part(self.first.conv)

        def forward(self, x):
            return self.second(self.first(x)) if x.sum() > 0 else x

    net, x = Both().eval(), torch.rand(1, 8, 5, 5)
    with torch.inference_mode():
        wanted = net(x)
        folded, note = fold(copy.deepcopy(net))
        assert "not folded" in note
        assert torch.allclose(PATH.convert(folded)(x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (1, 3), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 1, "padding": 1},
    ],
    ids=str,
)
def test_pooling_by_slices_is_torchs_to_the_bit(options):
    own = nn.MaxPool2d(**options)
    assert pool.fits(own)
    for size in (16, 17, 23):
        x = torch.randn(2, 3, size, size + 1)
        assert torch.equal(pool.MaxPool(own)(x), own(x))


@pytest.mark.parametrize(
    "options", [{"ceil_mode": True}, {"dilation": 2}, {"return_indices": True}]
)
def test_other_pooling_stays(options):
    net = nn.Sequential(nn.MaxPool2d(2, **options))
    assert type(pool.sliced(net)[0]) is nn.MaxPool2d


def test_without_a_compiler_the_path_says_so(monkeypatch):
    layer = pruned(nn.Linear(9, 9), 0.1)
    assert PATH.supports(layer, "") == (True, "")
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    monkeypatch.setattr(direct, "functions", direct.functions.__wrapped__)
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)
    able, reason = PATH.supports(layer, "")
    assert not able
    assert "no C++ compiler" in reason
    assert PATH.convert(nn.Sequential(layer))[0] is layer


def test_code_is_compiled_once_and_a_failure_has_the_compilers_words(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, calls, real = tmp_path / "seven.cpp", [], compiled._run
    source.write_text('extern "C" int seven() { return 7; }\n')
    monkeypatch.setattr(compiled, "_run", lambda *c: calls.append(c) or real(*c))
    for _ in range(2):
        assert compiled.library.__wrapped__(source).seven() == 7
    assert sum("-c" in call for call in calls) == 1
    source.write_text('extern "C" int seven() { return 8; }\n')
    assert compiled.library.__wrapped__(source).seven() == 8
    source.write_text("nonsense\n")
    with pytest.raises(compiled.CompilerError, match="nonsense"):
        compiled.library.__wrapped__(source)
    assert len(list((tmp_path / "cache" / "pruning-benchmark").iterdir())) == 2
