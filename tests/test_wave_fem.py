"""The finite-element solver: conservation, convergence, symmetry, sources, and the exact series."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.wave import exact
from bench.wave.fem import Newmark, assemble, point_load
from bench.wave.trajectories import RECIPES, bump, march, ricker, solver

ELEMENTS = ("P1", "Q1")
BOUNDARIES = ("dirichlet", "neumann")
ORDER_FOUR = {"element": "Q1", "mass": "blended"}


def grid(intervals: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every node, as images."""
    ticks = np.arange(intervals + 1) / intervals
    return np.broadcast_to(ticks, (len(ticks),) * 2), np.broadcast_to(
        ticks[:, None], (len(ticks),) * 2
    )


def off_centre(intervals: int) -> np.ndarray:
    return bump(intervals + 1, np.array([0.35, 0.6]), 0.1)


def go(newmark: Newmark, u: np.ndarray, steps: int):
    state = newmark.start(u)
    for _ in range(steps):
        state = newmark.step(state)
    return state


@pytest.mark.parametrize(
    ("kind", "mass", "stiffness"),
    [
        ({"element": "P1"}, 1 / 2, 4),
        ({"element": "Q1"}, 4 / 9, 8 / 3),
        ({"element": "Q1", "mass": "lumped"}, 1, 8 / 3),
        (ORDER_FOUR, 25 / 36, 10 / 3),
    ],
)
def test_matrices_have_their_golden_diagonals_and_integrate_constants(kind, mass, stiffness):
    system = assemble(4, **kind)
    centre, ones = 12, np.ones(25)
    assert system.mass[centre, centre] == pytest.approx(mass / 16)
    assert system.stiffness[centre, centre] == pytest.approx(stiffness)
    assert ones @ (system.mass @ ones) == pytest.approx(1)
    assert abs(system.stiffness @ ones).max() < 1e-13
    x, y = (z.ravel() for z in grid(4))
    for z in (x, y):  # the gradient of a linear field has length one
        assert z @ (system.stiffness @ z) == pytest.approx(1)
    assert abs(x @ (system.stiffness @ y)) < 1e-13


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_trapezoidal_newmark_conserves_the_energy(element, boundary):
    newmark = Newmark(assemble(20, element, boundary), speed=1.3, dt=0.02)
    state = newmark.start(off_centre(20))
    energies = [newmark.energy(state)]
    for _ in range(300):
        state = newmark.step(state)
        energies.append(newmark.energy(state))
    assert energies[0] > 0.1
    assert np.ptp(energies) < 1e-6 * energies[0]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_fox_goodwin_conserves_its_own_energy_near_its_limit(boundary):
    system = assemble(20, boundary=boundary, **ORDER_FOUR)
    newmark = Newmark(system, speed=1.3, dt=0.7 / 20 / 1.3, beta=1 / 12)
    u = off_centre(20)
    first, last = newmark.energy(newmark.start(u)), newmark.energy(go(newmark, u, 300))
    assert last == pytest.approx(first, rel=1e-6)


def test_damped_newmark_loses_energy():
    newmark = Newmark(assemble(20), speed=1.0, dt=0.02, beta=0.3025, gamma=0.6)
    u = off_centre(20)
    assert newmark.energy(go(newmark, u, 300)) < 0.9 * newmark.energy(newmark.start(u))


def standing_error(intervals: int, boundary: str, beta: float, **kind) -> float:
    """L2 norm of the error against cos(c pi sqrt(2) t) p(x) p(y), dt halved with h."""
    speed, end = 0.9, 0.8
    newmark = Newmark(assemble(intervals, boundary=boundary, **kind), speed, 0.4 / intervals, beta)
    p = np.sin if boundary == "dirichlet" else np.cos
    x, y = grid(intervals)
    shape = p(np.pi * x) * p(np.pi * y)
    state = go(newmark, shape, round(end / newmark.dt))
    wrong = state.u - (math.cos(speed * math.pi * math.sqrt(2) * end) * shape).ravel()
    return math.sqrt(wrong @ (newmark.system.mass @ wrong))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("kind", "beta", "order"),
    [({"element": "P1"}, 0.25, 2), ({"element": "Q1"}, 0.25, 2), (ORDER_FOUR, 1 / 12, 4)],
)
def test_a_standing_wave_converges_at_the_order_of_the_scheme(kind, beta, order, boundary):
    errors = [standing_error(n, boundary, beta, **kind) for n in (8, 16, 32)]
    observed = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (abs(observed - order) < 0.2).all(), observed


def test_a_central_bump_keeps_every_symmetry_of_the_square():
    u = bump(25, np.array([0.5, 0.5]), 0.08)
    for boundary in BOUNDARIES:
        field = go(Newmark(assemble(24, boundary=boundary), 1.0, 0.02), u, 60).u.reshape(25, 25)
        assert abs(field).max() > 0.1
        for other in (field.T, field[::-1], field[:, ::-1]):
            np.testing.assert_allclose(field, other, atol=1e-12)


@pytest.mark.parametrize("element", ELEMENTS)
def test_only_dirichlet_holds_the_edge_at_zero(element):
    for boundary in BOUNDARIES:
        field = go(Newmark(assemble(16, element, boundary), 1.0, 0.02), off_centre(16), 40).u
        edge = np.r_[
            field.reshape(17, 17)[[0, -1]].ravel(), field.reshape(17, 17)[:, [0, -1]].ravel()
        ]
        assert (edge == 0).all() if boundary == "dirichlet" else abs(edge).max() > 0.05


def test_the_trapezoidal_rule_is_stable_at_any_step_and_fox_goodwin_is_not():
    u, system = off_centre(16), assemble(16, **ORDER_FOUR)
    dt = 40 / 16
    calm = go(Newmark(system, 1.0, dt), u, 500)
    assert abs(calm.u).max() < 10
    assert Newmark(system, 1.0, dt).energy(calm) == pytest.approx(
        Newmark(system, 1.0, dt).energy(Newmark(system, 1.0, dt).start(u)), rel=1e-6
    )
    for courant, grows in ((0.7, False), (0.72, True)):  # the limit is 1 / sqrt(2)
        state = go(Newmark(system, 1.0, courant / 16, beta=1 / 12), u, 600)
        assert (abs(state.u).max() > 1e3) == grows


def test_a_point_load_is_the_value_of_the_shape_functions():
    from skfem import Basis, ElementQuad1, MeshQuad

    ticks = np.linspace(0, 1, 6)
    basis = Basis(MeshQuad.init_tensor(ticks, ticks), ElementQuad1())
    x, y = 0.73, 0.11
    probed = np.zeros((6, 6))
    column, row = np.rint(basis.doflocs * 5).astype(int)
    probed[row, column] = basis.probes(np.array([[x], [y]])).toarray()[0]
    np.testing.assert_allclose(point_load(5, x, y).reshape(6, 6), probed, atol=1e-14)
    assert point_load(5, 0.4, 0.6).reshape(6, 6)[3, 2] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"\(1.2, 0.5\), outside"):
        point_load(5, 1.2, 0.5)


def test_a_ricker_source_moves_the_mean_by_its_double_integral():
    """Under Neumann's condition: mean'' = c^2 r, whose solution is -c^2 exp(-a) / (2 pi^2 f^2)."""
    frequency, delay, speed, dt = 2.0, 0.75, 1.3, 0.01
    newmark = Newmark(assemble(10, boundary="neumann"), speed, dt, beta=1 / 12)
    load, ones = speed**2 * point_load(10, 0.33, 0.71), np.ones(121)
    state = newmark.start(np.zeros((11, 11)), ricker(-delay, frequency) * load)
    peak = speed**2 / (2 * (math.pi * frequency) ** 2)
    for step in range(1, 151):
        t = step * dt - delay
        state = newmark.step(state, ricker(t, frequency) * load)
        mean = ones @ (newmark.system.mass @ state.u)
        assert mean == pytest.approx(
            -peak * math.exp(-((math.pi * frequency * t) ** 2)), abs=1e-4 * peak
        )
    assert ricker(0, frequency) == 1
    assert abs(ricker(delay, frequency)) < 1e-7


def test_the_exact_series_starts_from_the_bump():
    for name in ("wave32", "wave32_neumann"):
        source = np.array([0.25, 0.7])
        series = exact.frames(replace(RECIPES[name], frames=1), 1.0, source)[0]
        np.testing.assert_allclose(
            series[1:-1, 1:-1], bump(32, source, 0.05)[1:-1, 1:-1], atol=1e-4
        )


@pytest.mark.parametrize(
    ("name", "mean"), [("wave32", 1e-3), ("wave32_neumann", 1e-3), ("wave32_ricker", 3e-3)]
)
def test_frames_are_near_the_exact_solution_and_nearer_than_second_order(name, mean):
    recipe = RECIPES[name]
    ours = exact.error(recipe, count=2)
    assert ours.shape == (2, 50)
    assert ours.mean() < mean
    assert exact.error(replace(recipe, mass="consistent", beta=1 / 4), count=2).mean() > 5 * mean


def test_the_frames_grid_holds_the_bump():
    """Trigonometric interpolation from the 32 x 32 nodes gives the field on the solver's nodes."""
    recipe, source = RECIPES["wave32"], np.array([0.41, 0.57])
    modes = np.arange(1, 31)
    coarse, fine = (np.sin(np.pi * np.outer(np.arange(n + 1) / n, modes)) for n in (31, 93))
    newmark = solver(recipe, 1.2)
    for u, frame in (
        (bump(94, source, 0.05), bump(32, source, 0.05)),
        (
            go(newmark, bump(94, source, 0.05), 3 * recipe.steps(1.2)).u.reshape(94, 94),
            [*march(replace(recipe, frames=4), newmark, source)][3],
        ),
    ):
        both = fine @ np.linalg.pinv(coarse)
        assert np.linalg.norm(both @ frame @ both.T - u) < 1e-3 * np.linalg.norm(u)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"intervals": 1}, "intervals is 1"),
        ({"element": "P2"}, "'P2' is none of P1, Q1"),
        ({"boundary": "open"}, "'open' is none of dirichlet, neumann"),
        ({"element": "P1", "mass": "blended"}, "needs Q1"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        assemble(**{"intervals": 4, **wrong})
