"""DJPQ: its gates, its bill of bit operations, and what both do to a net."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from unittest import mock

import pytest
import torch
from torch import nn
from torch.func import functional_call

from bench import data
from bench import kernels as paths
from bench.measure import cost, macs
from bench.method import make
from bench.models import build
from bench.surgery import channels, prunable
from bench.surgery.bottleneck import Gates
from bench.surgery.learned_levels import Levels
from bench.surgery.quantised_input import QuantisedInput, input_bits
from bench.surgery.quantisers import Quantisers, before_layers, reads
from bench.surgery.views import Channels
from methods.djpq import Djpq
from tests.contract_bench import FINETUNE, Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


@pytest.fixture(scope="module")
def start(digits):
    return Bench(digits, "resnet8", "djpq").start()


@pytest.fixture
def gated(digits, start):
    """(net, its view, its gates, a batch), the maps' sizes measured."""
    model = copy.deepcopy(start)
    view = Channels(model, digits.shape)
    gates = Gates(view, torch.Generator().manual_seed(0))
    images, _ = next(digits.train.batches(64))
    batch = digits.normalise(images)
    for name, x in reads(model, batch).items():
        gates.measure(name, x)
    return model.eval(), view, gates, batch


def test_gates_start_open_and_their_noise_is_small(gated):
    _, view, gates, _ = gated
    mean, log_variance = (torch.cat(list(p.values())) for p in (gates.mean, gates.log_variance))
    assert len(mean) == sum(view.sizes.values())
    assert mean.mean().item() == pytest.approx(1, abs=0.01)
    assert mean.std().item() == pytest.approx(0.01, rel=0.3)
    assert log_variance.mean().item() == pytest.approx(-9, abs=0.01)


def test_noise_is_drawn_for_each_sample_and_channel_and_all_readers_see_the_same(gated):
    _, view, gates, _ = gated
    with torch.no_grad():
        for p in gates.log_variance.values():
            p.zero_()  # sigma = 1
    shared = next(g for g in view.groups.values() if len(g.producers) > 1)
    owners = {p.name.rpartition(".")[0] for p in shared.slices if not p.output}
    assert len(owners) > 1
    x = torch.ones(400, shared.size, 2, 2)
    gates.forget()
    seen = [gates.at(name, x).detach() for name in owners]
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    z = seen[0][:, :, 0, 0]
    assert torch.equal(seen[0], z[:, :, None, None].expand_as(x))  # the same at every place
    assert z.mean().item() == pytest.approx(1, abs=0.05)
    assert z.var().item() == pytest.approx(1, rel=0.1)
    across = torch.corrcoef(z.T) - torch.eye(shared.size)
    assert across.abs().max() < 0.3  # no two channels share their noise
    gates.forget()
    assert not torch.equal(gates.at(next(iter(owners)), x), seen[0])


def test_information_is_that_of_the_formula(gated):
    """1/2 ln(1 + mu^2 / sigma^2) for each channel, times a power of the maps' side."""
    _, view, gates, _ = gated
    with torch.no_grad():
        for mu, log_variance in zip(gates.mean.values(), gates.log_variance.values(), strict=True):
            mu.fill_(2.0)
            log_variance.fill_(math.log(4.0))
    count = sum(view.sizes.values())
    assert gates.information(0).item() == pytest.approx(count * 0.5 * math.log(2), rel=1e-5)
    sides = {n: gates.sides[n] for n in view.sizes}
    assert set(sides.values()) == {8.0, 4.0, 2.0, 1.0}  # the last is read behind the pooling
    for power in (1, 2):
        wanted = sum(s**power * view.sizes[n] for n, s in sides.items()) * 0.5 * math.log(2)
        assert gates.information(power).item() == pytest.approx(wanted, rel=1e-5)


def test_a_channel_counts_half_at_the_threshold(gated):
    _, _, gates, _ = gated
    with torch.no_grad():
        for mu, log_variance in zip(gates.mean.values(), gates.log_variance.values(), strict=True):
            mu.fill_(1.0)
            log_variance.fill_(-math.log(1e-3))
    assert all(
        torch.allclose(k, torch.tensor(0.5), atol=1e-4) for k in gates.kept(1e-3, 2).values()
    )


@pytest.mark.parametrize("arch", ["resnet8", "lenet300", "vgg16_bn"])
def test_the_net_with_folded_gates_does_what_the_gated_net_does(digits, arch):
    shape = (3, 32, 32) if arch == "vgg16_bn" else digits.shape
    model = build(arch, shape, 10).eval()
    view = Channels(model, shape)
    gates = Gates(view, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mu in gates.mean.values():
            mu.uniform_(-1, 2, generator=gates.generator)
    x = torch.randn(4, *shape, generator=gates.generator)
    with torch.no_grad():
        plain = model(x)
        with before_layers(model, gates.at):
            wanted = model(x)
        gates.fold()
        assert torch.allclose(model(x), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, wanted, rtol=1e-2)


def bill_of(model, view, shape, kept, bits=8.0, what="both"):
    quantisers = Quantisers(model, reads(model, torch.randn(8, *shape)), what, bits, 0.0, False)
    return make("djpq", {}).bill(view.left(kept), macs(model, shape), quantisers).item()


def test_the_bill_of_the_dense_net_is_one_and_bits_divide_it(gated, digits):
    model, view, _, _ = gated
    whole = {n: torch.ones(size) for n, size in view.sizes.items()}
    assert bill_of(model, view, digits.shape, whole, what="none") == pytest.approx(1)
    assert bill_of(model, view, digits.shape, whole, what="weights") == pytest.approx(8 / 32)
    assert bill_of(model, view, digits.shape, whole) == pytest.approx(1 / 16)
    assert bill_of(model, view, digits.shape, whole, bits=4) == pytest.approx(1 / 64)


def test_the_bill_is_what_is_measured_of_the_net_without_the_channels(gated, digits):
    """(1 - P_in)(1 - P_out) of each layer, against the harness's count on the smaller net."""
    model, view, _, _ = gated
    keep = {n: torch.arange(size) < size // 2 for n, size in view.sizes.items()}
    smaller = channels.shrink(model, digits.shape, keep)
    rows = cost(smaller, model, digits.shape, 0)[1]
    quantisers = Quantisers(model, {}, "none", 8, 0.0, False)
    work = macs(model, digits.shape)
    bill = make("djpq", {}).bill(
        view.left({n: k.float() for n, k in keep.items()}), work, quantisers
    )
    dense = sum(work[n] for n in prunable(model)) * 1024
    assert bill.item() == pytest.approx(sum(row["macs"] for row in rows) * 1024 / dense, rel=1e-5)
    assert view.made(keep) == {n: w.shape[0] for n, w in prunable(smaller).items()}


def test_bits_and_gates_get_gradients_from_the_bill(gated, digits):
    model, view, gates, batch = gated
    quantisers = Quantisers(model, reads(model, batch), "both", 8, 0.0, False)
    with torch.no_grad():
        for log_variance in gates.log_variance.values():
            log_variance.fill_(6.0)  # near the threshold
    left = view.left(gates.kept(1e-3, 1))
    bill = make("djpq", {}).bill(left, macs(model, digits.shape), quantisers)
    bill.backward()
    for levels in [*quantisers.weights.values(), *quantisers.inputs.values()]:
        assert levels.log_step.grad.item() < 0  # larger steps, fewer bits
        assert levels.log_reach.grad.item() > 0
    assert all((p.grad < 0).all() for p in gates.log_variance.values())


@pytest.mark.parametrize("power", [1.0, 0.7, 1.6])
def test_gates_can_be_put_into_quantised_weights(gated, power):
    """Their ranges follow, so that little changes but the rounding."""
    model, _, gates, batch = gated
    with torch.no_grad():
        for mu in gates.mean.values():
            mu.uniform_(1.5, 2.5, generator=gates.generator)
    with mock.patch("bench.surgery.quantisers.Levels", bent(power)):
        quantisers = Quantisers(model, reads(model, batch), "weights", 10, 0.0, False)
    own = dict(model.named_parameters())
    with torch.no_grad():
        with before_layers(model, gates.at):
            wanted = functional_call(model, quantisers.seen(own), (batch,))
        with quantisers.following(own):
            gates.fold(quantisers.power)
        found = functional_call(model, quantisers.seen(own), (batch,))
    assert (found - wanted).norm() < 0.02 * wanted.norm()


def bent(power):
    """Levels with that exponent instead of 1, as many as asked for."""

    class Bent(Levels):
        @classmethod
        def uniform(cls, largest, bits, signed, dead, power_of_two):
            own = super().uniform(largest, bits, signed, dead, power_of_two)
            with torch.no_grad():
                own.log_power.fill_(math.log(power))
                own.log_step.copy_((own.end / (2 ** (bits - int(signed)) - 1)).log())
            return own

    return Bent


@pytest.fixture(scope="module")
def finished(digits, start):
    """(net, history) of trainings on digits."""

    def of(**params):
        bench = Bench(digits, "resnet8", "djpq", **params)
        (model,), _ = bench.points(copy.deepcopy(start))
        return model, [line for line in bench.lines if line["event"] == "precision"]

    return of


def watched(digits, start, **params):
    """The gates, and z of the batches, of a training on digits."""
    bench, seen, drawn = Bench(digits, "resnet8", "djpq", **params), [], []
    sampled = Gates.sampled

    def spy(gates, samples):
        seen.append(gates)
        drawn.append(sampled(gates, samples))
        return drawn[-1]

    with mock.patch.object(Gates, "sampled", spy):
        bench.points(copy.deepcopy(start))
    return seen[-1], drawn


def middle(gates) -> float:
    """Median of ln(mu^2 / sigma^2)."""
    return torch.cat(list(gates.ratio().values())).log().median().item()


STILL = FINETUNE.model_copy(
    update={"lr": 1e-12, "momentum": 0, "nesterov": False, "weight_decay": 0}
)


class Doubled(Gates):
    """Gates that stand at 2."""

    def __init__(self, view, generator):
        super().__init__(view, generator)
        for mu in self.mean.values():
            torch.nn.init.constant_(mu, 2.0)


def motionless(digits, **params):
    """A training in which nothing learns."""
    bench = Bench(digits, "resnet8", "djpq", **{"gate_lr": 1e-12, "quantiser_lr": 1e-12, **params})
    bench.spec = bench.spec.model_copy(update={"finetune": STILL})
    return bench


@pytest.mark.parametrize(("what", "power"), [("none", 1.0), ("weights", 1.0), ("weights", 0.7)])
def test_a_training_leaves_its_gates_in_the_weights(digits, start, what, power):
    """All channels stay, and gates stand at 2: so do the weights that read them, and no others."""
    bench = motionless(digits, quantise=what, density=1.0, bits=16)
    with (
        mock.patch("methods.djpq.Gates", Doubled),
        mock.patch("bench.surgery.quantisers.Levels", bent(power)),
    ):
        (model,), _ = bench.points(copy.deepcopy(start))
    view = Channels(start, digits.shape)
    read = {place.name for g in view.groups.values() for place in g.slices if not place.output}
    own, before = dict(model.named_parameters()), prunable(start)
    meant = {n: w.sign() * w.abs() ** power for n, w in before.items()}
    for ratio in (
        {n: (own[n] / w).nanmedian().item() for n, w in meant.items()},
        {n: (own[n].abs().max() / w.abs().max()).item() for n, w in meant.items()},
    ):
        assert ratio == {n: pytest.approx(2 if n in read else 1, rel=5e-3) for n in ratio}
        assert {round(factor) for factor in ratio.values()} == {1, 2}


def test_the_channels_of_least_information_go_and_when_share_says(digits, start):
    """Noise is put on every second channel; nothing learns, so what is left can be recognised."""

    class Noisy(Gates):
        def __init__(self, view, generator):
            super().__init__(view, generator)
            for log_variance in self.log_variance.values():
                with torch.no_grad():
                    log_variance[1::2] += 8

    bench = motionless(digits, quantise="none", density=0.27, share=0.25)
    with mock.patch("methods.djpq.Gates", Noisy):
        (model,), trainer = bench.points(copy.deepcopy(start))
    kept, first = model.conv1.weight, start.conv1.weight
    found = [int((first - row).flatten(1).norm(dim=1).argmin()) for row in kept.detach()]
    assert len(found) < len(first)
    assert all(channel % 2 == 0 for channel in found)
    widths = {
        (line["layer"], line["step"]): line["width"] for line in bench.lines if "width" in line
    }
    due = round(0.25 * trainer.step)
    assert {step for _, step in widths} > {due}
    assert widths["conv1.weight", due] == len(kept)


@pytest.mark.parametrize("arch", ["resnet8", "lenet300"])
def test_the_net_that_comes_out_is_the_one_that_was_judged_at_the_end(digits, arch):
    bench = Bench(digits, arch, "djpq", quantiser_lr=0.02)
    (model,), trainer = bench.points()
    judged = [line["validation"] for line in bench.lines if line["event"] == "epoch"]
    assert trainer.validate(model).top1 == pytest.approx(judged[-1], abs=1e-9)


def test_the_bill_after_pruning_is_that_of_the_channels_that_are_left(digits, start):
    bills, bill = [], Djpq.bill

    def spy(method, left, work, quantisers):
        bills.append({n: float(share) for n, share in left.items()})
        return bill(method, left, work, quantisers)

    with mock.patch.object(Djpq, "bill", spy):
        (model,), trainer = Bench(digits, "resnet8", "djpq").points(copy.deepcopy(start))
    assert len(bills) == trainer.step  # one for each batch, before and after
    sizes = {n: w.numel() for n, w in prunable(start).items()}
    assert bills[-1] == {
        n: pytest.approx(w.numel() / sizes[n], rel=1e-5) for n, w in prunable(model).items()
    }


def test_the_parameters_of_the_loss_reach_it(digits, start):
    seen = {}

    class Spy(Gates):
        def information(self, power):
            seen["power"] = power
            return super().information(power)

        def kept(self, threshold, width):
            seen["sigmoid"] = threshold, width
            return super().kept(threshold, width)

    for maps, power in (("none", 0), ("side", 1), ("area", 2)):
        with mock.patch("methods.djpq.Gates", Spy):
            Bench(digits, "resnet8", "djpq", maps=maps, threshold=0.2, width=3.0).points(
                copy.deepcopy(start)
            )
        assert seen == {"power": power, "sigmoid": (0.2, 3.0)}


def test_exponents_and_dead_zones_are_what_was_asked_for(finished):
    model, lines = finished(power=False, dead=0.01, quantiser_lr=0.05)
    assert {line["weight_power"] for line in lines} == {1.0}
    assert {line["activation_power"] for line in lines} == {1.0}
    quantisers = [m.input_quantiser for m in model.modules() if isinstance(m, QuantisedInput)]
    assert {one.dead for one in quantisers} == {0.01}


def test_every_batch_has_noise_of_its_own(digits, start):
    gates, drawn = watched(digits, start, gate_lr=1e-9)
    assert len(drawn) > 10
    assert not any(torch.equal(a, b) for a, b in pairwise(drawn))
    assert middle(gates) == pytest.approx(9, abs=0.1)


@pytest.mark.parametrize("price", [{"gamma": 10.0}, {"beta": 1e6, "gamma": 0.0, "width": 9.0}])
def test_information_and_operations_both_close_gates(digits, start, price):
    free, _ = watched(digits, start, **{"gamma": 0.0, "beta": 0.0, "gate_lr": 0.1})
    paid, _ = watched(digits, start, **{"beta": 0.0, "gate_lr": 0.1, **price})
    assert middle(paid) < middle(free) - 0.5


def test_a_higher_price_buys_fewer_bits(finished, digits, start):
    cheap, dear = (finished(beta=beta, quantiser_lr=0.02)[0] for beta in (0.0, 300.0))
    free, paid = (cost(net, start, digits.shape, 0)[0] for net in (cheap, dear))
    assert paid["bops"] < 0.8 * free["bops"]
    assert (
        paid["weight_bits"] + paid["activation_bits"]
        < free["weight_bits"] + free["activation_bits"]
    )


def test_what_is_stored_has_the_bits_that_were_learned(finished, digits, start):
    model, lines = finished(beta=300.0, quantiser_lr=0.02)
    rows = {row["layer"]: row for row in cost(model, start, digits.shape, 0)[1]}
    last = {line["layer"]: line for line in lines if line["step"] == lines[-1]["step"]}
    assert set(last) == set(rows)
    for name, line in last.items():
        # the largest level need not occur in a small layer
        assert -1 <= rows[name]["weight_bits"] - math.ceil(line["weight_bits"] - 0.1) <= 1
        assert abs(rows[name]["activation_bits"] - line["activation_bits"]) <= 1
        assert line["width"] == prunable(model)[name].shape[0]
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(isinstance(layer, QuantisedInput) for layer in layers)


def test_a_long_training_at_a_high_rate_stays_sane(digits, start):
    """Range and exponent once went below zero: a layer then was two values and could not learn."""
    bench = Bench(digits, "resnet8", "djpq", quantiser_lr=0.05, beta=100.0)
    bench.spec = bench.spec.model_copy(
        update={"finetune": FINETUNE.model_copy(update={"epochs": 10})}
    )
    bench.budget = 10
    (model,), _ = bench.points(copy.deepcopy(start))
    quantisers = [m.input_quantiser for m in model.modules() if isinstance(m, QuantisedInput)]
    assert all(q.reach > 0 and q.power > 0 and q.bits >= 1 for q in quantisers)
    assert all(w.isfinite().all() for w in model.parameters())


def test_powers_of_two_are_all_that_is_stored(finished, digits, start):
    model, lines = finished(power_of_two=True, beta=300.0, quantiser_lr=0.05)
    read = {input_bits(m) for m in model.modules() if isinstance(m, QuantisedInput)}
    assert read
    assert read <= {2, 4, 8, 16}
    assert {line["weight_bits"] for line in lines} <= {2.0, 4.0, 8.0, 16.0, 32.0}
    rows = cost(model, start, digits.shape, 0)[1]
    last = {line["layer"]: line for line in lines if line["step"] == lines[-1]["step"]}
    assert all(row["weight_bits"] <= last[row["layer"]]["weight_bits"] for row in rows)
    assert any(row["weight_bits"] in (4, 8) for row in rows)


@pytest.mark.parametrize("what", ["none", "weights"])
def test_pruning_alone_and_quantised_weights_alone(finished, digits, start, what):
    fields, _ = cost(finished(quantise=what)[0], start, digits.shape, 0)
    assert fields["activation_bits"] == 32
    assert (fields["weight_bits"] == 32) == (what == "none")


def test_a_recurrent_net_is_refused(digits):
    bench = Bench(digits, "lstm", "djpq")
    with pytest.raises(channels.SurgeryError, match="recurrent"):
        bench.points()


def test_a_net_that_simulates_integers_is_not_timed_as_if_it_were_fast(finished, start):
    model, _ = finished()
    here = [path for path in map(paths.load, paths.names()) if "fp32" in path.dtypes.get("cpu", ())]
    verdicts = [path.applies(model, start, "cpu", "fp32") for path in here]
    assert len(verdicts) > 3
    assert all(not fits and "simulated" in reason for fits, reason in verdicts)
