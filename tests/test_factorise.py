"""Factored layers: what they compute, what they cost, what they start from, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bench.measure.macs import macs
from bench.surgery import prunable
from bench.surgery.allocation import AllocationError
from bench.surgery.factorise import compose, factorise, ranks, refusal, replace, weights
from bench.surgery.probe import SurgeryError

PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
KERNELS = {1: (3,), 2: (3, 5), 3: (3, 2, 4)}
MODES = ("rank1", "separable", "cp")
IMAGES = {1: (15,), 2: (14, 16), 3: (9, 7, 11)}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_same(layer: nn.Module, chain: nn.Sequential, dim: int) -> None:
    """The chain computes what `layer` does with the composed kernel and the last bias."""
    twin = copy.deepcopy(layer)
    twin.weight.data = compose(chain).detach()
    if twin.bias is not None:
        twin.bias.data = chain[-1].bias.detach()
    inputs = getattr(layer, "in_channels", None) or layer.in_features
    x = torch.randn(2, inputs, *IMAGES.get(dim, ()), generator=draws())
    expected, got = twin(x), chain(x)
    assert got.shape == expected.shape
    assert twin.weight.shape == layer.weight.shape
    assert torch.allclose(got, expected, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("mode", "dim"), [(m, d) for m in MODES for d in KERNELS if (m, d) != ("separable", 1)]
)
def test_factors_are_one_layer_with_the_composed_kernel(
    mode, dim, transposed, dilation, padding, stride
):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    if transposed and stride > 1:
        options["output_padding"] = 1
    kind = (TRANSPOSED if transposed else PLAIN)[dim]
    layer = kind(3, 4, KERNELS[dim], **options)
    assert_same(layer, factorise(layer, mode, 2, draws()), dim)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("inputs", "outputs", "rank"), [(1, 4, 1), (4, 1, 1), (1, 1, 3), (2, 3, 1)]
)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_single_channels_and_rank_one_are_no_special_case(mode, inputs, outputs, rank, kind):
    layer = kind(inputs, outputs, 3, padding=1)
    assert_same(layer, factorise(layer, mode, rank, draws()), 2)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 1, stride=2, bias=False),
        nn.Conv2d(3, 4, (1, 3), stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(3, 4, (3, 5), stride=(1, 3), padding=(2, 0), dilation=(2, 1)),
        nn.Conv2d(3, 4, (3, 4), padding="same", dilation=(1, 2)),
        nn.Conv2d(3, 4, 3, padding="valid"),
        nn.Conv2d(3, 4, 3, stride=2, padding=(2, 1), padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 4, 3, padding=2, padding_mode="replicate"),
        nn.ConvTranspose2d(3, 4, (1, 3), stride=(2, 3), output_padding=(1, 2), bias=False),
        nn.Linear(6, 5),
        nn.Linear(6, 5, bias=False),
    ],
    ids=str,
)
def test_unit_axes_padding_modes_and_linear_layers_are_exact(layer):
    chain = factorise(layer, "cp", 2, draws())
    assert_same(layer, chain, 0 if isinstance(layer, nn.Linear) else 2)
    assert sum(f.bias is not None for f in chain) == (layer.bias is not None)


@pytest.mark.parametrize(
    ("kind", "kernel", "mode", "ratio"),
    [
        (nn.Conv2d, 3, "rank1", 8.2),
        (nn.Conv2d, 5, "rank1", 21.6),
        (nn.Conv2d, 3, "separable", 1.5),
        (nn.Conv2d, 5, "separable", 2.5),
        (nn.Conv3d, 3, "separable", 3.0),
        (nn.Conv3d, 5, "separable", 8.3),
    ],
)
def test_weights_are_those_of_the_formulae(kind, kernel, mode, ratio):
    """The ratios of the specification, at 64 channels."""
    layer = kind(64, 64, kernel)
    assert layer.weight.numel() / weights(layer, mode) == pytest.approx(ratio, abs=0.05)
    small = kind(4, 6, kernel)
    lengths = small.weight.dim() - 2
    formula = {
        "rank1": 6 * (4 + lengths * kernel),
        "separable": 4 * 6 * lengths * kernel,
        "cp": 3 * (4 + lengths * kernel + 6),
    }
    for name, count in formula.items():
        chain = factorise(small, name, 3, draws())
        assert weights(small, name, 3) == count
        assert sum(w.numel() for w in prunable(chain).values()) == count


def test_multiply_adds_are_those_of_each_factor_at_its_own_size():
    net = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2, padding=1))
    for mode, expected in {
        "cp": 5 * (8 * 100 + 3 * 50 + 3 * 25 + 6 * 25),  # 10x10, then 5x10, then 5x5
        "rank1": 6 * (8 * 100 + 3 * 50 + 3 * 25),
        "separable": 48 * (3 * 50 + 3 * 25),
    }.items():
        factored = nn.Sequential(factorise(net[0], mode, 5, draws()))
        assert sum(macs(factored, (8, 10, 10)).values()) == expected


RANKED = [("rank1", 1), ("separable", 1), ("cp", 1), ("cp", 4), ("cp", 40)]


@pytest.mark.parametrize(("mode", "rank"), RANKED)
def test_a_factored_layer_starts_with_the_variance_of_the_dense_one(mode, rank):
    layer = nn.Conv2d(48, 32, 3, bias=False)
    nn.init.kaiming_normal_(layer.weight, generator=draws(), nonlinearity="relu")
    x = torch.randn(8, 48, 18, 18, generator=draws(1))
    wanted, found = float(layer(x).detach().var()), []
    for seed in range(12):
        chain = factorise(layer, mode, rank, draws(seed)).requires_grad_(False)
        size = float(compose(chain).square().mean())
        assert size == pytest.approx(float(layer.weight.detach().square().mean()), rel=1e-5)
        found.append(float(chain(x).var()))
    assert wanted == pytest.approx(2, rel=0.05)  # He: twice the variance of the input
    assert sum(found) / len(found) == pytest.approx(wanted, rel=0.04)


def test_the_variance_is_spread_over_the_factors_as_specified():
    layer = nn.Conv2d(256, 512, (3, 5), bias=False)
    nn.init.kaiming_normal_(layer.weight, generator=draws())

    def variances(mode: str) -> list[float]:
        factors = prunable(factorise(layer, mode, 64, draws())).values()
        return [float(w.detach().square().mean()) for w in factors]

    assert variances("rank1") == pytest.approx([2 / 256, 1 / 3, 1 / 5], rel=0.03)
    assert variances("cp") == pytest.approx([1 / 256, 1 / 3, 1 / 5, 2 / 64], rel=0.06)


def test_the_linear_factors_keep_torchs_rule_and_the_bias():
    layer = nn.Linear(800, 500)
    chain = factorise(layer, "cp", 30, draws())
    assert float(compose(chain).detach().var()) == pytest.approx(1 / (3 * 800), rel=0.02)
    assert torch.equal(chain[-1].bias, layer.bias)
    assert chain[-1].bias is not layer.bias


@pytest.mark.parametrize(("mode", "rank"), RANKED)
def test_gradients_reach_every_factor(mode, rank):
    chain = factorise(nn.Conv2d(5, 6, 3), mode, rank, draws())
    chain(torch.randn(2, 5, 8, 8, generator=draws())).square().sum().backward()
    for name, parameter in chain.named_parameters():
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize(
    ("layer", "mode", "rank", "reason"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), "cp", 1, "4 groups"),
        (nn.LSTM(4, 4), "cp", 1, "LSTM"),
        (type("Scaled", (nn.Conv2d,), {})(4, 4, 3), "cp", 1, "Scaled"),
        (nn.Conv2d(4, 4, 3), "cp", 0, "rank 0"),
        (nn.Conv2d(4, 4, 1), "rank1", 1, "nothing to split"),
        (nn.Conv1d(4, 4, 3), "separable", 1, "nothing to split"),
        (nn.Linear(4, 4), "separable", 1, "nothing to split"),
    ],
)
def test_what_cannot_be_factored_is_refused_with_a_reason(layer, mode, rank, reason):
    with pytest.raises(SurgeryError, match=reason):
        factorise(layer, mode, rank)
    assert refusal(nn.Conv2d(4, 4, 3)) is None


class Reader(nn.Module):
    """Looks into its layer in one of its two modes."""

    def __init__(self, training: bool):
        super().__init__()
        self.conv, self.norm, self.when = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8), training

    def forward(self, x):
        weight = self.conv.weight.abs().mean() if self.training == self.when else 1
        return self.norm(nn.functional.dropout(weight * self.conv(x).mean((2, 3))))


@pytest.mark.parametrize("training", [False, True])
def test_a_net_that_reads_its_layers_weights_is_refused(training):
    net = Reader(training)
    with pytest.raises(SurgeryError, match="Reader looks into a layer"):
        replace(net, {"conv": factorise(net.conv, "cp", 2)}, (3, 8, 8))


def test_looking_for_readers_leaves_no_trace_and_lets_random_depth_pass():
    class Lucky(Reader):
        def forward(self, x):
            skipped = self.training and torch.rand(()) < 0.5
            return x if skipped else super().forward(x)

    for kind in (Reader, Lucky):
        net = kind(None)
        before, state = copy.deepcopy(net.norm.state_dict()), torch.get_rng_state()
        assert replace(net, {"conv": factorise(net.conv, "cp", 2, draws())}, (3, 8, 8)) is net
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(v, before[k]) for k, v in net.norm.state_dict().items())
        assert net.training


def test_ranks_fill_the_budget_to_less_than_one_more_rank():
    sizes, steps = {"a": 144, "b": 36864, "c": 2304, "d": 90}, {"a": 23, "b": 134, "c": 38, "d": 95}
    total, least = sum(sizes.values()), 23 + 134 + 38 + 90  # d gains nothing: it stays dense
    for budget in range(least, total + 1, 61):
        found = ranks(sizes, steps, budget)
        spent = {n: min(q * steps[n], sizes[n]) for n, q in found.items()}
        grown = {n: min((q + 1) * steps[n], sizes[n]) - spent[n] for n, q in found.items()}
        left = budget - sum(spent.values())
        assert left >= 0
        assert all(more > left for more in grown.values() if more)
    with pytest.raises(AllocationError, match="285 weights, 284 are left"):
        ranks(sizes, steps, least - 1)
