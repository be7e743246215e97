"""Learned levels, quantised inputs, and bits that are found in what is stored."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from bench.measure import cost, macs
from bench.measure.integers import integers, value_bits
from bench.models import build
from bench.surgery import channels, prunable, store
from bench.surgery.learned_levels import Levels, quantise
from bench.surgery.quantise import quantise as few_levels
from bench.surgery.quantised_input import InputQuantiser, input_bits, quantise_input
from bench.surgery.quantisers import Quantisers, before_layers, reads

SHAPE = (1, 8, 8)


def scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def levels(step: float, reach: float, power: float = 1.0, signed: bool = True, **more) -> Levels:
    far = math.log(reach - more.get("dead", 0.0))
    return Levels(scalar(math.log(step)), scalar(far), scalar(math.log(power)), signed, **more)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_with_exponent_one_the_levels_are_those_of_a_uniform_quantiser(bits):
    x, most = draws(1000), 2 ** (bits - 1) - 1
    own = Levels.uniform(torch.tensor(2.0), bits, True, 0.0, False)
    uniform = torch.fake_quantize_per_tensor_affine(x, 2.0 / most, 0, -most, most)
    assert torch.allclose(own(x), uniform, atol=1e-6)
    assert own.bits.item() == pytest.approx(bits)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("bits", "power", "dead"), [(8, 1.0, 0.0), (3.7, 0.6, 0.1), (2, 1.5, 0.0)])
def test_the_step_of_a_bit_width_has_that_bit_width(bits, power, dead, signed):
    """b(d(b)) = b, d = (q_m - q_s)^t / (2^(b - 1) - 1)."""
    step = (1.3 - dead) ** power / (2 ** (bits - signed) - 1)
    own = levels(step, 1.3, power, signed, dead=dead)
    assert own.bits.item() == pytest.approx(bits, rel=1e-5)


def test_golden_values_and_gradients_inside_beyond_and_in_the_dead_zone():
    """d = 1/8, q_m = 1, t = 1: 0.3 is 2.4 levels up, 2 is beyond, -0.05 lies in the dead zone."""
    x = torch.tensor([0.3, -2.0, -0.05], requires_grad=True)
    own = levels(0.125, 1.0, dead=0.1)
    out = own(x)
    # (0.3 - 0.1) / 0.125 = 1.6 -> 2; (1 - 0.1) / 0.125 = 7.2 -> 7
    assert out.tolist() == pytest.approx([0.25, -0.875, 0.0])
    wanted = {
        0: (2 - 1.6, 0.0, 0.2 * math.log(0.2), 1.0),
        1: (-(7 - 7.2), -1.0, -0.9 * math.log(0.9), 0.0),
        2: (0.0, 0.0, 0.0, 1.0),
    }
    for place, (step, reach, power, passed) in wanted.items():
        learned = [own.log_step, own.log_reach, own.log_power, x]
        found = torch.autograd.grad(out[place], learned, retain_graph=True)
        assert float(found[0]) == pytest.approx(step * 0.125, abs=1e-6)  # of ln d: times d
        assert float(found[1]) == pytest.approx(reach * 0.9, abs=1e-6)  # of ln (q_m - q_s)
        assert float(found[2]) == pytest.approx(power, abs=1e-6)  # of ln t: times t, 1
        assert float(found[3][place]) == passed


def test_range_and_exponent_have_the_gradients_of_finite_differences():
    """With levels so fine that the rounding is lost in them, the quantiser is (1) itself."""
    x, step = draws(400, seed=1), 1e-6

    def total(reach: float, power: float) -> float:
        values = quantise(
            x, torch.tensor(step), torch.tensor(reach), torch.tensor(power), 0.0, True
        )
        return float((values.double() * x.sign()).sum())

    own = levels(step, 1.1, 0.8)
    (own(x) * x.sign()).sum().backward()
    h = 1e-3
    reach = (total(1.1 + h, 0.8) - total(1.1 - h, 0.8)) / (2 * h)
    power = (total(1.1, 0.8 + h) - total(1.1, 0.8 - h)) / (2 * h)
    assert own.log_reach.grad.item() == pytest.approx(reach * 1.1, rel=0.01)
    assert own.log_power.grad.item() == pytest.approx(power * 0.8, rel=0.01)


def test_values_that_are_never_negative_take_all_levels_above_zero():
    x = 3 * torch.rand(5000, generator=torch.Generator().manual_seed(0))
    own = Levels.uniform(x.max(), 4, False, 0.0, False)
    found = own(x).unique()
    assert own.bits.item() == pytest.approx(4)
    assert len(found) == 16
    assert found.min().item() == 0
    assert own(torch.tensor([-1.0])).item() == 0


@pytest.mark.parametrize(("bits", "whole"), [(2.2, 2), (5.2, 4), (6, 8), (11, 8), (12, 16)])
def test_bits_become_the_nearest_power_of_two_and_the_step_follows(bits, whole):
    own = Levels.uniform(torch.tensor(3.0), bits, True, 0.0, True)
    assert own.bits.item() == whole
    assert (own.end / own.step).item() == pytest.approx(2 ** (whole - 1) - 1, rel=1e-4)
    with torch.no_grad():
        assert value_bits(own(draws(40000)))[0] == whole
    own.step.backward()
    assert float(own.log_step.grad) == pytest.approx(own.log_step.exp().item())


@pytest.mark.parametrize(
    ("kind", "bits"), [("int8", (8, 8)), ("ternary", (2, 1)), ("binary", (1, 1))]
)
def test_bits_are_found_in_the_values(kind, bits):
    weight = draws(50, 40)
    assert value_bits(weight) == (32, 32)
    assert value_bits(few_levels(weight, kind)) == bits
    kept = (draws(50, 40, seed=2) < -0.5).float()
    assert value_bits(few_levels(weight, kind, kept))[1] == bits[1]


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 11])
@pytest.mark.parametrize("power", [1.0, 1.4])
def test_integers_are_found_behind_any_step(bits, power):
    own = Levels.uniform(torch.tensor(2.5), bits, True, 0.0, False)
    with torch.no_grad():
        own.log_power.fill_(math.log(power))
        own.log_step.copy_((own.end / (2 ** (bits - 1) - 1)).log())
    values = own(draws(4000)).detach()
    found = integers(values)
    assert found is not None
    assert found.abs().max() == 2 ** (bits - 1) - 1
    assert torch.allclose(found * own.step.detach(), values, rtol=1e-5)


def test_levels_cannot_leave_what_makes_sense():
    """However far d, q_m and t are pushed: a range, a positive exponent, at least one level."""
    for step, reach, power in ((9.0, 0.0, 0.0), (0.0, -9.0, 0.0), (0.0, 0.0, -9.0)):
        own = Levels(scalar(step), scalar(reach), scalar(power), True, 0.1)
        assert own.reach.item() > 0.1
        assert own.power.item() > 0
        assert own.bits.item() >= 2 - 1e-6
        values = own(3 * draws(100)).detach()
        assert values.isfinite().all()
        assert len(values.unique()) > 1


def test_two_bits_are_no_trap():
    """A quantiser whose step has grown beyond its range learns finer levels again."""
    own = Levels.uniform(torch.tensor(2.0), 2, True, 0.0, False)
    with torch.no_grad():
        own.log_step += 0.5
    assert own.bits.item() == pytest.approx(2)
    x, adam = draws(500), torch.optim.Adam([own.log_step, own.log_reach, own.log_power], lr=0.02)
    for _ in range(100):
        adam.zero_grad()
        (own(x) - x).square().mean().backward()
        adam.step()
        own.hold()
    assert own.bits.item() > 2.5


def test_nothing_pushes_a_range_that_has_no_bit_left_to_give():
    own = Levels.uniform(torch.tensor(2.0), 2, True, 0.0, False)
    adam = torch.optim.Adam([own.log_step, own.log_reach, own.log_power], lr=0.02)
    for _ in range(50):
        adam.zero_grad()
        own.bits.backward()
        adam.step()
        own.hold()
    assert own.reach.item() == pytest.approx(2)


def test_levels_follow_values_that_grow():
    x, own = draws(500), Levels.uniform(torch.tensor(2.0), 4, True, 0.0, False)
    with torch.no_grad():
        own.log_power.fill_(math.log(1.3))
        before, bits = own(x), own.bits.item()
        own.scale(3.0)
        after = own(3 * x)
    assert own.bits.item() == pytest.approx(bits)
    assert torch.allclose(after, before * 3**1.3, rtol=1e-4)


@pytest.mark.parametrize(("signed", "bits"), [(True, 4), (False, 3)])
def test_bits_of_an_input_are_those_that_tell_its_levels_apart(signed, bits):
    """4 steps and a zero: 5 levels, with a sign 9."""
    layer = nn.Linear(4, 3)
    quantise_input(layer, levels(0.5, 2.0, signed=signed))
    assert input_bits(layer) == bits


def test_powers_of_two_begin_with_two_bits_also_without_a_sign():
    own = Levels.uniform(torch.tensor(3.0), 1.2, False, 0.0, True)
    assert own.bits.item() == 2


def test_a_quantiser_without_a_range_claims_nothing():
    layer = nn.Linear(4, 3)
    quantise_input(layer, Levels.uniform(torch.tensor(1.0), 5, True, 0.0, False))
    assert input_bits(layer) == 5
    for name, wrong in (("reach", -1.0), ("power", -0.5), ("step", 0.0)):
        broken = copy.deepcopy(layer)
        getattr(broken.input_quantiser, name).fill_(wrong)
        assert input_bits(broken) is None
    layer.input_quantiser.step.fill_(2.0**-34)
    fields, _ = cost(nn.Sequential(layer), nn.Sequential(nn.Linear(4, 3)), (4,), 0)
    assert fields["activation_bits"] == 32


def test_values_that_would_fit_by_chance_are_not_called_quantised():
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 3, 4, 10, 1000):
        for _ in range(20):
            assert integers(torch.randn(count, generator=generator)) is None
    assert integers(torch.zeros(10)) is None
    one = torch.zeros(10)
    one[3] = 0.7
    assert value_bits(one) == (32, 32)


@pytest.fixture
def net():
    """An untrained LeNet-300-100 and a ResNet-8, whose layers all quantise what they read."""

    def made(arch: str, bits: float = 4) -> nn.Module:
        torch.manual_seed(0)
        model = build(arch, SHAPE, 10)
        batch = draws(32, *SHAPE)
        Quantisers(model, reads(model, batch), "both", bits, 0.0, False).finish(model)
        return model.eval()

    return made


def test_what_a_layer_reads_takes_no_more_values_than_its_bits_allow(net):
    model = net("resnet8")
    seen: dict[str, torch.Tensor] = {}
    owners = [n.rpartition(".")[0] for n in prunable(model)]
    for name in owners:
        quantiser = model.get_submodule(name).input_quantiser
        quantiser.register_forward_hook(lambda m, a, out, n=name: seen.update({n: out}))
    with torch.no_grad():
        model(draws(256, *SHAPE, seed=3))
    assert set(seen) == set(owners)
    for name, values in seen.items():
        assert len(values.unique()) <= 2 ** input_bits(model.get_submodule(name))
    assert {input_bits(model.get_submodule(n)) for n in owners} == {4}
    # the image has both signs, what a ReLU made has none
    assert seen[owners[0]].min() < 0 <= min(float(seen[n].min()) for n in owners[1:])


@pytest.mark.parametrize("arch", ["lenet300", "resnet8", "lenet5"])
def test_a_net_with_quantised_inputs_is_stored_exactly(arch, tmp_path):
    shape = (1, 28, 28) if arch == "lenet5" else SHAPE
    model = build(arch, shape, 10)
    Quantisers(model, reads(model, draws(8, *shape)), "both", 3, 0.01, True).finish(model)
    store.save(model, tmp_path, arch, shape, 10)
    again = store.load(tmp_path)
    assert store.digest(again) == store.digest(model)
    x = draws(5, *shape, seed=4)
    assert torch.equal(again.eval()(x), model.eval()(x))
    assert not any("quantiser" in n for n, _ in again.named_parameters())


def test_channels_of_a_net_with_quantised_inputs_are_those_of_the_net_without(net):
    model, bare = net("resnet8", bits=8), build("resnet8", SHAPE, 10)
    assert [g.name for g in channels.groups(model, SHAPE)] == [
        g.name for g in channels.groups(bare, SHAPE)
    ]
    keep = {g.name: torch.arange(g.size) % 2 == 0 for g in channels.groups(model, SHAPE)}
    smaller = channels.shrink(model, SHAPE, keep)
    assert input_bits(smaller.get_submodule("conv1")) == 8
    assert sum(w.numel() for w in prunable(smaller).values()) < sum(
        w.numel() for w in prunable(model).values()
    )


def test_bit_operations_are_multiply_adds_times_both_bits(net):
    dense = build("lenet300", SHAPE, 10)
    fields, rows = cost(dense, dense, SHAPE, 0)
    assert fields["bops"] == fields["macs"] * 32 * 32
    assert (fields["weight_bits"], fields["activation_bits"]) == (32, 32)
    fields, rows = cost(net("lenet300"), dense, SHAPE, 0)
    assert [row["weight_bits"] for row in rows] == [4, 4, 4]
    assert [row["activation_bits"] for row in rows] == [4, 4, 4]
    assert fields["bops"] == fields["effective_macs"] * 16
    assert fields["weight_bits"] == fields["activation_bits"] == 4
    weights_only = build("lenet300", SHAPE, 10)
    Quantisers(weights_only, {}, "weights", 4, 0.0, False).finish(weights_only)
    fields, _ = cost(weights_only, dense, SHAPE, 0)
    assert fields["bops"] == fields["effective_macs"] * 4 * 32


def test_bit_operations_fall_with_the_channels_of_both_sides():
    """BOP = MAC (1 - P_in) (1 - P_out) b_w b_a: half of both sides is a quarter."""
    dense = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU())
    half = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU())
    whole = sum(macs(dense, (8, 6, 6)).values()) * 1024
    fields, _ = cost(half, dense, (4, 6, 6), 0)
    assert fields["bops"] * 4 == whole


def test_layers_read_what_they_are_shown_only_inside_the_block():
    model = build("lenet300", SHAPE, 10)
    x = draws(3, *SHAPE)
    before = model(x)
    with before_layers(model, lambda name, x: 0 * x):
        assert torch.equal(model(x), model(-x))
        assert not torch.equal(model(x), before)
    assert torch.equal(model(x), before)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_quantised_copy_leaves_the_class_of_other_layers_alone():
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    quantise_input(first, Levels.uniform(torch.tensor(1.0), 8, True, 0.0, False))
    assert isinstance(first, nn.Linear)
    assert type(second) is nn.Linear
    assert isinstance(copy.deepcopy(first).input_quantiser, InputQuantiser)
    assert repr(first).startswith("QuantisedLinear(")
