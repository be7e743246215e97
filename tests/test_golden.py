"""Golden values of the specification: formulas against numbers worked out elsewhere."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from bench.method import load
from bench.sparsity import gini, pq_index, retained
from bench.surgery.allocation import erk, lamp, uniform_plus

SMALL = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5])
RAMP, ONE = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 0, 0, 1])

# w, p, q, I, r (eta 0), c (eta 0, gamma 1), r (eta .1),
# c of the code and of the poster (eta .1, gamma 1.2)
PQ_TABLE = [
    (RAMP, 0.5, 1.0, 0.055586, 3.777657, 0, 3.122030, 0, 1),
    (RAMP, 1.0, 2.0, 0.087129, 3.333333, 0, 2.754821, 1, 1),
    (ONE, 0.5, 1.0, 0.75, 1, 3, 0.826446, 3, 3),
    (ONE, 1.0, 2.0, 0.5, 1, 3, 0.826446, 3, 3),
    (SMALL, 0.5, 1.0, 0.417613, 5.823872, 4, 4.813118, 6, 6),
    (SMALL, 1.0, 2.0, 0.400756, 3.590932, 6, 2.967712, 8, 8),
]


@pytest.mark.parametrize(
    ("w", "p", "q", "index", "r", "c", "r_eta", "c_code", "c_poster"), PQ_TABLE
)
def test_sap_counts_equal_the_worked_examples(w, p, q, index, r, c, r_eta, c_code, c_poster):
    found = pq_index(w, p, q)
    assert float(found) == pytest.approx(index, abs=1e-6)
    assert len(w) * float(retained(found, p, q)) == pytest.approx(r, abs=1e-5)
    assert len(w) * float(retained(found, p, q, 0.1)) == pytest.approx(r_eta, abs=1e-5)
    sap, every = load("sap"), torch.ones(1, len(w), dtype=torch.bool)
    assert int(sap(p=p, q=q).prune_count(w[None], every)) == c
    assert int(sap(p=p, q=q, eta=0.1, gamma=1.2).prune_count(w[None], every)) == c_code
    poster = sap(p=p, q=q, eta=0.1, gamma=1.2, round_up=False)
    assert int(poster.prune_count(w[None], every)) == c_poster


@pytest.mark.parametrize(
    ("p", "q", "gauss", "uniform"), [(0.5, 1.0, 0.152787, 1 / 9), (1.0, 2.0, 0.202115, 0.133975)]
)
def test_pq_index_of_large_samples_meets_the_closed_form(p, q, gauss, uniform):
    draws = torch.Generator().manual_seed(0)
    assert float(pq_index(torch.randn(2_000_000, generator=draws), p, q)) == pytest.approx(
        gauss, abs=1e-3
    )
    assert float(pq_index(torch.rand(2_000_000, generator=draws) - 0.5, p, q)) == pytest.approx(
        uniform, abs=1e-3
    )
    # retained fraction of Gaussian weights at p = 1, q = 2 is 2 / pi
    assert float(retained(torch.tensor(0.202115), 1, 2)) == pytest.approx(2 / math.pi, abs=1e-4)


def test_pq_index_counts_only_unmasked_entries_and_is_zero_for_none():
    kept = torch.tensor([[True] * 4 + [False] * 6, [False] * 10])
    both = pq_index(torch.stack([torch.cat([RAMP, SMALL[:6]]), SMALL]), kept=kept)
    assert float(both[0]) == pytest.approx(0.055586, abs=1e-6)
    assert float(both[1]) == 0


def test_pq_index_ignores_scale_and_cloning_and_falls_when_the_rich_give():
    index = float(pq_index(SMALL))
    assert float(pq_index(1e-20 * SMALL)) == pytest.approx(index, abs=1e-9)
    assert float(pq_index(SMALL.repeat(3))) == pytest.approx(index, abs=1e-9)
    richer = SMALL.clone()
    richer[-1] -= 1
    richer[0] += 1
    assert float(pq_index(richer)) < index
    assert float(pq_index(torch.ones(7))) == pytest.approx(0, abs=1e-12)
    assert gini(torch.ones(7)) == pytest.approx(0, abs=1e-12)
    assert gini(ONE) == pytest.approx(0.75)


def test_retained_is_a_lower_bound_for_random_vectors_and_exponents():
    draws = torch.Generator().manual_seed(1)
    for _ in range(300):
        p, q = sorted((torch.rand(2, generator=draws) * 2 + 0.05).tolist())
        w = torch.randn(int(torch.randint(2, 60, (1,), generator=draws)), generator=draws)
        r = int(torch.randint(1, len(w) + 1, (1,), generator=draws))
        size = w.double().abs().pow(p).sort(descending=True).values
        eta = float(size[r:].sum() / size[:r].sum())
        bound = len(w) * float(retained(pq_index(w, p, q), p, q, eta))
        assert r >= bound - 1e-6


def test_lamp_equals_the_published_scores():
    assert lamp(RAMP).tolist() == pytest.approx([1 / 30, 4 / 29, 9 / 25, 1])
    flat = torch.tensor([0.1, 0.1, 0.1, 2])
    assert lamp(flat).tolist() == pytest.approx([0.00248139, 0.00248756, 0.00249377, 1], abs=1e-8)
    assert torch.equal(lamp(1000 * RAMP), lamp(RAMP))
    # float32 running sums give 0.99 to 1.008 here
    assert float(lamp(torch.randn(500_000)).max()) == 1


def test_erk_equals_the_published_densities():
    nets = {
        "mlp": (dict(a=(300, 784), b=(100, 300), c=(10, 100)), [0.079568, 0.230189, 1.0]),
        "cnn": (
            dict(a=(64, 3, 3, 3), b=(128, 64, 3, 3), c=(256, 128, 3, 3), d=(10, 256)),
            [1, 0.150741, 0.074229, 1],
        ),
    }
    for shapes, expected in nets.values():
        found = erk(shapes, {n: math.prod(s) for n, s in shapes.items()}, 0.1)
        assert list(found.values()) == pytest.approx(expected, abs=2e-6)


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_layer():
    shapes = dict(a=(64, 3, 3, 3), b=(128, 64, 3, 3), c=(10, 128))
    weights = {n: math.prod(s) for n, s in shapes.items()}
    found = uniform_plus(shapes, weights, 0.1)
    assert (found["a"], found["c"]) == (1, 0.2)
    assert sum(weights[n] * d for n, d in found.items()) == pytest.approx(
        0.1 * sum(weights.values())
    )
    with pytest.raises(ValueError, match="below that"):
        uniform_plus(shapes, weights, 0.01)


def test_gradual_schedule_is_cubic():
    method = load("gradual_magnitude")(density=0.1)
    assert method.sparsity(0) == 0
    assert method.sparsity(0.5) == pytest.approx(0.7875)
    assert method.sparsity(1) == pytest.approx(0.9)


def test_lottery_rounds_remove_a_fifth_of_what_remains():
    counts = load("lottery_ticket")(density=0.5).counts(1000)
    assert counts == [800, 640, 512, 500]
    for total in (7, 1001, 431_080):
        counts = [total, *load("lottery_ticket")(density=0.02).counts(total)]
        assert counts[-1] == max(1, round(0.02 * total))
        for before, after in itertools.pairwise(counts[:-1]):  # the last round stops short
            assert before - after == math.ceil(0.2 * before)


def test_merged_lottery_rounds_keep_every_stop_and_even_steps():
    from methods.lottery_ticket import LotteryTicket, merge

    stops = (0.2, 0.1, 0.05, 0.02)
    counts = LotteryTicket(density=0.02).counts(430_500, stops)
    merged = merge(counts, 430_500, 12, {round(d * 430_500) for d in stops})
    assert len(merged) == 12
    assert {round(d * 430_500) for d in stops} <= set(merged)
    assert merged[0] == counts[1]  # 0.64: the first round is merged like any other, not skipped
    steps = [a / b for a, b in zip([430_500, *merged], merged, strict=False)]
    assert max(steps) < 2.1
