"""Ranks over tasks: golden values, nominal error rates, ties that stay ties, power as planned."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from bench import tables
from bench.across import ENOUGH, friedman, nemenyi, ranking
from bench.figures import critical_difference, style
from bench.tables import aggregate
from bench.tables.render import markdown
from tests import records
from tests.records import make

NAMES = tuple("abcdefgh")


@pytest.mark.parametrize(
    ("count", "tasks", "wanted"),
    [
        (4, 14, 1.25),
        (2, 1, 1.960),
        (10, 1, 3.164 * np.sqrt(110 / 6)),
    ],  # Demsar, 2006: text, table 5
)
def test_critical_differences_are_those_of_the_paper(count, tasks, wanted):
    assert nemenyi(count, tasks) == pytest.approx(wanted, rel=3e-3)


def test_friedman_is_iman_and_davenports_f_of_scipys_statistic():
    x = np.random.default_rng(0).normal(size=(12, 5)).round(1)  # some scores are equal
    chi = reference.friedmanchisquare(*x.T).statistic
    f = 11 * chi / (12 * 4 - chi)
    ranks = reference.rankdata(-x, axis=1)
    assert friedman(ranks) == pytest.approx(reference.f.sf(f, 4, 44), rel=1e-9)


def test_without_any_difference_one_is_found_at_the_nominal_rate():
    rng, trials = np.random.default_rng(1), 1500
    found = [ranking(NAMES, rng.normal(size=(6, 2, 8))) for _ in range(trials)]
    margin = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=margin)
    apart = [len(one.ties()) > 1 for one in found]  # some pair of eight
    assert np.mean(apart) <= 0.05 + margin


def test_two_copies_of_one_method_tie():
    scores = np.random.default_rng(2).normal(size=(8, 1, 3))
    scores = np.concatenate([scores, scores[..., :1], scores[..., 2:] - 5], axis=-1)
    made = ranking(("a", "b", "c", "copy", "worse"), scores)
    ranks = dict(zip(made.names, made.means, strict=True))
    assert ranks["a"] == ranks["copy"]
    runs = [set(made.names[first : last + 1]) for first, last in made.ties()]
    assert any({"a", "copy"} <= run for run in runs)


def test_a_planted_best_and_worst_are_told_apart_and_the_middle_is_not():
    rng, seen = np.random.default_rng(3), 0
    for _ in range(100):
        scores = rng.normal(size=(12, 1, 5))
        scores[..., 0] += 3
        scores[..., 4] -= 3
        made = ranking(NAMES[:5], scores)
        runs = [set(made.names[first : last + 1]) for first, last in made.ties()]
        seen += not any({"a", "e"} <= run for run in runs)
        assert any({"b", "c"} <= run for run in runs)
    assert seen >= 95


def test_more_densities_of_the_same_tasks_are_no_further_evidence():
    once = np.random.default_rng(4).normal(size=(5, 1, 4))
    one, many = (ranking(NAMES[:4], np.repeat(once, times, axis=1)) for times in (1, 6))
    assert one == many


@pytest.mark.parametrize(("tasks", "wanted"), [(3, 0.70), (5, 0.83), (15, 0.93)])
def test_the_interval_over_tasks_is_as_narrow_as_the_table_says(tasks, wanted):
    rng, inside, trials = np.random.default_rng(5), 0.0, 300
    gaps = np.array([0.0, 0.5, 1.0, 1.5])
    truth = reference.rankdata(-(rng.normal(size=(20_000, 4)) + gaps), axis=1).mean(0)
    for _ in range(trials):
        made = ranking(NAMES[:4], rng.normal(size=(tasks, 1, 4)) + gaps)
        place = [made.names.index(name) for name in NAMES[:4]]
        low, high = np.array(made.low)[place], np.array(made.high)[place]
        inside += np.mean((low <= truth) & (truth <= high))
    assert inside / trials == pytest.approx(wanted, abs=0.04)


def test_too_few_tasks_are_refused():
    with pytest.raises(ValueError, match="2 tasks"):
        ranking(NAMES, np.zeros((ENOUGH - 1, 1, 8)))


def test_a_suite_of_two_tasks_says_that_it_says_nothing(tmp_path):
    folder = make(tmp_path)
    frame, blocks = tables.made(folder / "tables")["aggregate"]
    assert not len(frame)
    assert "Nothing is said over tasks" in markdown(blocks)
    assert all(f"digits/{arch}" in markdown(blocks) for arch in records.ARCHS)


@pytest.fixture
def comparison() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    rows = [
        {"tier": "equal", "dataset": f"d{task}", "arch": "net", "variant": name, "block": "method",
         "target_density": density, "top1": 0.9 - 0.1 * place + 0.001 * rng.random()}
        for task in range(10) for density in (0.2, 0.1)
        for place, name in enumerate(("good", "middle", "bad"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_table_ranks_what_every_task_has_and_names_the_rest(comparison):
    lost = comparison.index[(comparison["variant"] == "middle") & (comparison["dataset"] == "d3")]
    frame = aggregate.rows(comparison.drop(lost[:1]))
    assert list(frame["variant"]) == ["good", "bad"]
    assert list(frame["mean_rank"]) == [1, 2]
    assert "lacks them: middle" in markdown(aggregate.blocks(comparison.drop(lost[:1])))
    whole = aggregate.rows(comparison)
    assert list(whole["variant"]) == ["good", "middle", "bad"]
    assert whole.set_index("variant").loc["good", "group"] != whole.iloc[2]["group"]


def test_of_an_error_less_is_better(comparison):
    fields = comparison.rename(columns={"top1": "relative_l2"})
    assert list(aggregate.rows(fields)["variant"]) == ["bad", "middle", "good"]


def test_the_diagram_has_a_dot_at_each_mean_rank_and_a_bar_over_each_run_of_ties():
    rng = np.random.default_rng(7)
    made = ranking(NAMES, rng.normal(size=(9, 2, 8)) + np.arange(8))
    with style.style():
        axes = style.figure(7, 3).subplots()
        critical_difference.diagram(axes, made)
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == list(made.means)
    bars = [line for line in axes.lines if line.get_linewidth() == 2.5]
    assert len(bars) == sum(first != last for first, last in made.ties())
    texts = " ".join(text.get_text() for text in axes.texts)
    assert all(name in texts for name in NAMES)
    assert f"critical difference {made.critical:.2f}" in texts


def test_too_few_tasks_are_a_message_and_files_repeat(tmp_path):
    folder = make(tmp_path)
    first = [file.read_bytes() for file in
             critical_difference.draw(folder / "tables", tmp_path / "a")]  # fmt: skip
    again = [file.read_bytes() for file in
             critical_difference.draw(folder / "tables", tmp_path / "b")]  # fmt: skip
    assert first == again
