"""Verdicts: rules that noise, typing and the number of checks cannot bend."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from bench.claims.number import (
    Number,
    Region,
    by_count,
    by_interval,
    by_seeds,
    not_reached,
    same_nets,
)
from bench.claims.verdict import Check, settle, verdict
from tests.claim_tables import answer, publish, runs


def check(p_for: float = 1.0, p_against: float = 1.0, beside: bool = False) -> Check:
    number = Number(0.0, -1.0, 1.0, 3, p_for, p_against, gap=0.5, sd=1.0)
    return of(number, beside)


def of(number: Number, beside: bool = False) -> Check:
    region = Region(low=0)
    return Check("", "here", "mine", "a", "b", "points", region, number, ("r",), beside)


YES, NO, OPEN = check(p_for=0.001), check(p_against=0.001), check()
SAME, UNREACHED = of(same_nets(3)), of(not_reached(3))
NO_BESIDE, YES_BESIDE = check(p_against=0.001, beside=True), check(p_for=0.001, beside=True)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([YES, YES], "reproduced"),
        ([YES, OPEN], "partly reproduced"),
        ([YES, NO], "mixed"),
        ([YES, NO, OPEN], "mixed"),
        ([OPEN, OPEN], "within noise"),
        ([OPEN, NO], "not reproduced"),
        ([NO, NO], "not reproduced"),
        ([SAME, SAME], "no difference made"),
        ([SAME, YES], "partly reproduced"),
        ([SAME, NO], "not reproduced"),
        ([SAME, OPEN], "within noise"),
        ([UNREACHED, YES], "partly reproduced"),
        ([UNREACHED, UNREACHED], "within noise"),
        ([YES, NO_BESIDE], "reproduced"),
        ([OPEN, YES_BESIDE], "within noise"),
    ],
)
def test_a_verdict_follows_from_the_checks_that_count(found, wanted):
    assert verdict(settle(found)) == wanted
    assert verdict(settle(found[::-1])) == wanted


@pytest.mark.parametrize(
    ("found", "together", "readings"),
    [
        ([YES, YES], "reproduced", "reproduced"),
        ([YES, NO], "not reproduced", "mixed"),
        ([OPEN, NO], "not reproduced", "within noise"),
        ([NO, NO], "not reproduced", "not reproduced"),
        ([YES, OPEN], "partly reproduced", "partly reproduced"),
    ],
)
def test_parts_of_one_claim_fall_together_and_readings_only_if_all_do(found, together, readings):
    assert verdict(settle(found), "together") == together
    assert verdict(settle(found), "readings") == readings


@pytest.mark.parametrize("found", [[NO], [OPEN], [YES, NO], [YES, OPEN]])
def test_one_net_cannot_refute_a_best_case_over_many(found):
    assert verdict(settle(found), best_case=True) == "not reached here"
    assert verdict(settle([YES]), best_case=True) == "reproduced"


def test_that_all_hold_takes_no_correction_and_that_some_do_takes_holms():
    assert verdict(settle([check(p_for=p) for p in (0.03, 0.04)])) == "reproduced"
    assert verdict(settle([check(p_for=p) for p in (0.03, 0.06)])) == "within noise"
    assert verdict(settle([check(p_for=p) for p in (0.02, 0.06)])) == "partly reproduced"
    assert verdict(settle([check(p_against=p) for p in (0.03, 0.04)])) == "within noise"
    assert verdict(settle([check(p_against=p) for p in (0.02, 0.9)])) == "not reproduced"
    four = settle([check(p_for=p) for p in (0.012, 0.016, 0.02, 0.9)])
    assert [one.outcome for one in four] == ["yes", "yes", "yes", "open"]
    assert four[0].p_for == pytest.approx(0.048)


def test_what_stands_beside_or_cannot_be_tested_costs_the_others_nothing():
    alone = settle([check(p_against=0.03)])
    for extra in (SAME, UNREACHED, NO_BESIDE):
        first, other = settle([check(p_against=0.03), extra])
        assert first.outcome == alone[0].outcome == "no"
        assert math.isnan(other.p_for) == (extra is not NO_BESIDE)


def test_more_checks_take_more_seeds():
    assert settle([OPEN])[0].seeds_needed < settle([OPEN] * 4)[0].seeds_needed


@pytest.mark.parametrize("shift", [-0.02, 0.02])
@pytest.mark.parametrize(
    ("region", "inside"),
    [
        (Region(low=0.0), (0.0, np.inf)),
        (Region(high=-0.5), (-np.inf, -0.5)),
        (Region(-0.5, 0.5), (-0.5, 0.5)),
    ],
)
def test_decided_is_what_has_its_whole_interval_on_one_side_of_the_bound(region, inside, shift):
    """Intervals that end just inside or just outside of a bound, on either side of it."""
    spread = np.array([-0.05, 0.0, 0.05])
    half = reference.t.ppf(0.975, 2) * 0.05 / np.sqrt(3)
    for bound in inside:
        for side in (-1, 1) if np.isfinite(bound) else ():
            found = by_seeds(
                dict(enumerate(bound + side * half + shift + spread)), region, "points"
            )
            assert (found.high - found.low) / 2 == pytest.approx(half)
            whole = inside[0] < found.low and found.high < inside[1]
            outside = found.high < inside[0] or found.low > inside[1]
            assert (found.p_for < 0.05) == whole
            assert (found.p_against < 0.05) == outside


NETS = ("digest-0", "digest-1", "digest-2")
BOUNDS = ({"above": 0}, {"below": 0}, {"within": 0.5}, {"above": -0.5})


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_same_nets_make_no_difference_and_are_neither_yes_nor_no(bound, tmp_path):
    same = {"top1": (0.90, 0.91, 0.92), "digest": NETS}
    publish(tmp_path, [*runs("a", same), *runs("b", same)])
    row = answer(tmp_path, {"kind": "gap", "minus": "b"} | bound)
    assert (row.verdict, row.checks[0].outcome) == ("no difference made", "same")


@pytest.mark.parametrize("digest", [("x", *NETS[1:]), (None, *NETS[1:])])
def test_nets_that_are_the_same_of_some_seeds_only_are_compared(digest, tmp_path):
    own = {"top1": (0.90, 0.91, 0.92)}
    publish(tmp_path, [*runs("a", own | {"digest": NETS}), *runs("b", own | {"digest": digest})])
    for bound, wanted in zip(
        BOUNDS, ("within noise", "within noise", "reproduced", "reproduced"), strict=True
    ):
        assert answer(tmp_path, {"kind": "gap", "minus": "b"} | bound).verdict == wanted


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [(0.0005, "reproduced"), (0.0, "within noise"), (-0.0005, "not reproduced")],
)
def test_a_sure_advantage_counts_however_small(gap, wanted, tmp_path):
    base = np.array((0.90, 0.91, 0.92))
    publish(tmp_path, [*runs("a", {"top1": base + gap}), *runs("b", {"top1": base})])
    assert answer(tmp_path, {"kind": "gap", "minus": "b", "above": 0}).verdict == wanted


def test_equality_takes_the_whole_interval_within_the_margin(tmp_path):
    asked = {"kind": "gap", "minus": "b", "within": 0.5}
    for top1, wanted in {
        (0.901, 0.911, 0.922): "reproduced",
        (0.904, 0.905, 0.930): "within noise",
        (0.916, 0.925, 0.936): "not reproduced",
    }.items():
        publish(tmp_path, [*runs("a", {"top1": top1}), *runs("b", {"top1": (0.90, 0.91, 0.92)})])
        assert answer(tmp_path, asked).verdict == wanted


def simulated(distances: tuple[float, ...], region: Region, times: int) -> list[str]:
    """Verdicts on claims whose true numbers lie so far inside of the bound at 0, three seeds."""
    rng = np.random.default_rng(3)
    sign = 1 if math.isfinite(region.low) else -1

    def one(distance: float) -> Number:
        return by_seeds(dict(enumerate(rng.normal(sign * distance, size=3))), region, "points")

    return [verdict(settle([of(one(distance)) for distance in distances])) for _ in range(times)]


@pytest.mark.parametrize("checks", [1, 4])
@pytest.mark.parametrize("region", [Region(low=0.0), Region(high=0.0)])
def test_at_the_bound_chance_decides_in_one_of_twenty_at_most(region, checks):
    found = simulated((0.0,) * checks, region, 400)
    good = [one in ("reproduced", "partly reproduced", "mixed") for one in found]
    bad = [one in ("not reproduced", "mixed") for one in found]
    assert 0 < np.mean(good) <= 0.05
    assert 0 < np.mean(bad) <= 0.05


def test_one_check_at_the_bound_among_sure_ones_is_missed_in_one_of_twenty_at_most():
    """The least favourable case of an intersection-union test, where Holm would find nothing."""
    found = simulated((50.0, 50.0, 50.0, 0.0), Region(low=0.0), 400)
    assert 0 < np.mean([one == "reproduced" for one in found]) <= 0.05


def test_where_the_claim_is_wrong_it_is_found_so():
    assert set(simulated((-50.0, -50.0), Region(low=0.0), 20)) == {"not reproduced"}
    assert set(simulated((50.0, 50.0), Region(low=0.0), 20)) == {"reproduced"}
    assert set(simulated((50.0, -50.0), Region(low=0.0), 20)) == {"mixed"}


def test_an_interval_of_its_own_decides_like_one_of_seeds():
    sure = by_interval(2.0, 1.5, 2.6667, 1, Region(low=1.4), "times")
    assert sure.over == "repetitions"
    assert sure.p_for < 0.05 < sure.p_against
    assert by_interval(2.0, 1.5, 2.6667, 1, Region(low=1.6), "times").p_for > 0.05
    assert by_interval(2.0, 1.5, 2.6667, 1, Region(high=1.4), "times").p_against < 0.05


def test_counts_need_no_statistics():
    assert (by_count(5, 5).p_for, by_count(5, 5).p_against) == (0, 1)
    assert (by_count(4, 5).p_for, by_count(4, 5).p_against) == (1, 0)
