"""SET, RigL, DPF and straight-through magnitude: masks that move while a net trains."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn

from bench import data
from bench.method import MethodError, make
from bench.surgery import Masks, PatternError, channels, nonzero, prunable
from bench.surgery.gradients import Gradients
from bench.surgery.regrow import Connections, moved, updates
from bench.surgery.views import Channels
from bench.training import Training
from tests.contract_bench import Bench


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", data.root(None))


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: w.detach().clone() for n, w in prunable(model).items()}


def mask(text: str) -> torch.Tensor:
    return torch.tensor([c == "1" for c in text])


def test_moves_drop_the_smallest_and_grow_the_best():
    weight = torch.tensor([0.5, -0.1, 0.3, 0.0, 0.0, 0.0])
    growth = torch.tensor([9.0, 5.0, 9.0, 1.0, 3.0, 2.0])
    kept = mask("111000")
    # -0.1 is dropped, and has the largest growth of what did not stay; without it 4 has
    assert moved(weight, kept, 1, growth).tolist() == mask("111000").tolist()
    growth[1] = 0
    assert moved(weight, kept, 1, growth).tolist() == mask("101010").tolist()
    assert (
        moved(
            weight,
            kept,
            2,
            torch.tensor([9, 0, 1, 2, 3, 4.0]),
        ).tolist()
        == mask("100011").tolist()
    )
    assert moved(weight, kept, 0, growth).tolist() == kept.tolist()
    # of a layer that is nearly full as many are dropped as of any other
    assert moved(weight, mask("111110"), 4, growth).tolist() == mask("101111").tolist()


def test_moves_are_spread_over_the_training():
    assert updates(1000, 100, 0.75, 1) == [100, 200, 300, 400, 500, 600, 700]
    assert len(updates(400, 100, 0.75, 20)) == 20
    assert updates(400, 100, 0.75, 20)[-1] == 300
    assert updates(2, 100, 0.75, 20) == [1, 2]
    assert updates(1, 100, 0.05, 20) == [1]


def test_connections_know_where_they_have_been():
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 3.0, 0.0, 0.0]]))
    connections = Connections(Masks(weight=mask("1100")[None]))
    growth = [torch.tensor([[0.0, 0, 1, 2]]), torch.tensor([[0.0, 9, 1, 0]])]
    lines = [next(iter(connections.move(model, 0.5, lambda n, w, g=g: g))) for g in growth]
    assert [line["changed"] for line in lines] == [0.5, 0.5]
    assert [line["first"] for line in lines] == [0.5, 1.0]
    assert [line["explored"] for line in lines] == [0.75, 0.75]


def test_rigl_s_fraction_falls_as_a_cosine():
    rigl = make("rigl", {"alpha": 0.3})
    assert [rigl.fraction(x) for x in (0, 0.5, 1)] == pytest.approx([0.3, 0.15, 0])
    assert rigl.fraction(1 / 3) == pytest.approx(0.225)


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_each_layer_keeps_its_count_at_every_step_and_new_weights_start_at_zero(digits, method):
    stored, real = [], Training.update

    def update(self, model, *rest):
        stored.append(
            ({n: w.detach().clone() for n, w in prunable(model).items()}, dict(self.masks))
        )
        return real(self, model, *rest)

    bench = Bench(digits, "resnet8", method, least=6)
    with mock.patch.object(Training, "update", update):
        points, trainer = bench.points()
    counts = [{n: int(m.sum()) for n, m in masks.items()} for _, masks in stored]
    assert all(count == counts[0] for count in counts)
    born = 0
    for (weights, masks), (_, before) in zip(stored[1:], stored, strict=False):
        for name, kept in masks.items():
            assert not weights[name][~kept].any()
            new = kept & ~before[name]
            born += int(new.sum())
            assert not weights[name][new].any()
    assert born > 0
    lines = [line for line in bench.lines if line["event"] == "connections"]
    steps = sorted({line["step"] for line in lines})
    assert steps == updates(trainer.step, 100, 0.75, 6)
    last = [masks for _, masks in stored[steps[-1] :]]
    assert all(torch.equal(m[n], last[0][n]) for m in last for n in m)
    assert {n: int(m.sum()) for n, m in nonzero(points[0]).items()} == counts[-1]
    explored = [line["explored"] for line in lines if line["layer"] == "stages.0.0.conv1.weight"]
    assert explored == sorted(explored)
    assert explored[-1] > explored[0]


def test_rigl_grows_where_the_gradient_of_the_batch_is_largest(digits):
    """The gradients are those of the whole net, before a training masks them."""
    bench = Bench(digits, "lenet300", "rigl")
    model, trainer = bench.initial(), bench.trainer()
    masks = Masks({n: torch.rand_like(w) < 0.3 for n, w in prunable(model).items()})
    gradients, seen = Gradients(prunable(model)), {}

    def on_step(model, step):
        if step == 1:
            seen.update({n: w.grad.clone() for n, w in prunable(model).items()})
            gradients.stop()
        return step == 3

    gradients.watch()
    trainer.fit(model, 1, masks=masks, on_step=on_step)
    for name, found in gradients.found.items():
        assert torch.equal(found * masks[name], seen[name])  # of step 1, whatever came after
        assert found[~masks[name]].any()
    assert not any(w._post_accumulate_grad_hooks for w in prunable(model).values())


def test_dpf_s_schedule_rises_to_the_target_as_published():
    dpf = make("dpf", {"density": 0.1})
    found = [dpf.sparsity(x / 100) for x in range(101)]
    assert found == sorted(found)
    assert (found[0], found[50], found[100]) == pytest.approx((0, 0.7875, 0.9))
    assert dpf.sparsity(3) == pytest.approx(0.9)
    assert updates(6400, 16, 0.75, 40) == list(range(16, 4801, 16))


@pytest.mark.parametrize("end", [0.5, 1.0])
@pytest.mark.parametrize("method", ["dpf", "straight_through"])
def test_no_forward_pass_sees_more_than_the_last_one_and_the_end_is_pruned(digits, method, end):
    bench, seen, real = Bench(digits, "lenet300", method, density=0.2, end=end), [], Training.update

    def update(self, model, *rest):
        own = dict(model.named_parameters())
        values = {**{n: own[n] for n in prunable(model)}, **self.through(own)}
        seen.append(sum(int(v.count_nonzero()) for v in values.values() if v.dim() > 1))
        return real(self, model, *rest)

    with mock.patch.object(Training, "update", update):
        points, _ = bench.points()
    assert seen == sorted(seen, reverse=True)
    total = sum(w.numel() for w in prunable(points[0]).values())
    assert nonzero(points[0]).kept() == pytest.approx(0.2 * total, rel=1e-3)


def test_channels_cannot_be_masked_straight_through(digits):
    with pytest.raises(PatternError, match="channels"):
        Bench(digits, "resnet8", "straight_through", pattern="channel").points()
    with pytest.raises(MethodError, match="allocation"):
        make("dpf", {"pattern": "channel", "allocation": "erk"})
    with pytest.raises(MethodError, match="masked"):
        make("dpf", {"masked": "filter"})


@pytest.mark.parametrize("method", ["dpf", "straight_through"])
def test_the_gradient_of_the_pruned_net_moves_every_weight(digits, method):
    """The forward pass sees the masked weights, the step is that of the stored ones."""
    bench, stored, real = Bench(digits, "lenet300", method, density=0.2), [], Training.update

    def update(self, model, *rest):
        before, own = copied(model), dict(model.named_parameters())
        seen = {n: v.detach().clone() for n, v in self.through(own).items()}
        done = real(self, model, *rest)
        gradients = {n: w.grad for n, w in prunable(model).items()}
        stored.append((before, seen, copied(model), gradients))
        return done

    with mock.patch.object(Training, "update", update):
        bench.points()
    before, seen, after, gradients = stored[len(stored) // 2]
    assert set(seen) == set(before)
    for name, value in seen.items():
        kept = value != 0
        assert torch.allclose(value, before[name] * kept)
        assert 0 < int(kept.sum()) < value.numel()
        # the pruned weights step, too: by a gradient that no mask has touched
        assert (after[name] != before[name])[~kept].double().mean() > 0.5
        assert gradients[name][~kept].any()


def test_dpf_s_mask_follows_the_weights_and_what_was_pruned_comes_back(digits):
    bench = Bench(digits, "lenet300", "dpf", density=0.1, interval=1)
    points, trainer = bench.points()
    lines = [line for line in bench.lines if line["event"] == "feedback"]
    assert [line["step"] for line in lines] == updates(trainer.step, 1, 0.75, 40)
    assert any(line["back"] > 0 for line in lines)
    targets = [line["target"] for line in lines]
    assert targets == sorted(targets, reverse=True)
    assert targets[-1] == pytest.approx(0.1)
    assert all(0 <= line["error"] < 1 for line in lines)
    assert lines[-1]["error"] > lines[0]["error"]
    total = sum(w.numel() for w in prunable(bench.initial()).values())
    assert nonzero(points[0]).kept() == round(0.1 * total)


@pytest.mark.parametrize("masked", ["filter", "channel"])
def test_dpf_s_pruned_channels_learn_only_where_their_filters_alone_are_masked(digits, masked):
    bench = Bench(digits, "resnet8", "dpf", pattern="channel", interval=1, masked=masked)
    found, real = [], Training.update

    def update(self, model, *rest):
        seen = {n: v.detach() for n, v in self.through(dict(model.named_parameters())).items()}
        done = real(self, model, *rest)
        gone = {n: v.flatten(1).eq(0).all(1) for n, v in seen.items() if v.dim() > 1}
        weights = prunable(model)
        found.append(sum(float(weights[n].grad[k].abs().sum()) for n, k in gone.items()))
        return done

    with mock.patch.object(Training, "update", update):
        _, trainer = bench.points()
    lines = [line for line in bench.lines if line["event"] == "feedback"]
    if masked == "filter":
        assert any(line["back"] > 0 for line in lines)
    first, last = lines[0]["step"], lines[-1]["step"]
    assert any(g > 0 for g in found[first:last]) == (masked == "filter")
    assert all(g == 0 for g in found[last:])  # nothing of them is seen any more
    assert len(found) == trainer.step > last


def test_dpf_prunes_channels_by_their_l2_norm(digits):
    bench = Bench(digits, "resnet8", "dpf", pattern="channel")
    model = bench.initial()
    chosen = bench.method.chosen(model, Channels(model, digits.shape), 0.3)
    for group in channels.groups(model, digits.shape):
        norm = channels.scores(group, {n: w.detach().square() for n, w in prunable(model).items()})
        kept = chosen[group.name]
        assert 0 < int(kept.sum()) < group.size
        assert float(norm[kept].min()) >= float(norm[~kept].max())
    points, _ = bench.points()
    lines = [line for line in bench.lines if line["event"] == "feedback"]
    assert lines[-1]["target"] == pytest.approx(0.3)
    assert lines[-1]["error"] > 0
    left = sum(w.numel() for w in prunable(points[0]).values())
    whole = sum(w.numel() for w in prunable(bench.initial()).values())
    assert left / whole == pytest.approx(0.3, rel=0.25)


def test_rigl_s_moves_take_the_largest_gradients(digits):
    """What grew is at least as steep as all that stayed out, in every layer and move."""
    moves, real = [], Connections.move

    def move(self, model, fraction, growth):
        before = {n: m.clone() for n, m in self.masks.items()}
        steep = {n: growth(n, w).clone() for n, w in prunable(model).items()}
        lines = list(real(self, model, fraction, growth))
        moves.append((before, steep, {n: m.clone() for n, m in self.masks.items()}))
        return iter(lines)

    with mock.patch.object(Connections, "move", move):
        Bench(digits, "resnet8", "rigl", least=4).points()
    grown = 0
    for before, steep, after in moves:
        for name, new in after.items():
            born, out = new & ~before[name], ~new & ~before[name]
            grown += int(born.sum())
            if born.any() and out.any():
                assert float(steep[name][born].min()) >= float(steep[name][out].max())
    assert grown > 0
