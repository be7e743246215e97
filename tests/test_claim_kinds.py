"""Each kind of measurement of a claim, against tidy tables with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from bench.claims import wording
from bench.claims.number import Region, by_seeds
from bench.claims.schema import ClaimError
from bench.claims.scorecard import score
from bench.claims.shape import changes, reached, turns
from tests.claim_tables import (
    GAP,
    SEEDS,
    answer,
    curve_lines,
    entry,
    history,
    numbers,
    publish,
    run_of,
    runs,
    timed,
)


def test_a_gap_is_the_paired_t_interval_in_points(tmp_path):
    a, b = (0.913, 0.921, 0.919), (0.902, 0.915, 0.906)
    publish(tmp_path, [*runs("a", {"top1": a}), *runs("b", {"top1": b})])
    row = answer(tmp_path, {"kind": "gap", "minus": "b", "above": 0})
    wanted = reference.ttest_rel(100 * np.array(a), 100 * np.array(b))
    found, interval = numbers(row), wanted.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.estimate, found.n) == (pytest.approx(1.0), 3)
    assert found.p_for == pytest.approx(wanted.pvalue)
    assert row.verdict == ("reproduced" if interval.low > 0 else "within noise") == "reproduced"
    assert row.checks[0].runs == tuple(run_of(v, s, 0.1) for v in "ab" for s in SEEDS)


def test_a_gap_pairs_seeds_and_not_rows(tmp_path):
    b = [row for row in runs("b", {"top1": (0.80, 0.70, 0.60)})][::-1]
    publish(tmp_path, [*runs("a", {"top1": (0.81, 0.71, 0.61)}), *b])
    assert numbers(answer(tmp_path, {"kind": "gap", "minus": "b", "above": 0})).sd < 0.01


def test_control_means_the_variants_own(tmp_path):
    like = "magnitude(like=a)"
    publish(tmp_path, [*runs("a", {"top1": (0.9,) * 3}), *runs(like, {"top1": (0.8,) * 3})])
    row = answer(tmp_path, {"kind": "gap", "control": "magnitude", "above": 5})
    assert numbers(row).estimate == pytest.approx(10)
    assert (row.checks[0].other, row.verdict) == (like, "reproduced")


def test_dense_is_the_net_that_each_run_started_from_and_end_its_last_point(tmp_path):
    own = {"top1": (0.900, 0.901, 0.899), "top5": (0.97, 0.96, 0.98)}
    publish(tmp_path, [*runs("a", own, None, densities="0.2 0.05", epochs=3), *dense()])
    asked = {"kind": "gap", "minus": "dense", "densities": "end", "above": -3}
    row = answer(tmp_path, asked)
    assert numbers(row).estimate == pytest.approx(-2)
    assert row.verdict == "reproduced"
    assert row.checks[0].runs[-1] == "dense-0"
    assert row.checks[0].epochs == "dense trained 10 epochs, this 10 + 3"
    assert numbers(answer(tmp_path, asked | {"column": "top5"})).estimate == pytest.approx(-2)


def dense() -> list[dict]:
    """The dense run that all others were compared to."""
    values = {"top1": (0.92,) * 3, "top5": (0.99,) * 3}
    more = {"method": "dense", "run": "dense-0", "dense": None, "target_density": None}
    return runs("dense", values, epochs=10, **more)[:1]


def test_a_method_that_starts_untrained_has_its_own_epochs_only(tmp_path):
    more = {"epochs": 13, "method": "rigl"}
    publish(tmp_path, [*runs("a", {"top1": (0.9, 0.91, 0.92)}, **more), *dense()])
    row = answer(tmp_path, {"kind": "gap", "minus": "dense", "above": -3})
    assert row.checks[0].epochs == "dense trained 10 epochs, this 13"


def test_sides_of_different_size_are_refused_unless_the_claim_says_why(tmp_path):
    own, big = {"top1": (0.9, 0.91, 0.92)}, {"density": (0.103, 0.103, 0.103)}
    publish(tmp_path, [*runs("a", own), *runs("b", own | big), *runs("c", own | {
        "density": (0.101, 0.102, 0.101)})])  # fmt: skip
    assert answer(tmp_path, GAP | {"minus": "c"}).verdict == "within noise"
    with pytest.raises(ClaimError, match=r"one: measure.0.sizes: a has a density of 0.1 and b"):
        answer(tmp_path, GAP)
    full = GAP | {"suite": "mine", "variant": "a", "densities": [0.1], "sizes": "unequal"}
    assert score(tmp_path, entry(tmp_path, full, note="why"))[0].checks


def test_at_equal_work_the_other_side_is_read_off_its_curve(tmp_path):
    a = runs("a", {"top1": (0.80,) * 3, "theoretical_speedup": (4.0,) * 3})
    two = runs("b", {"top1": (0.90, 0.91, 0.92), "theoretical_speedup": (2.0,) * 3}, 0.4)
    eight = runs("b", {"top1": (0.70, 0.71, 0.72), "theoretical_speedup": (8.0,) * 3}, 0.05)
    publish(tmp_path, [*a, *two, *eight])
    found = numbers(answer(tmp_path, GAP | {"equal": "macs"}))
    assert found.estimate == pytest.approx(80 - 81)  # half way, in logarithms, between 91 and 71
    publish(tmp_path, [*a, *two])
    with pytest.raises(ClaimError, match="0 seeds have a number on both sides"):
        answer(tmp_path, GAP | {"equal": "macs"})


def test_as_pruned_is_the_accuracy_before_fine_tuning(tmp_path):
    a, b = {"top1": (0.9,) * 3, "top1_before": (0.5,) * 3}, {"top1": (0.9,) * 3}
    publish(tmp_path, [*runs("a", a), *runs("b", b | {"top1_before": (0.4,) * 3})])
    asked = {"kind": "gap", "minus": "b", "column": "value_before", "above": 0}
    assert numbers(answer(tmp_path, asked)).estimate == pytest.approx(10)


def test_a_ratio_is_averaged_as_its_logarithm(tmp_path):
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3, "parameter_ratio": (50, 100, 200)}))
    asked = {"kind": "value", "column": "parameter_ratio"}
    row = answer(tmp_path, asked | {"above": 90})
    assert numbers(row).estimate == pytest.approx(100)
    assert np.sqrt(numbers(row).low * numbers(row).high) == pytest.approx(100)
    assert row.verdict == "within noise"
    assert answer(tmp_path, asked | {"above": 3}).verdict == "reproduced"
    assert answer(tmp_path, asked | {"above": 5000}).verdict == "not reproduced"


def test_bit_operations_are_those_of_the_channels_that_stay(tmp_path):
    """Weights that are rounded to zero save nothing, as papers count."""
    own = {"top1": (0.9,) * 3, "bops": (10.0, 10.0, 10.0), "bop_reduction": (80.0, 80.0, 80.0)}
    rows = [
        {"run": run_of("a", s, 0.1), "point": 0, "layer": layer, "macs": 4, "weight_bits": bits,
         "activation_bits": 2.0, "shape": "1x1", "weights": 9, "nonzeros": 1, "bops": 5}
        for s in SEEDS for layer, bits in (("one", 3.0), ("two", 2.0))
    ]  # fmt: skip
    publish(tmp_path, runs("a", own), layers=rows)
    asked = {"kind": "value", "column": "channel_bop_reduction", "above": 1}
    assert numbers(answer(tmp_path, asked)).estimate == pytest.approx(800 / (4 * 3 * 2 + 4 * 2 * 2))


def test_before_the_end_is_the_last_point_but_one(tmp_path):
    first = runs("a", {"top1": (0.95,) * 3}, None, final=False)
    last = runs("a", {"top1": (0.9,) * 3}, None, point=1)
    publish(tmp_path, [*first, *last, *dense()])
    asked = {"kind": "gap", "minus": "dense", "above": 0}
    found = {
        end: numbers(answer(tmp_path, asked | {"densities": end})).estimate
        for end in ("before end", "end")
    }
    assert found == pytest.approx({"before end": 3, "end": -2})


def test_costs_are_ratios_of_what_runs_spent(tmp_path):
    a = {"top1": (0.9,) * 3, "seconds_score": (1, 2, 3), "seconds_prune": (1, 2, 3)}
    b = {"top1": (0.9,) * 3, "seconds_score": (0, 0, 0), "seconds_prune": (1, 2, 3)}
    both = [*runs("a", a, epochs=10), *runs("b", b, epochs=5)]
    publish(tmp_path, both)
    asked = {"kind": "cost", "over": "b", "columns": ["seconds_score", "seconds_prune"], "below": 1}
    assert numbers(answer(tmp_path, asked)).estimate == pytest.approx(2)
    assert answer(tmp_path, asked).verdict == "not reproduced"
    assert numbers(answer(tmp_path, asked | {"per": "epoch"})).estimate == pytest.approx(1)


def test_events_are_reduced_to_a_number_per_run(tmp_path):
    lines = {s: [{"back": 1.0 + s, "of": 10.0}, {"back": 3.0 + s, "of": 30.0}] for s in SEEDS}
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), history=history(lines, event="back"))
    asked = {"kind": "event", "event": "back", "column": "back", "unit": "share", "above": 0}
    found = {r: numbers(answer(tmp_path, asked | {"reduce": r})) for r in ("sum", "mean", "last")}
    assert {r: n.estimate for r, n in found.items()} == pytest.approx(
        {"sum": 6, "mean": 3, "last": 4}
    )
    share = numbers(answer(tmp_path, asked | {"reduce": "sum", "per": "of"}))
    assert share.estimate == pytest.approx(np.mean([4 / 40, 6 / 40, 8 / 40]))
    inverse = asked | {"reduce": "last", "inverse": True, "unit": "times", "above": 0.1}
    assert numbers(answer(tmp_path, inverse)).estimate == pytest.approx(1 / 60 ** (1 / 3))
    first = numbers(answer(tmp_path, asked | {"reduce": "last but one"}))
    assert first.estimate == pytest.approx(2)


def test_a_curve_that_falls_rises_and_falls_is_seen_and_one_that_only_falls_is_open(tmp_path):
    whole = {s: [0.30, 0.21, 0.12, 0.25, 0.41, 0.08 + s / 1000] for s in SEEDS}
    asked = {
        "kind": "shape", "event": "pqi", "column": "pqi", "phases": ["falls", "rises", "falls"],
        "least": 0.01,
    }  # fmt: skip
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), history=curve_lines(whole))
    row = answer(tmp_path, asked)
    assert [c.number.estimate for c in row.checks] == pytest.approx([0.18, 0.18, 0.18])
    assert row.verdict == "reproduced"
    assert turns(np.array(whole[0]), asked["phases"]) == (0, 2, 4, 5)
    falls = {s: [0.30 + s / 1000, 0.21, 0.12, 0.10, 0.05, 0.02] for s in SEEDS}
    falls[1][3] = 0.1201  # a rise of noise
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), history=curve_lines(falls))
    row = answer(tmp_path, asked)
    assert [check.outcome for check in row.checks] == ["yes", "open", "open"]
    assert [check.number.lack for check in row.checks] == ["", *["range not reached"] * 2]
    assert row.verdict == "partly reproduced"


@pytest.mark.parametrize(
    ("curve", "phases", "wanted"),
    [
        ([0.1, 0.2, 0.3, 0.4], ["falls", "rises"], ["no", "no"]),
        ([0.4, 0.2, 0.3, 0.1], ["rises", "falls"], ["no", "no"]),
        ([0.4, 0.2, 0.3, 0.301], ["falls", "rises", "falls"], ["yes", "yes", "open"]),
        ([0.4, 0.2, 0.205, 0.1], ["falls", "rises", "falls"], ["yes", "no", "no"]),
        ([0.4, 0.4, 0.401, 0.4], ["falls", "rises"], ["no", "open"]),
    ],
)
def test_a_phase_that_is_missing_before_others_is_against_the_claim(
    curve, phases, wanted, tmp_path
):
    own = {s: [value + s / 1e5 for value in curve] for s in SEEDS}
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), history=curve_lines(own))
    asked = {"kind": "shape", "event": "pqi", "column": "pqi", "phases": phases, "least": 0.01}
    assert [check.outcome for check in answer(tmp_path, asked).checks] == wanted


def test_noise_makes_no_turn():
    rng, phases = np.random.default_rng(0), ["falls", "rises", "falls"]
    found: list[bool] = []
    for _ in range(200):
        curves = {s: rng.normal(size=8) for s in SEEDS}
        own = changes(curves, phases)[: reached(curves, phases, 0.01)]
        found += [by_seeds(one, Region(low=0.01), "index").p_for < 0.05 for one in own]
    assert np.mean(found) < 0.05
    assert turns(np.array([3.0, 1.0, 2.0, 0.0]), ["falls", "rises", "falls"]) == (0, 1, 2, 3)


@pytest.mark.parametrize("statistic", ["pearson", "spearman"])
def test_a_correlation_is_averaged_by_fishers_transform(statistic, tmp_path):
    rng = np.random.default_rng(1)
    pairs = {s: rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 60) for s in SEEDS}
    lines = {s: [{"taylor": x, "oracle": y} for x, y in own] for s, own in pairs.items()}
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), history=history(lines, event="oracle"))
    row = answer(
        tmp_path,
        {"kind": "correlation", "event": "oracle", "columns": ["taylor", "oracle"],
         "statistic": statistic, "above": 0.93},
    )  # fmt: skip
    how = {"pearson": reference.pearsonr, "spearman": reference.spearmanr}[statistic]
    each = [how(*own.T)[0] for own in pairs.values()]
    assert numbers(row).estimate == pytest.approx(np.tanh(np.mean(np.arctanh(each))))
    assert numbers(row).high < 1
    assert row.verdict == "not reproduced"


def layers(counts: dict[int, tuple[int, ...]], shape: str = "10x30") -> list[dict]:
    return [
        {"run": run_of("a", seed, 0.1), "point": 0, "layer": f"l{i}", "shape": shape,
         "weights": 300, "nonzeros": count}
        for seed, own in counts.items() for i, count in enumerate(own)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "counts", "share"),
    [
        ("equal_rows", {0: (30, 60), 1: (30, 60), 2: (30, 60)}, 1),
        ("equal_rows", {0: (30, 60), 1: (30, 61), 2: (30, 60)}, 5 / 6),
        ("no_empty_layer", {0: (1, 7), 1: (1, 7), 2: (1, 7)}, 1),
        ("no_empty_layer", {0: (1, 7), 1: (0, 7), 2: (0, 7)}, 4 / 6),
    ],
)
def test_an_exact_property_holds_everywhere_or_not(rule, counts, share, tmp_path):
    publish(tmp_path, runs("a", {"top1": (0.9,) * 3}), layers=layers(counts))
    row = answer(tmp_path, {"kind": "exact", "rule": rule})
    assert (numbers(row).estimate, numbers(row).n) == (pytest.approx(share), 6)
    assert row.verdict == ("reproduced" if share == 1 else "not reproduced")


def test_a_speed_up_brings_its_interval_and_names_the_net_that_was_timed(tmp_path):
    times = [timed(32, (2.0, 1.9, 2.1)), timed(1, (0.8, 0.7, 0.9))]
    own = {"top1": (0.9,) * 3, "theoretical_speedup": (4.0,) * 3}
    publish(tmp_path, runs("a", own), latency=times)
    row = answer(tmp_path, {"kind": "speedup", "above": 1})
    found = numbers(row)
    assert (found.estimate, found.low, found.high, found.n) == (2.0, 1.9, 2.1, 1)
    assert (row.verdict, row.checks[0].label) == ("reproduced", "10 %, batch 32")
    assert row.one_net
    assert wording.said(row) == "reproduced (one net)"
    assert row.checks[0].runs == (run_of("a", 1, 0.1),)
    assert answer(tmp_path, {"kind": "speedup", "above": 1, "batch": 1}).verdict == "not reproduced"
    theory = answer(tmp_path, {"kind": "speedup", "below": 1, "of": "theory"})
    assert numbers(theory).estimate == pytest.approx(0.5)
