"""Trajectories of the wave equation: what is drawn, how it is solved, what is kept, and its cost.

One trajectory has one speed and one source position. The solver's grid is finer than the frames',
and each frame is the field at the nodes that both have.

The solver is the bilinear element with the blended mass and Newmark's beta = 1/12, whose phase is
right to order four in space and time. Against the exact solution (`bench.wave.exact.error`, ten
test trajectories) the frames have these relative L2 errors:

                     mean     worst frame   consistent mass, beta 1/4, mean
    wave32           0.04 %   0.13 %        1.4 %
    wave32_neumann   0.04 %   0.11 %        1.4 %
    wave32_ricker    0.18 %   0.33 %        1.9 %
    wave64           0.01 %   0.04 %        0.8 %
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from bench import rng
from bench.wave.fem import Boundary, Element, Mass, Newmark, System, assemble, point_load

VERSION = 1
"""Raised whenever a trajectory changes by more than rounding."""

SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}
"""Fraction of the trajectories in each split."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a data set of trajectories; lengths and times have no unit."""

    nodes: int
    """Height and width of a frame."""
    refine: int
    """Intervals of the solver's grid per interval of the frames'."""
    boundary: Boundary = "dirichlet"
    excitation: Literal["bump", "ricker"] = "bump"
    """bump: u(0) = exp(-|x - x0|^2 / (2 size^2)), at rest. ricker: at rest and flat, with
    f = c^2 r(t) delta(x - x0), r a Ricker wavelet of peak frequency c / size, delayed by 1.5
    periods; the first frame is 3 periods in or just after: |r| < 1e-8 there."""
    size: float = 0.05
    """bump: its standard deviation; ricker: the wavelength at the peak frequency."""
    trajectories: int = 200
    frames: int = 50
    interval: float = 0.03
    """Time between frames."""
    speed: tuple[float, float] = (0.5, 1.5)
    """Range of c."""
    source: tuple[float, float] = (0.2, 0.8)
    """Range of both coordinates of x0."""
    courant: float = 0.7
    """Largest c dt / h: the steps per frame are the fewest that keep to it. Newmark with
    beta = 1/12 on the blended Q1 is stable below 1 / sqrt(2)."""
    element: Element = "Q1"
    mass: Mass = "blended"
    beta: float = 1 / 12

    @property
    def intervals(self) -> int:
        """Of the solver's grid along an edge."""
        return (self.nodes - 1) * self.refine

    def steps(self, speed: float) -> int:
        """Time steps from one frame to the next."""
        return math.ceil(speed * self.interval * self.intervals / self.courant)

    def delay(self, speed: float) -> float:
        """When the source peaks; the bump has none, and 0 here."""
        return 1.5 * self.size / speed if self.excitation == "ricker" else 0.0

    def first(self, speed: float) -> int:
        """Which multiple of the interval the first frame is at: once the source has faded."""
        return math.ceil(2 * self.delay(speed) / self.interval)


RECIPES = {
    "wave32": Recipe(nodes=32, refine=3),
    "wave32_neumann": Recipe(nodes=32, refine=3, boundary="neumann"),
    "wave32_ricker": Recipe(nodes=32, refine=3, excitation="ricker", size=0.3),
    "wave64": Recipe(nodes=64, refine=2),
}
"""The data sets; all have the same speeds, positions and split, so pairs differ in one thing."""


def draw(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(speeds `(T,)`, source positions (x, y) `(T, 2)`), float64, uniform, with six decimals."""
    count = recipe.trajectories
    speeds = _stream("speed").uniform(*recipe.speed, count)
    sources = _stream("source").uniform(*recipe.source, (count, 2))
    return speeds.round(6), sources.round(6)  # rounded: fused multiply-adds differ in the last bit


def split(count: int) -> dict[str, np.ndarray]:
    """Which of `count` trajectories each split has: sorted int64 indices, disjoint, all of them."""
    order = _stream("split").permutation(count)
    ends = np.rint(np.cumsum([*SPLITS.values()]) * count).astype(int)
    return dict(zip(SPLITS, map(np.sort, np.split(order, ends[:-1])), strict=True))


def _stream(purpose: str) -> np.random.RandomState:
    # RandomState, since numpy promises that its streams never change; newer generators may.
    seed = rng.seed(purpose, "wave")
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])


def simulate(recipe: Recipe, speed: float, source: np.ndarray) -> np.ndarray:
    """The frames of one trajectory, float32 `(frames, nodes, nodes)`; `source` is (x, y)."""
    frames = np.stack([*march(recipe, solver(recipe, speed), source)]).astype(np.float32)
    # A Gaussian's tail is denormal in float32: slow, and other bits where denormals are flushed.
    frames[np.abs(frames) < 1e-20] = 0
    return frames


def solver(recipe: Recipe, speed: float) -> Newmark:
    """The factorised solver of one speed."""
    dt = recipe.interval / recipe.steps(speed)
    return Newmark(system(recipe), speed, dt, recipe.beta)


def system(recipe: Recipe) -> System:
    """The matrices of the recipe's grid; kept, since all trajectories share them."""
    return _system(recipe.intervals, recipe.element, recipe.boundary, recipe.mass)


_system = lru_cache(maxsize=4)(assemble)


def march(recipe: Recipe, newmark: Newmark, source: np.ndarray) -> Iterator[np.ndarray]:
    """The frames in float64, each `(nodes, nodes)`, one after the other as they are reached."""
    side, every, steps = newmark.system.side, recipe.refine, recipe.steps(newmark.speed)
    if recipe.excitation == "bump":
        state = newmark.start(bump(side, source, recipe.size))
    else:
        load = newmark.speed**2 * point_load(recipe.intervals, *source)
        frequency, delay = newmark.speed / recipe.size, recipe.delay(newmark.speed)
        state = newmark.start(np.zeros((side, side)), ricker(-delay, frequency) * load)
        for step in range(1, recipe.first(newmark.speed) * steps + 1):
            state = newmark.step(state, ricker(step * newmark.dt - delay, frequency) * load)
    yield state.u.reshape(side, side)[::every, ::every]
    for _ in range(recipe.frames - 1):
        for _ in range(steps):
            state = newmark.step(state)
        yield state.u.reshape(side, side)[::every, ::every]


def bump(side: int, source: np.ndarray, width: float) -> np.ndarray:
    """exp(-|x - x0|^2 / (2 width^2)) at the nodes, float64 `(side, side)`; `source` is (x, y)."""
    ticks = np.linspace(0, 1, side)
    column, row = (np.exp(-((ticks - z) ** 2) / (2 * width**2)) for z in source)
    return np.outer(row, column)


def ricker(t: float, frequency: float) -> float:
    """Ricker's wavelet (1 - 2 a) exp(-a), a = (pi f t)^2: at its peak 1, with integral 0."""
    a = (math.pi * frequency * t) ** 2
    return (1 - 2 * a) * math.exp(-a)


@dataclass(frozen=True)
class Seconds:
    """Wall time of the solver in one thread: means over `count` trajectories, best of `repeats`."""

    assemble: float
    """Matrices, once for all trajectories."""
    factorise: float
    """The sparse LU of one speed."""
    trajectory: float
    """From the initial state to the last frame, factorised before."""
    frame: float
    """From one frame to the next."""
    steps: float
    """Time steps from one frame to the next."""
    count: int
    repeats: int


def solver_seconds(recipe: Recipe, count: int = 5, repeats: int = 3) -> Seconds:
    """Time the solver, now and on this machine, on the first `count` test trajectories.

    A network is compared to this fairly only at the same error: `dataclasses.replace(recipe,
    refine=1)` and so on give cheaper solvers, and `bench.wave.exact.error` their errors.
    """
    from threadpoolctl import threadpool_limits

    speeds, sources = draw(recipe)
    chosen = split(recipe.trajectories)["test"][:count]
    with threadpool_limits(1):
        start = time.perf_counter()
        grid = assemble(recipe.intervals, recipe.element, recipe.boundary, recipe.mass)
        assembled = time.perf_counter() - start
        system(recipe).solve_mass(np.zeros(len(grid.free)))  # shared by all, so not counted below
        times = np.array(
            [
                np.min([_timed(recipe, speeds[i], sources[i]) for _ in range(repeats)], axis=0)
                for i in chosen
            ]
        )
    factorise, first, rest = times.mean(axis=0).tolist()
    steps = float(np.mean([recipe.steps(speeds[i]) for i in chosen]))
    frame = rest / (recipe.frames - 1)
    return Seconds(assembled, factorise, first + rest, frame, steps, len(chosen), repeats)


def _timed(recipe: Recipe, speed: float, source: np.ndarray) -> tuple[float, float, float]:
    """Seconds to (factorise, reach the first frame, go from there to the last)."""
    clock = [time.perf_counter()]
    newmark = solver(recipe, speed)
    clock.append(time.perf_counter())
    frames = march(recipe, newmark, source)
    next(frames)
    clock.append(time.perf_counter())
    for _ in frames:
        pass
    clock.append(time.perf_counter())
    factorise, first, rest = np.diff(clock).tolist()
    return factorise, first, rest
