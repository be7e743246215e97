"""The scorecard: verdicts follow from records alone, by rules that noise and typing cannot bend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats as reference

from bench import claims, tidy
from bench.__main__ import main
from bench.claims import figure, table
from bench.claims.kinds import KINDS
from bench.claims.schema import KINDS as SCHEMAS
from bench.claims.schema import ClaimError, read
from bench.claims.scorecard import Row, score
from bench.claims.shape import changes, turns
from bench.claims.verdict import (
    VERDICTS,
    Check,
    Number,
    Region,
    by_count,
    by_interval,
    by_seeds,
    settle,
    verdict,
)
from bench.method import load, names
from bench.suite import ConfigError

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
SOURCES = {
    "saam", "dpp", "activation_density", "sap", "spp", "tensor_cnn", "djpq", "dpf", "taylor",
    "privacy_admm",
}  # fmt: skip
SEEDS = (0, 1, 2)
BASE = {
    "method": "magnitude", "family": "f", "arch": "lenet5", "dataset": "fashion_mnist",
    "tier": "equal", "recipe": "{}", "point": 0, "final": True, "status": "ok", "classes": 10,
    "test_samples": 10000, "protocol": 1, "provenance": "rerun", "dense": "dense-0",
    "top1_dense": 0.92,
}  # fmt: skip
COLUMNS = pd.read_csv(PUBLISHED / "dpp_bits" / "tables" / "points.csv", nrows=0).columns


def run_of(variant: str, seed: int, density: float | None) -> str:
    return f"{variant}-{seed}-{density}"


def runs(variant: str, values: dict[str, Any], density: float | None = 0.1, **more) -> list[dict]:
    """A row of `points` for each seed; each of `values` is one number per seed."""
    return [
        dict.fromkeys(COLUMNS)
        | BASE
        | {"variant": variant, "seed": seed, "run": run_of(variant, seed, density)}
        | {"target_density": density, "density": density or 0.07}
        | {name: numbers[i] for name, numbers in values.items()}
        | more
        for i, seed in enumerate(SEEDS)
    ]


def publish(folder: Path, points: list[dict], name: str = "mine", **tables: list[dict]) -> Path:
    """A folder of published suites with one suite: these rows of its tidy tables."""
    for table_, rows in {"points": points, "runs": points, **tables}.items():
        tidy.write(pd.DataFrame(rows), folder / name / "tables", table_)
    return folder


def entry(folder: Path, *measures: dict, **more) -> tuple:
    """The entries of a claims file with one claim, which these measurements answer."""
    content = {
        "id": "one", "title": "t", "claim": "c", "source": "Some One, 2020", "paper": "p",
        "evidence": "verified", "reported": "1", "measure": list(measures),
    } | more  # fmt: skip
    file = folder / "claims.yaml"
    file.write_text(yaml.safe_dump({"sources": {"magnitude": [content]}}))
    return read(file)


def answer(folder: Path, *measures: dict) -> Row:
    """The scored row of a claim with these measurements of suite `mine` in `folder`."""
    full = [{"suite": "mine", "densities": [0.1], "variant": "a"} | one for one in measures]
    return score(folder, entry(folder, *full))[0]


def numbers(row: Row) -> Number:
    """Of a row with one check."""
    assert len(row.checks) == 1
    return row.checks[0].number


# the file


WELL = {"kind": "gap", "suite": "x", "variant": "a", "minus": "b", "densities": [0.1], "above": 0}


def measured(**more) -> list[dict]:
    return [{key: value for key, value in (WELL | more).items() if value is not None}]


def refused(folder: Path, match: str, section="sources", method="magnitude", **more) -> None:
    claim = {
        "id": "one", "title": "t", "claim": "c", "source": "Some One, 2020", "paper": "p",
        "evidence": "verified", "reported": "1", "measure": measured(),
    } | more  # fmt: skip
    claim = {key: value for key, value in claim.items() if value is not None}
    file = folder / "claims.yaml"
    file.write_text(yaml.safe_dump({section: {method: [claim]}}))
    with pytest.raises(ConfigError, match=match):
        read(file)


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        (r"claims.yaml: one: .*suiet: unknown key; did you mean 'suite'", measured(suiet="x")),
        (r"claims.yaml: one: .*kind", measured(kind="gape")),
        (r"claims.yaml: one: .*give one of above, below, within", measured(below=1)),
        (r"claims.yaml: one: .*give one of above, below, within", measured(above=None)),
        (r"claims.yaml: one: .*give one of minus, control", measured(control="random")),
        (r"claims.yaml: one: .*densities", measured(densities=[])),
        (r"claims.yaml: one: .*densities", measured(densities=[1.5])),
        (r"claims.yaml: one: .*column", measured(column="top11")),
    ],
)
def test_a_wrong_measurement_is_a_message_with_file_claim_and_key(match, wrong, tmp_path):
    refused(tmp_path, match, measure=wrong)


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        ("one: clam: unknown key; did you mean 'claim'", {"clam": "x"}),
        ("one: .*give one of measure, untested, untestable", {"measure": None}),
        ("one: .*give one of measure, untested, untestable", {"untested": "a run"}),
        ("one: source", {"source": None}),
        ("one: evidence", {"evidence": "rumour"}),
        ("one: .*from memory quotes", {"evidence": "from memory", "reported": "75.1 %"}),
        ("no section 'sorces'; did you mean 'sources'", {"section": "sorces"}),
        ("sources: no method 'magnitud'; did you mean 'magnitude'", {"method": "magnitud"}),
    ],
)
def test_a_wrong_claim_is_a_message_with_file_claim_and_key(match, wrong, tmp_path):
    refused(tmp_path, match, **wrong)


def test_two_claims_of_one_id_are_refused(tmp_path):
    entry(tmp_path, untested="x", measure=[])
    file = tmp_path / "claims.yaml"
    content = yaml.safe_load(file.read_text())
    content["sources"]["magnitude"] *= 2
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ClaimError, match="one: two claims"):
        read(file)


def test_every_method_of_a_paper_has_a_claim_and_the_sources_come_first():
    entries = read()
    papers = {name for name in names() if load(name).family != "baseline"}
    assert papers <= {entry.method for entry in entries}
    assert {entry.method for entry in entries if entry.section == "sources"} == SOURCES
    sections = [entry.section for entry in entries]
    assert sections == sorted(sections, key=["sources", "baselines"].index)


def test_every_kind_of_measurement_is_implemented_and_in_use():
    assert set(KINDS) == set(SCHEMAS)
    assert {type(one) for entry in read() for one in entry.claim.measure} == set(SCHEMAS)


# the kinds, against tables with known answers


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
    own = {"top1": (0.90, 0.91, 0.89), "top1_dense": (0.92, 0.93, 0.91)}
    publish(tmp_path, runs("a", own, None, densities="0.2 0.05"))
    row = answer(tmp_path, {"kind": "gap", "minus": "dense", "densities": "end", "above": -3})
    assert numbers(row).estimate == pytest.approx(-2)
    assert row.verdict == "reproduced"
    assert "dense-0" in row.checks[0].runs


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


def test_costs_are_ratios_of_what_runs_spent(tmp_path):
    a = {"top1": (0.9,) * 3, "seconds_score": (1, 2, 3), "seconds_prune": (1, 2, 3)}
    b = {"top1": (0.9,) * 3, "seconds_score": (0, 0, 0), "seconds_prune": (1, 2, 3)}
    both = [*runs("a", a, epochs=10), *runs("b", b, epochs=5)]
    publish(tmp_path, both)
    asked = {"kind": "cost", "over": "b", "columns": ["seconds_score", "seconds_prune"], "below": 1}
    assert numbers(answer(tmp_path, asked)).estimate == pytest.approx(2)
    assert answer(tmp_path, asked).verdict == "not reproduced"
    assert numbers(answer(tmp_path, asked | {"per": "epoch"})).estimate == pytest.approx(1)


def history(lines: dict[int, list[dict]], **more) -> list[dict]:
    return [
        {"run": run_of("a", seed, 0.1), "layer": "all"} | more | line
        for seed, own in lines.items()
        for line in own
    ]


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


def curve_lines(curves: dict[int, list[float]]) -> list[dict]:
    lines = {s: [{"round": r, "pqi": v} for r, v in enumerate(c)] for s, c in curves.items()}
    return history(lines, event="pqi")


def test_a_curve_that_falls_rises_and_falls_is_seen_and_one_that_only_falls_is_open(tmp_path):
    whole = {s: [0.30, 0.21, 0.12, 0.25, 0.41, 0.08 + s / 1000] for s in SEEDS}
    asked = {
        "kind": "shape", "event": "pqi", "column": "pqi", "phases": ["falls", "rises", "falls"],
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
    assert row.verdict == "partly reproduced"


def test_noise_makes_no_turn():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        own = changes({s: rng.normal(size=8) for s in SEEDS}, ["falls", "rises", "falls"])
        found.append([by_seeds(one, Region(low=0), "index").p_for < 0.05 for one in own])
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


def timed(batch: int, speedup: tuple[float, float, float], median: float = 1.0) -> dict:
    mean, low, high = speedup
    return {
        "dataset": "fashion_mnist", "arch": "lenet5", "run": run_of("a", 1, 0.1), "point": 0,
        "role": "candidate", "path": "dense", "mode": "eager", "device": "cpu", "status": "ok",
        "device_name": "Some CPU", "dtype": "fp32", "layout": "nchw", "batch": batch, "threads": 1,
        "median_ms": median, "speedup": mean, "speedup_low": low, "speedup_high": high,
        "energy_mj": None, "reason": None,
    }  # fmt: skip


def test_a_speed_up_brings_its_interval_and_names_the_net_that_was_timed(tmp_path):
    times = [timed(32, (2.0, 1.9, 2.1)), timed(1, (0.8, 0.7, 0.9))]
    own = {"top1": (0.9,) * 3, "theoretical_speedup": (4.0,) * 3}
    publish(tmp_path, runs("a", own), latency=times)
    row = answer(tmp_path, {"kind": "speedup", "above": 1})
    found = numbers(row)
    assert (found.estimate, found.low, found.high, found.n) == (2.0, 1.9, 2.1, 1)
    assert (row.verdict, row.checks[0].label) == ("reproduced", "10 %, batch 32")
    assert row.checks[0].runs == (run_of("a", 1, 0.1),)
    assert answer(tmp_path, {"kind": "speedup", "above": 1, "batch": 1}).verdict == "not reproduced"
    theory = answer(tmp_path, {"kind": "speedup", "below": 1, "of": "theory"})
    assert numbers(theory).estimate == pytest.approx(0.5)


# what is not there


GAP = {"kind": "gap", "minus": "b", "above": 0}


@pytest.mark.parametrize(
    ("match", "asked"),
    [
        ("suite: nothing is published as 'mihne'; did you mean 'mine'", GAP | {"suite": "mihne"}),
        ("variant: mine has no variant 'aa'; did you mean 'a'", GAP | {"variant": "aa"}),
        ("minus: mine has no variant 'bb'; did you mean 'b'", GAP | {"minus": "bb"}),
        ("control: mine has no variant 'random", {"kind": "gap", "control": "random", "above": 0}),
        ("densities: a of suite mine has no 0.2; there are: 0.1", GAP | {"densities": [0.2]}),
        ("column: 0 seeds have a number", GAP | {"column": "value_before"}),
        ("event: the history of mine has no 'pqa'; did you mean 'pqi'",
         {"kind": "shape", "event": "pqa", "column": "pqi", "phases": ["falls"]}),
        ("column: the history of mine has no 'pq'; did you mean 'pqi'",
         {"kind": "shape", "event": "pqi", "column": "pq", "phases": ["falls"]}),
        ("layer: not every run of a logged 'fc1'",
         {"kind": "shape", "event": "pqi", "column": "pqi", "layer": "fc1", "phases": ["falls"]}),
        ("variant: a was not timed", {"kind": "speedup", "batch": 8, "above": 1}),
        ("no table layers", {"kind": "exact", "rule": "equal_rows"}),
    ],
)  # fmt: skip
def test_what_is_not_published_is_an_error_with_file_claim_and_key(match, asked, tmp_path):
    both = [*runs("a", {"top1": (0.9,) * 3}), *runs("b", {"top1": (0.9,) * 3})]
    lines = curve_lines({s: [0.3, 0.2] for s in SEEDS})
    publish(tmp_path, both, history=lines, latency=[timed(32, (2.0, 1.9, 2.1))])
    with pytest.raises(ClaimError, match=rf"claims.yaml: one: measure.0.{match}"):
        answer(tmp_path, asked)


def test_one_seed_answers_nothing(tmp_path):
    publish(tmp_path, [*runs("a", {"top1": (0.9,) * 3})[:1], *runs("b", {"top1": (0.9,) * 3})])
    with pytest.raises(ClaimError, match="two seeds"):
        answer(tmp_path, GAP)


# the verdicts


def check(p_for: float = 1.0, p_against: float = 1.0) -> Check:
    number = Number(0.0, -1.0, 1.0, 3, p_for, p_against, gap=0.5, sd=1.0)
    return Check("", "here", "mine", "a", "b", "points", Region(low=0), number, ("r",))


YES, NO, OPEN = check(p_for=0.001), check(p_against=0.001), check()


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([YES, YES], "reproduced"),
        ([YES, OPEN], "partly reproduced"),
        ([OPEN, OPEN], "within noise"),
        ([YES, NO], "not reproduced"),
        ([OPEN, NO], "not reproduced"),
        ([NO, NO], "not reproduced"),
    ],
)
def test_one_check_against_a_claim_is_enough_and_all_must_be_for_it(found, wanted):
    assert verdict(settle(found)) == wanted


def test_checks_of_a_claim_are_corrected_together():
    assert verdict(settle([check(p_for=0.03)])) == "reproduced"
    assert verdict(settle([check(p_for=0.03), check(p_for=0.04)])) == "within noise"
    four = settle([check(p_for=p) for p in (0.012, 0.016, 0.02, 0.9)])
    assert [one.outcome for one in four] == ["yes", "yes", "yes", "open"]
    assert four[0].p_for == pytest.approx(0.048)
    alone, among = settle([OPEN])[0], settle([OPEN] * 4)[0]
    assert alone.seeds_needed < among.seeds_needed


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


def test_two_equal_things_do_not_beat_each_other_and_noise_would_not_tell(tmp_path):
    same = {"top1": (0.90, 0.91, 0.92)}
    publish(tmp_path, [*runs("a", same), *runs("b", same)])
    assert answer(tmp_path, GAP).verdict == "not reproduced"
    assert answer(tmp_path, {"kind": "gap", "minus": "b", "below": 0}).verdict == "not reproduced"
    assert answer(tmp_path, {"kind": "gap", "minus": "b", "within": 0.5}).verdict == "reproduced"
    assert answer(tmp_path, {"kind": "gap", "minus": "b", "above": -0.5}).verdict == "reproduced"


@pytest.mark.parametrize(("gap", "wanted"), [(0.0005, "not reproduced"), (0.002, "reproduced")])
def test_a_sure_advantage_counts_from_a_tenth_of_a_point(gap, wanted, tmp_path):
    base = np.array((0.90, 0.91, 0.92))
    publish(tmp_path, [*runs("a", {"top1": base + gap}), *runs("b", {"top1": base})])
    assert answer(tmp_path, GAP).verdict == wanted


def test_equality_takes_the_whole_interval_within_the_margin(tmp_path):
    asked = {"kind": "gap", "minus": "b", "within": 0.5}
    for top1, wanted in {
        (0.901, 0.911, 0.922): "reproduced",
        (0.904, 0.905, 0.930): "within noise",
        (0.916, 0.925, 0.936): "not reproduced",
    }.items():
        publish(tmp_path, [*runs("a", {"top1": top1}), *runs("b", {"top1": (0.90, 0.91, 0.92)})])
        assert answer(tmp_path, asked).verdict == wanted


@pytest.mark.parametrize("densities", [1, 4])
@pytest.mark.parametrize("region", [Region(low=0.0), Region(high=0.0, slack=0.1)])
def test_where_nothing_is_to_be_seen_it_is_reproduced_in_one_of_twenty_at_most(region, densities):
    rng = np.random.default_rng(3)
    found = []
    for _ in range(600 // densities):
        each = [by_seeds(dict(enumerate(rng.normal(size=3))), region, "points")
                for _ in range(densities)]  # fmt: skip
        parts = [Check("", "", "", "a", "b", "points", region, one, ()) for one in each]
        found.append(verdict(settle(parts)))
    said_yes = np.mean([one in ("reproduced", "partly reproduced") for one in found])
    assert said_yes <= 0.05
    assert np.mean([one == "reproduced" for one in found]) <= 0.05
    assert np.mean([one == "within noise" for one in found]) > 0.85


def test_an_interval_of_its_own_decides_like_one_of_seeds():
    sure = by_interval(2.0, 1.5, 2.6667, 1, Region(low=1.4), "times")
    assert sure.p_for < 0.05 < sure.p_against
    assert by_interval(2.0, 1.5, 2.6667, 1, Region(low=1.6), "times").p_for > 0.05
    assert by_interval(2.0, 1.5, 2.6667, 1, Region(high=1.4), "times").p_against < 0.05


def test_counts_need_no_statistics():
    assert (by_count(5, 5).p_for, by_count(5, 5).p_against) == (0, 1)
    assert (by_count(4, 5).p_for, by_count(4, 5).p_against) == (1, 0)


# the scorecard


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return score(PUBLISHED, read())


def test_every_claim_has_a_verdict_a_source_and_runs_that_exist(rows):
    there = {
        suite: set(tidy.read(PUBLISHED / suite / "tables", "runs")["run"])
        for suite in {check.suite for row in rows for check in row.checks}
    }
    for row in rows:
        assert row.verdict in VERDICTS
        assert row.claim.source
        assert bool(row.checks) == bool(row.claim.measure)
        for check in row.checks:
            assert check.runs
            assert set(check.runs) <= there[check.suite], row.claim.id


def test_the_table_says_all_of_it_and_latex_can_print_it(rows):
    frame, screen = table.frame(rows), table.screen(rows)
    assert set(frame["id"]) == {row.claim.id for row in rows}
    assert len(frame) == sum(max(1, len(row.checks)) for row in rows)
    assert frame["verdict"].notna().all()
    assert frame.loc[frame["check"].notna(), "runs"].str.len().gt(0).all()
    for row in rows:
        assert row.claim.claim in screen
        assert row.claim.reported in screen
    (count,) = [line for line in screen.splitlines() if line.startswith("| all |")]
    assert count.split("|")[4].strip() == str(len(rows))
    from bench.tables.render import latex

    assert latex("scorecard", table.print_blocks(rows)).isascii()


def test_every_column_is_documented(rows):
    readme = (PUBLISHED / "scorecard" / "README.md").read_text()
    cells = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in cell.split("`")[1::2]] == list(table.frame(rows))


def test_a_noisy_row_says_how_many_seeds_would_tell():
    open_ = settle([OPEN])
    row = Row("sources", "dpf", read()[0].claim, open_, verdict(open_))
    assert table.said(row) == f"within noise ({open_[0].seeds_needed} seeds)"


def test_the_figure_draws_decided_intervals_beside_the_bound(rows):
    for row in rows:
        for check in row.checks:
            centre, low, high = figure.beyond(check)
            assert low - 1e-9 <= centre <= high + 1e-9
            if check.outcome == "yes":
                assert low >= 0, row.claim.id
            if check.outcome == "no" and not check.region.slack:
                assert high <= 0, row.claim.id


def test_the_figure_is_the_same_bytes_each_time(rows, tmp_path):
    some = [row for row in rows if row.method in ("dpp", "djpq", "rigl")]
    one, two = (figure.draw(some, tmp_path / part, "scorecard") for part in "ab")
    assert [file.name for file in one] == ["scorecard.pdf", "scorecard.png"]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_the_command_writes_all_or_says_what_is_missing(tmp_path, monkeypatch, capsys):
    own = entry(tmp_path, GAP | {"suite": "mine", "variant": "a", "densities": [0.1]})
    monkeypatch.setattr(claims, "read", lambda: own)
    assert main(["claims", "--published", str(tmp_path)]) == 1
    assert "claims.yaml: one: measure.0.suite" in capsys.readouterr().err
    publish(tmp_path, [*runs("a", {"top1": (0.9,) * 3}), *runs("b", {"top1": (0.8,) * 3})])
    assert main(["claims", "--published", str(tmp_path)]) == 0
    made = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert made == {f"scorecard.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    found = pd.read_csv(tmp_path / "scorecard" / "tables" / "scorecard.csv").iloc[0]
    assert (found["verdict"], found["estimate"], found["n"]) == ("reproduced", 10, 3)
    assert found["runs"].split() == [run_of(v, seed, 0.1) for v in "ab" for seed in SEEDS]
