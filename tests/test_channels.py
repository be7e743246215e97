"""Removing channels is the same as zeroing them, on every kind of coupling."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import models, rng
from bench.surgery import removal
from bench.surgery.channels import (
    Group,
    SurgeryError,
    groups,
    mask,
    removable,
    scores,
    shrink,
)
from bench.surgery.layers import prunable
from bench.surgery.masks import magnitudes

SMALL = (3, 32, 32)
TIMM = {  # groups that torch-pruning's graph must yield: residual stages, blocks, MLPs
    "resnet18": 12,
    "mobilenetv2_050": 25,
    "regnetx_002": 31,
    "regnety_002": 44,
    "repvgg_a0": 5,
    "ghostnet_050": 25,
    "mobilenetv3_small_050": 26,
    "lcnet_050": 17,
    "convnext_atto": 12,
    "deit_tiny_patch16_224": 12,
    "densenet121": 120,
    "resnet26d": 23,
}


def scattered(model: nn.Module) -> nn.Module:
    """The net with non-trivial biases, scales and running statistics, in eval mode."""
    removal.scatter(model, rng.generator("scatter"))
    return model.eval()


def built(arch: str, shape: tuple[int, ...] = SMALL) -> nn.Module:
    with rng.forked("init", arch, 0):
        return scattered(models.build(arch, shape, 10))


def chosen(found: list[Group], fraction: float = 0.5) -> dict[str, Tensor]:
    stream = rng.generator("keep")
    keep = {g.name: torch.rand(g.size, generator=stream) < fraction for g in found}
    for kept in keep.values():
        kept[0], kept[-1] = False, True
    return keep


def assert_masked_is_shrunk(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Checks with a random choice of units; returns the smaller net."""
    found = groups(model, shape)
    keep = chosen(found)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    smaller = shrink(model, shape, keep)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    masked = copy.deepcopy(model)
    mask(masked, found, keep)
    assert all(torch.equal(kept, keep[name]) for name, kept in removable(masked, shape).items())
    assert type(smaller) is type(model)
    dense = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in smaller.parameters()) < 0.8 * dense
    full, few = copy.deepcopy(masked), copy.deepcopy(smaller)
    assert removal.difference(full, few, shape) < 1e-12
    x = torch.randn(3, *shape, generator=rng.generator("x"))
    with torch.no_grad():
        a, b, dense_output = masked(x), smaller(x), model(x)
    assert (a - b).abs().max() <= 1e-4 * max(1.0, float(a.abs().max()))
    assert (a - dense_output).abs().max() > 1e-3  # the removed units did matter
    return smaller


@pytest.mark.parametrize(
    "arch", ["lenet5", "lenet300", "resnet8", "sap_cnn", "sap_mlp", "lstm", "preact_resnet18"]
)
def test_masked_is_shrunk_on_our_nets(arch: str) -> None:
    model = built(arch)
    assert_masked_is_shrunk(model, SMALL)
    made = {name for group in groups(model, SMALL) for name in group.producers}
    left = set(prunable(model)) - made
    assert len(left) == 1  # all but the classifier can lose outputs
    assert left == {list(prunable(model))[-1]}


@pytest.mark.parametrize("arch", TIMM)
def test_masked_is_shrunk_on_timm_nets(arch: str) -> None:
    model = built(f"timm:{arch}")
    assert len(groups(model, SMALL)) == TIMM[arch]
    assert_masked_is_shrunk(model, SMALL)


class Net(nn.Module):
    """Layers by name, and a forward function over them."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def pooled(net: Net, x: Tensor) -> Tensor:
    return net.fc(x.mean((2, 3)))


def sizes(model: nn.Module) -> dict[str, int]:
    return {group.name: group.size for group in groups(model, (3, 8, 8))}


def test_a_flattened_channel_is_a_block_of_columns() -> None:
    net = scattered(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)))
    (group,) = groups(net, (3, 8, 8))
    (columns,) = (s for s in group.slices if s.name == "3.weight")
    assert (columns.axis, columns.output) == (1, False)
    assert torch.equal(columns.index, torch.arange(144).view(4, 36))
    assert columns.index.dtype == torch.int64
    assert_masked_is_shrunk(net, (3, 8, 8))


def test_a_sum_joins_and_a_concatenation_does_not() -> None:
    def layers() -> dict[str, nn.Module]:
        return {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(3, 8, 1)}

    add = Net(lambda n, x: pooled(n, n.a(x) + n.b(x)), **layers(), fc=nn.Linear(8, 5))
    cat = Net(
        lambda n, x: pooled(n, torch.cat([n.a(x), n.b(x)], 1)), **layers(), fc=nn.Linear(16, 5)
    )
    assert sizes(add) == {"a.weight": 8}
    assert sizes(cat) == {"a.weight": 8, "b.weight": 8}
    assert_masked_is_shrunk(scattered(add), (3, 8, 8))
    assert_masked_is_shrunk(scattered(cat), (3, 8, 8))


def test_a_sum_of_part_of_the_channels_makes_two_groups_of_one_layer() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        y = n.a(x)
        return pooled(n, torch.cat([y + torch.cat([n.b(x), n.c(x)], 1), n.b(x)], 1))

    net = Net(
        forward,
        b=nn.Conv2d(3, 4, 1),
        c=nn.Conv2d(3, 4, 1),
        a=nn.Conv2d(3, 8, 1),
        fc=nn.Linear(12, 5),
    )
    found = {g.name: g for g in groups(net, (3, 8, 8))}
    assert {name: g.size for name, g in found.items()} == {"b.weight": 4, "c.weight": 4}
    assert found["c.weight"].producers == ("c.weight", "a.weight")
    assert_masked_is_shrunk(scattered(net), (3, 8, 8))


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), 8),  # depthwise: with its producer
        (nn.Conv2d(8, 24, 3, groups=8), 8),  # three outputs for an input
        (nn.Conv2d(8, 12, 3, groups=4), 2),  # equal positions in each group
        (nn.Conv2d(8, 4, 3, groups=4), 2),  # inputs of single outputs
        (nn.ConvTranspose2d(8, 6, 3), 8),
        (nn.ConvTranspose2d(8, 8, 3, groups=8), 8),
        (nn.ConvTranspose2d(8, 12, 3, groups=4), 2),
        (nn.Sequential(nn.BatchNorm2d(8), nn.PReLU(8)), 8),
        (nn.Sequential(nn.InstanceNorm2d(8, affine=True), nn.PReLU()), 8),
        (nn.BatchNorm2d(8, affine=False), 8),
    ],
)
def test_masked_is_shrunk_through_each_kind_of_layer(layer: nn.Module, size: int) -> None:
    width = getattr(layer, "out_channels", 8)
    layer = copy.deepcopy(layer)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        layer,
        nn.AdaptiveAvgPool2d(1),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(width, 5),
    )
    assert groups(net, (3, 8, 8))[0].size == size
    smaller = assert_masked_is_shrunk(scattered(net), (3, 8, 8))
    for module in smaller.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (
                module.out_channels,
                module.in_channels // module.groups,
            )
    smaller.train()(torch.randn(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("read", ["states", "hidden"])
def test_a_hidden_unit_goes_with_its_gates_and_readers(
    kind: type[nn.RNNBase], depth: int, bidirectional: bool, read: str
) -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        states, hidden = n.rnn(n.stem(x).flatten(2).transpose(1, 2))
        if read == "states":
            return n.fc(states[:, -1])
        hidden = hidden[0] if kind is nn.LSTM else hidden
        return n.fc(torch.cat([hidden[-1], hidden[0]], 1) if bidirectional else hidden[-1])

    rnn = kind(4, 8, num_layers=depth, bidirectional=bidirectional, batch_first=True)
    net = Net(forward, stem=nn.Conv2d(3, 4, 1), rnn=rnn, fc=nn.Linear(8 * (1 + bidirectional), 5))
    found = {g.name: g for g in groups(net, (3, 4, 4))}
    assert {name: g.size for name, g in found.items()} == {"stem.weight": 4, "rnn.weight_ih_l0": 8}
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    rows = next(
        s for s in found["rnn.weight_ih_l0"].slices if s.name == "rnn.weight_hh_l0" and s.output
    )
    assert torch.equal(rows.index[3], torch.arange(gates) * 8 + 3)
    smaller = assert_masked_is_shrunk(scattered(net), (3, 4, 4))
    assert smaller.rnn.hidden_size == int(chosen(list(found.values()))["rnn.weight_ih_l0"].sum())


def test_scores_add_up_all_weights_that_make_a_unit() -> None:
    model = built("resnet8")
    weights = magnitudes(model)
    group = groups(model, SMALL)[0]
    assert group.producers == ("conv1.weight", "stages.0.0.conv2.weight")
    expected = sum(weights[name].flatten(1).sum(1) for name in group.producers)
    assert torch.allclose(scores(group, weights), expected)


def test_a_unit_that_nothing_reads_is_removable_and_a_dead_group_keeps_one() -> None:
    model = built("lenet5")
    with torch.no_grad():
        model.fc1.weight.view(500, 50, 25)[:, [2, 7]] = 0
        model.fc2.weight.zero_()
    keep = removable(model, SMALL)
    assert (~keep["conv2.weight"]).nonzero().flatten().tolist() == [2, 7]
    assert keep["conv1.weight"].all()
    assert keep["fc1.weight"].nonzero().flatten().tolist() == [0]
    smaller = shrink(model, SMALL, keep)
    assert removal.difference(copy.deepcopy(model), smaller, SMALL) < 1e-12


def test_a_net_without_hidden_channels_has_no_group() -> None:
    assert groups(built("sap_linear"), SMALL) == []


class HardCoded(nn.Module):
    def __init__(self, mixed: bool) -> None:
        super().__init__()
        self.conv, self.fc, self.mixed = nn.Conv2d(3, 8, 1), nn.Linear(8, 5), mixed

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        if self.mixed:
            return self.fc(x.mean((2, 3)) - x.mean((1, 2, 3)).unsqueeze(1))
        return self.fc(x.mean((2, 3)).view(-1, 8))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)).softmax(1))


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def projected() -> nn.Module:
    lstm = nn.LSTM(64, 8, proj_size=4, batch_first=True)
    return Net(lambda n, x: n.fc(n.rnn(x.flatten(2))[0][:, -1]), rnn=lstm, fc=nn.Linear(4, 5))


def shared() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.Linear(192, 192), nn.Linear(192, 5))
    net[2].weight = net[1].weight
    return net


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (lambda: HardCoded(mixed=False), "cannot run with fewer channels"),
        (lambda: HardCoded(mixed=True), "mixes channels|treat channels one by one|line up"),
        (Attention, r"conv\.weight passes Softmax, which is not known"),
        (lambda: normed(nn.GroupNorm(2, 8)), "is normalised together with its neighbours"),
        (projected, r"rnn has a projection"),
        (shared, r"1\.weight and 2\.weight are one tensor"),
        (lambda: nn.Sequential(nn.Conv2d(5, 8, 1)), "cannot be traced"),
    ],
)
def test_a_net_that_cannot_lose_channels_is_refused_with_the_reason(net, reason: str) -> None:
    with pytest.raises(SurgeryError, match=reason):
        groups(net(), (3, 8, 8))


def test_a_timm_net_that_normalises_over_channels_is_refused() -> None:
    with pytest.raises(SurgeryError, match=r"mixes channels|can be removed"):
        groups(built("timm:convnextv2_atto"), SMALL)


def test_a_wrong_choice_is_refused() -> None:
    model = built("lenet300")
    with pytest.raises(SurgeryError, match=r"no such group: fc9\.weight"):
        shrink(model, SMALL, {"fc9.weight": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(SurgeryError, match=r"must be bool \(300,\)"):
        shrink(model, SMALL, {"fc1.weight": torch.ones(300)})
    with pytest.raises(SurgeryError, match=r"nothing of fc1\.\w+ would be left"):
        shrink(model, SMALL, {"fc1.weight": torch.zeros(300, dtype=torch.bool)})


def test_finding_groups_draws_no_global_random_number_and_changes_nothing() -> None:
    model = models.build("resnet8", SMALL, 10).train()
    model.conv1.weight.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, second = groups(model, SMALL), groups(model, SMALL)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert not model.conv1.weight.requires_grad
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [g.name for g in first] == [g.name for g in second]
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(s.index, t.index) for s, t in zip(a.slices, b.slices, strict=True))


def test_every_channel_of_a_layer_is_in_one_group_at_most() -> None:
    for arch, shape in (("resnet8", SMALL), ("timm:ghostnet_050", SMALL)):
        taken: dict[tuple[str, int], list[int]] = {}
        for group in groups(built(arch, shape), shape):
            for place in group.slices:
                taken.setdefault((place.name, place.axis), []).extend(
                    place.index.flatten().tolist()
                )
        assert all(len(index) == len(set(index)) for index in taken.values())
        assert taken


def test_the_functional_form_of_a_layer_is_seen() -> None:
    net = Net(
        lambda n, x: pooled(n, F.relu(F.batch_norm(n.a(x), n.mean.mean(0), n.mean.var(0)))),
        a=nn.Conv2d(3, 8, 1),
        fc=nn.Linear(8, 5),
    )
    net.mean = nn.Parameter(torch.randn(4, 8))
    with pytest.raises(SurgeryError):
        groups(net, (3, 8, 8))
