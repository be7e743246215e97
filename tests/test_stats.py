"""The statistics behind every interval, tie and verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from bench import stats


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(float(value) for value in values))


def test_mean_interval_is_the_textbook_t_interval():
    found = stats.mean([0.91, 0.93, 0.92])
    assert found.mean == pytest.approx(0.92)
    assert found.half == pytest.approx(
        4.302652730 * 0.01 / math.sqrt(3), rel=1e-8
    )  # t(0.975, 2) from tables


def test_interval_agrees_with_scipy():
    x = np.random.default_rng(1).normal(size=6)
    low, high = reference.t.interval(0.9, 5, x.mean(), reference.sem(x))
    assert stats.mean(x, 0.9)[1:3] == pytest.approx((low, high))


def test_one_seed_has_a_mean_but_no_interval_and_none_has_nothing():
    one = stats.mean([0.5, math.nan])
    assert one.mean == 0.5
    assert one.n == 1
    assert math.isnan(one.low)
    assert math.isnan(one.half)
    assert stats.mean([]).n == 0
    assert math.isnan(stats.mean([]).mean)


def test_interval_covers_the_truth_at_its_nominal_rate():
    draws = np.random.default_rng(2).normal(3.0, 0.7, (3000, 3))
    inside = [low <= 3.0 <= high for _, low, high, _ in map(stats.mean, draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_paired_agrees_with_scipy_and_uses_shared_seeds_only():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=5), rng.normal(size=5)
    found = stats.paired(by_seed(a) | {9: 100.0}, by_seed(b))
    wanted = reference.ttest_rel(a, b)
    interval = wanted.confidence_interval()
    assert (found.p, found.low, found.high) == pytest.approx(
        (wanted.pvalue, interval.low, interval.high)
    )
    assert found.n == 5


def test_noise_that_seeds_share_cancels_in_pairs():
    shared = np.random.default_rng(4).normal(0, 5, 4)
    found = stats.paired(by_seed(shared + np.array([0.30, 0.31, 0.29, 0.30])), by_seed(shared))
    assert found.p < 1e-3
    assert found.half < 0.02


def test_the_same_single_image_in_every_seed_is_no_finding():
    a, b = by_seed([0.9 + 1 / 360] * 3), by_seed([0.9] * 3)
    assert stats.paired(a, b).p == 0
    assert stats.paired(a, b, resolution=1 / 360).p > 0.05
    assert stats.paired(by_seed([0.95] * 3), b, resolution=1 / 360).p < 0.01


def test_holm_golden_values_keep_order_and_ignore_the_untestable():
    assert stats.holm([0.01, 0.04, math.nan, 0.03, 0.005])[:2] == pytest.approx([0.03, 0.06])
    found = stats.holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert math.isnan(found[2])
    assert found[3:] == pytest.approx([0.06, 0.02])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_never_reorders(p):
    found = stats.holm(p)
    assert all(before <= after <= 1 for before, after in zip(p, found, strict=True))
    assert all(found[i] <= found[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


def test_two_copies_of_one_method_tie():
    copy = {0: 0.91, 1: 0.92, 2: 0.90}
    assert stats.tie_groups({"a": copy, "b": dict(copy)}) == [("a", "b")]


def test_a_clear_gap_makes_two_groups_best_first():
    rng = np.random.default_rng(5)
    values = {"low": by_seed(rng.normal(0.5, 0.001, 5)), "high": by_seed(rng.normal(0.9, 0.001, 5))}
    assert stats.tie_groups(values) == [("high",), ("low",)]


@pytest.mark.parametrize("count", [2, 6])
def test_a_variant_as_good_as_the_best_is_left_out_no_more_often_than_alpha(count):
    rng = np.random.default_rng(6)
    trials, left_out = 600, 0
    for _ in range(trials):
        rows = rng.normal(size=(count, 4))
        groups = stats.tie_groups({str(i): by_seed(row) for i, row in enumerate(rows)})
        left_out += count - len(groups[0])
    rate = left_out / (trials * count)
    margin = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert rate <= 0.05 + margin
    if count == 2:  # told apart at alpha, one of the two left out
        assert 2 * rate == pytest.approx(0.05, abs=margin)


SPREADS = {
    "wide": lambda rng, count: np.exp(rng.normal(size=count)),
    "few collapse": lambda rng, count: np.where(rng.random(count) < 0.2, 30.0, 1.0),
    "one is nearly fixed": lambda rng, count: np.r_[0.05, np.ones(count - 1)],
}


@pytest.mark.parametrize("name", SPREADS)
def test_moderated_variances_keep_alpha_where_variants_scatter_differently(name):
    rng = np.random.default_rng(8)
    trials, count, left_out = 200, 8, 0
    for _ in range(trials):
        rows = rng.normal(size=(count, 3)) * SPREADS[name](rng, count)[:, None] + rng.normal(size=3)
        groups = stats.tie_groups({str(i): by_seed(row) for i, row in enumerate(rows)})
        left_out += count - len(groups[0])
    rate = left_out / (trials * count)
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_many_variants_make_three_seeds_see_what_two_alone_cannot():
    """Three deviations below eleven equals: found nearly always; pair by pair, half of the time."""
    rng = np.random.default_rng(9)
    found = alone = 0
    for _ in range(100):
        rows = rng.normal(size=(12, 3))
        rows[0] -= 3
        values = {str(i): by_seed(row) for i, row in enumerate(rows)}
        found += "0" not in stats.tie_groups(values)[0]
        pairs = [stats.paired(values[str(i)], values["0"]) for i in range(1, 12)]
        alone += any(one.p * 11 < 0.05 for one in pairs)
    assert found > 85
    assert alone < 65


def test_the_prior_of_variances_is_recovered():
    rng = np.random.default_rng(10)
    true = 4.0 / (rng.chisquare(6, 20000) / 6)  # d0 = 6 around s0^2 = 4
    d = np.full(20000, 2.0)
    d0, s02 = stats.prior(true * rng.chisquare(2, 20000) / 2, d)
    assert d0 == pytest.approx(6, rel=0.15)
    assert s02 == pytest.approx(4, rel=0.1)
    equal, s02 = stats.prior(4 * rng.chisquare(2, 20000) / 2, d)
    assert equal > 50
    assert s02 == pytest.approx(4, rel=0.1)


def test_few_pairs_stay_on_their_own():
    pairs = [stats.Paired(0.1, 0, 0.2, 0.03, 0.05, 3)] * (stats.ENOUGH - 1)
    assert stats.moderated(pairs) == [0.03] * len(pairs)


def test_every_variant_is_in_exactly_one_group():
    rng = np.random.default_rng(7)
    values = {str(i): by_seed(rng.normal(i / 3, 0.01, 4)) for i in range(7)} | {"lost": {}}
    names = [name for group in stats.tie_groups(values) for name in group]
    assert sorted(names) == [str(i) for i in range(7)]


def test_seeds_needed_is_the_fewest_with_that_power():
    for gap, sd in ((0.5, 0.25), (0.2, 0.2), (0.1, 0.2)):
        n = stats.seeds_needed(gap, sd)
        assert stats.power(gap, sd, n) >= 0.8 > stats.power(gap, sd, n - 1)


def test_power_is_what_a_simulation_sees():
    x = np.random.default_rng(8).normal(0.3, 0.25, (20_000, 6))
    seen = np.mean(reference.ttest_1samp(x, 0, axis=1).pvalue < 0.05)
    assert stats.power(0.3, 0.25, 6) == pytest.approx(seen, abs=0.015)


def test_no_gap_needs_no_number_of_seeds():
    assert stats.seeds_needed(0, 1) is None
    assert stats.seeds_needed(math.nan, 1) is None
    assert stats.seeds_needed(1e-6, 1) is None
    assert stats.seeds_needed(5, 0) == 2


@given(st.floats(-2, 2), st.floats(-1, 1), st.floats(0.02, 0.9))
def test_interpolation_is_exact_on_lines_in_log_density(slope, offset, target):
    densities = [0.9, 0.4, 0.1, 0.02]
    values = [offset + slope * math.log(density) for density in densities]
    assert stats.interpolate(densities, values, target) == pytest.approx(
        offset + slope * math.log(target), abs=1e-9
    )


def test_interpolation_never_extrapolates():
    assert stats.interpolate([0.5, 0.1], [0.9, 0.8], 0.05) is None
    assert stats.interpolate([0.5, 0.1], [0.9, 0.8], 0.6) is None
    assert stats.interpolate([0.5, 0.1], [0.9, math.nan], 0.1) is None
    assert stats.interpolate([0.5, 0.1], [0.9, 0.8], 0.1) == pytest.approx(0.8)
