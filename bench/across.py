"""Statistics over tasks: mean ranks with intervals, and which of them differ.

A task is a data set with an architecture. Ranks are compared, not accuracies, whose scales differ
between tasks. Intervals are bootstraps over tasks; differences are judged by Friedman's test and
Nemenyi's critical difference (Demsar, "Statistical Comparisons of Classifiers over Multiple Data
Sets", JMLR 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

ENOUGH = 3
"""Tasks below which nothing is said of tasks in general."""
DRAWS = 5000


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best) of `names` over `tasks` tasks, best first.

    `low`, `high`: 95 % percentile bootstrap over tasks; `p`: Friedman's; `critical`: the difference
    of two mean ranks that Nemenyi's test resolves at 5 %.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    tasks: int
    p: float
    critical: float

    def ties(self) -> tuple[tuple[int, int], ...]:
        """The longest runs (first, last) of neighbours that are not told apart.

        One of all where Friedman's test sees no difference at all.
        """
        if self.p >= 0.05:
            return ((0, len(self.names) - 1),)
        runs: list[tuple[int, int]] = []
        for i, mean in enumerate(self.means):
            j = max(k for k, other in enumerate(self.means) if other - mean <= self.critical)
            if not runs or j > runs[-1][1]:
                runs.append((i, j))
        return tuple(runs)


def ranking(names: tuple[str, ...], scores: np.ndarray, seed: int = 0) -> Ranking:
    """The ranking of `names` by `scores`, (tasks, densities, names), higher being better.

    Ranks are taken within a task and density, equal scores sharing theirs, and averaged over a
    task's densities first: the densities of a task are no independent evidence. Raises `ValueError`
    for fewer than `ENOUGH` tasks, or fewer than two names.
    """
    ranks = stats.rankdata(-scores, axis=-1).mean(axis=1)  # (tasks, names)
    tasks, count = ranks.shape
    if tasks < ENOUGH or count < 2:
        raise ValueError(f"{count} methods on {tasks} tasks cannot be ranked over tasks")
    means = ranks.mean(axis=0)
    drawn = np.random.default_rng(seed).integers(0, tasks, (DRAWS, tasks))
    low, high = np.quantile(ranks[drawn].mean(axis=1), (0.025, 0.975), axis=0)
    order = sorted(range(count), key=lambda i: (means[i], names[i]))

    def sort(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(values[i]) for i in order)

    best_first = tuple(names[i] for i in order)
    p, critical = friedman(ranks), nemenyi(count, tasks)
    return Ranking(best_first, sort(means), sort(low), sort(high), tasks, p, critical)


def friedman(ranks: np.ndarray) -> float:
    """The p value of "all are equally good" for ranks (tasks, names); 1 without any spread.

    By Iman and Davenport's F, with the correction for shared ranks.
    """
    tasks, count = ranks.shape
    within = stats.rankdata(ranks, axis=1)
    spread = ((within.mean(axis=0) - (count + 1) / 2) ** 2).sum()
    total = ((within - (count + 1) / 2) ** 2).sum() / (tasks * (count - 1))  # with ties it is less
    if total == 0:
        return 1.0
    chi = tasks * spread / total
    rest = tasks * (count - 1) - chi
    if rest <= 1e-9:  # every task ranks alike
        return 0.0
    f = (tasks - 1) * chi / rest
    return float(stats.f.sf(f, count - 1, (count - 1) * (tasks - 1)))


def nemenyi(count: int, tasks: int, alpha: float = 0.05) -> float:
    """Difference of mean ranks over `tasks` tasks that two of `count` methods need to differ."""
    q = stats.studentized_range.ppf(1 - alpha, count, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(count * (count + 1) / (6 * tasks)))
