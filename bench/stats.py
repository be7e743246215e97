"""Statistics for a handful of seeds: t intervals, paired differences, ties, seeds needed.

With fewer than eight seeds a bootstrap over seeds is far too narrow, so means and differences carry
Student-t intervals. What cannot be tested (one seed) is nan, never zero. Pure numpy and scipy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

Seeds = Mapping[int, float]
"""One value per seed."""


class Interval(NamedTuple):
    """A mean over `n` values and its two-sided interval; the bounds are nan when n < 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half of the interval's width; nan when n < 2."""
        return (self.high - self.low) / 2


class Paired(NamedTuple):
    """The per-seed differences a - b over `n` shared seeds: mean, t interval, two-sided p, sd."""

    difference: float
    low: float
    high: float
    p: float
    sd: float
    n: int

    @property
    def half(self) -> float:
        """Half of the interval's width; nan when n < 2."""
        return (self.high - self.low) / 2


def mean(values: Iterable[float], level: float = 0.95) -> Interval:
    """Mean and Student-t interval of the values; nan values (a failed run) do not count."""
    x = np.asarray(list(values), dtype=float)
    x = x[~np.isnan(x)]
    n = len(x)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    centre = float(x.mean())
    if n == 1:
        return Interval(centre, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * x.std(ddof=1) / math.sqrt(n))
    return Interval(centre, centre - half, centre + half, n)


def paired(a: Seeds, b: Seeds, level: float = 0.95, resolution: float = 0.0) -> Paired:
    """Paired t comparison over the seeds that both have.

    Without any spread p is 1 (equal) or 0 (not equal). `resolution` is the step of the values (1 /
    test samples for an accuracy). Accuracies are counts: with three seeds all differences are often
    the *same* count, and a spread of zero would make one image significant. The sd is therefore
    never taken below that of the rounding of a difference, resolution / sqrt(6).
    """
    shared = sorted(set(a) & set(b))
    differences = np.asarray([a[seed] - b[seed] for seed in shared], dtype=float)
    interval = mean(differences, level)
    if interval.n < 2:
        return Paired(interval.mean, math.nan, math.nan, math.nan, math.nan, interval.n)
    spread = max(float(np.nanstd(differences, ddof=1)), resolution / math.sqrt(6))
    if spread > 1e-12 * max(1.0, abs(interval.mean)):
        t = interval.mean / (spread / math.sqrt(interval.n))
        p = float(2 * stats.t.sf(abs(t), interval.n - 1))
    else:
        p = 1.0 if abs(interval.mean) < 1e-12 else 0.0
    half = float(stats.t.ppf((1 + level) / 2, interval.n - 1) * spread / math.sqrt(interval.n))
    return Paired(interval.mean, interval.mean - half, interval.mean + half, p, spread, interval.n)


def moderated(pairs: Sequence[Paired]) -> list[float]:
    """Two-sided p values of many comparisons whose variances inform each other; nan stays.

    With two or three seeds a variance of its own says little: t needs a gap of ten deviations. Over
    many pairs the variances scatter around a common one, and how widely they do says how much to
    trust each (Smyth, 2004, "limma": an inverse chi-square prior with d0 degrees of freedom around
    s0^2, both from the moments of log s^2). The test is Student's with (d0 s0^2 + d s^2) / (d0 + d)
    over d0 + d degrees of freedom. With fewer than `ENOUGH` pairs, or without any spread, each
    stays on its own.
    """
    known = [i for i, one in enumerate(pairs) if one.n > 1 and one.sd > 0]
    found = [one.p for one in pairs]
    if len(known) < ENOUGH:
        return found
    d = np.array([pairs[i].n - 1.0 for i in known])
    s2 = np.array([pairs[i].sd ** 2 for i in known])
    n = d + 1
    d0, s02 = prior(s2, d)
    spread = (d0 * s02 + d * s2) / (d0 + d) if math.isfinite(d0) else np.full(len(s2), s02)
    t = np.array([pairs[i].difference for i in known]) / np.sqrt(spread / n)
    for i, p in zip(known, 2 * stats.t.sf(np.abs(t), np.minimum(d0 + d, 1e9)), strict=True):
        found[i] = float(p)
    return found


ENOUGH = 10
"""Pairs: those of five variants."""


def prior(s2: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """d0 and s0^2 of variances `s2` with `d` degrees of freedom; d0 is infinite if all are one."""
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    wider = float(e.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if wider <= 0:
        return math.inf, math.exp(e.mean())
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - wider, 1e-6, 1e9)
    return 2 * half, math.exp(e.mean() + float(special.digamma(half)) - math.log(half))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order; nan (not testable) stays, uncounted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else []
    return [float(value) for value in adjusted]


def tie_groups(
    values: Mapping[str, Seeds], alpha: float = 0.05, resolution: float = 0.0
) -> list[tuple[str, ...]]:
    """Groups of variants, best first: the first is a confidence set for the best of all.

    A variant stays out of the set if some other one beats it, paired by seed, with variances
    moderated over all pairs (`moderated`), at `alpha` over the k - 1 others that it is compared to
    (Bonferroni). So each variant that is as good as the best is
    left out with probability `alpha` at most, although the best was not known beforehand. (All
    pairs corrected together would also bound the chance of leaving out *any*, but three seeds then
    resolve next to nothing.) The second group is made the same way from those that the first left
    over, and so on. Higher is better. `resolution`: see `paired`. A pair with fewer than two shared
    seeds cannot be told apart. Variants without any value are left out.
    """
    means = {name: mean(seeds.values()).mean for name, seeds in values.items()}
    left = sorted(
        (name for name in means if not math.isnan(means[name])),
        key=lambda name: (-means[name], name),
    )
    groups = []
    while left:
        rivals = len(left) - 1
        sides = list(itertools.combinations(left, 2))
        found = [paired(values[a], values[b], resolution=resolution) for a, b in sides]
        beaten = {
            b if one.difference > 0 else a
            for (a, b), one, p in zip(sides, found, moderated(found), strict=True)
            if one.difference and p * rivals < alpha
        }
        beaten.discard(left[0])  # seeds that some lack could turn the order of the means around
        groups.append(tuple(name for name in left if name not in beaten))
        left = [name for name in left if name in beaten]
    return groups


def power(gap: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Chance that a paired t test over `n` seeds sees a true `gap`; `sd`: of the differences."""
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    shift = abs(gap) / sd * math.sqrt(n)
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def seeds_needed(
    gap: float, sd: float, target: float = 0.8, alpha: float = 0.05, limit: int = 10_000
) -> int | None:
    """Fewest seeds that resolve `gap` with that power; None without a gap, or above `limit`."""
    if not (abs(gap) > 0 and math.isfinite(gap) and math.isfinite(sd)):
        return None
    if sd <= 0 or abs(gap) / sd > 30:
        return 2
    low, high = 2, 2
    while power(gap, sd, high, alpha) < target:
        low, high = high, 2 * high
        if low > limit:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, sd, middle, alpha) >= target else (middle + 1, high)
    return high if high <= limit else None


def interpolate(densities: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Value of a curve at density `target`, linear in log density; None outside of its range.

    Never extrapolates. Points without a value are skipped; points of equal density are averaged.
    """
    x, y = np.asarray(densities, dtype=float), np.asarray(values, dtype=float)
    seen = ~np.isnan(y) & (x > 0)
    x, y = x[seen], y[seen]
    if not len(x) or not x.min() <= target <= x.max():
        return None
    levels = np.unique(x)
    heights = [y[x == level].mean() for level in levels]
    return float(np.interp(math.log(target), np.log(levels), heights))
