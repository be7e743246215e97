"""The wave equation u_tt - c^2 (u_xx + u_yy) = f on the unit square: finite elements and Newmark.

A field is an image: `u[i, j]` is the value at x = j/n, y = i/n, so rows go with y, row 0 is y = 0,
and a grid of n x n squares has (n + 1) x (n + 1) nodes. P1 cuts every square into two triangles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags_array
from scipy.sparse.linalg import splu

Element = Literal["P1", "Q1"]
Boundary = Literal["dirichlet", "neumann"]
Mass = Literal["consistent", "lumped", "blended"]


@dataclass(frozen=True, eq=False)
class System:
    """Mass and stiffness over the flattened image, `(N, N)` with N = (n + 1)^2, none removed.

    `free`: int64, the nodes that are not held at zero.
    """

    intervals: int
    mass: csr_matrix
    stiffness: csr_matrix
    free: np.ndarray

    @property
    def side(self) -> int:
        """Nodes along an edge."""
        return self.intervals + 1

    @cached_property
    def solve_mass(self) -> Callable[[np.ndarray], np.ndarray]:
        """Solve with the mass of the free nodes, which no speed and no step enters."""
        return _solver(self.mass[self.free][:, self.free])


def assemble(
    intervals: int,
    element: Element = "Q1",
    boundary: Boundary = "dirichlet",
    mass: Mass = "consistent",
) -> System:
    """The matrices of a square of `intervals` x `intervals` squares.

    `blended` (Q1 only) integrates mass and stiffness at (1 +- sqrt(2/3)) / 2 in place of Gauss's
    (1 +- sqrt(1/3)) / 2 in each direction: halfway between the consistent and the lumped mass, with
    a dispersion error of order h^4 in place of h^2 (Ainsworth and Wajid, SIAM J. Numer. Anal. 2010,
    for p = 1). `lumped` sums the rows of the consistent mass.

    Raises:
        ValueError: an unknown word, a blended P1, or fewer than two intervals.
    """
    for word, known in ((element, Element), (boundary, Boundary), (mass, Mass)):
        if word not in get_args(known):
            raise ValueError(f"{word!r} is none of {', '.join(get_args(known))}")
    if intervals < 2:
        raise ValueError(f"intervals is {intervals}; it must be at least 2")
    if mass == "blended" and element != "Q1":
        raise ValueError("the blended mass is a product rule on squares: it needs Q1")
    inertia, stiffness = _matrices(intervals, element, mass == "blended")
    if mass == "lumped":
        inertia = csr_matrix(diags_array(np.asarray(inertia.sum(axis=1)).ravel()))
    inner = np.ones((intervals + 1, intervals + 1), dtype=bool)
    if boundary == "dirichlet":
        inner[[0, -1]] = inner[:, [0, -1]] = False
    return System(intervals, inertia, stiffness, np.flatnonzero(inner))


def _matrices(intervals: int, element: Element, blended: bool) -> tuple[csr_matrix, csr_matrix]:
    """(mass, stiffness) with the nodes in the order of the flattened image."""
    from skfem import Basis, ElementQuad1, ElementTriP1, MeshQuad, MeshTri
    from skfem.models.poisson import laplace
    from skfem.models.poisson import mass as identity

    ticks = np.linspace(0, 1, intervals + 1)
    mesh = (MeshTri if element == "P1" else MeshQuad).init_tensor(ticks, ticks)
    rule = None
    if blended:
        points = (1 + np.sqrt(2 / 3) * np.array([-1, 1])) / 2
        rule = (np.stack(np.meshgrid(points, points)).reshape(2, 4), np.full(4, 0.25))
    basis = Basis(mesh, ElementTriP1() if element == "P1" else ElementQuad1(), quadrature=rule)
    column, row = np.rint(mesh.p * intervals).astype(np.int64)
    order = np.argsort(row * (intervals + 1) + column)
    nodes = basis.nodal_dofs[0][order]
    matrices = (form.assemble(basis).tocsr()[nodes][:, nodes] for form in (identity, laplace))
    mass, stiffness = matrices
    return csr_matrix(mass), csr_matrix(stiffness)


def _solver(matrix: csr_matrix) -> Callable[[np.ndarray], np.ndarray]:
    """Solve with a symmetric positive definite matrix: no pivoting, symmetric fill-in."""
    return splu(
        csc_matrix(matrix),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    ).solve


def point_load(intervals: int, x: float, y: float) -> np.ndarray:
    """The load `(N,)` of a unit point source at (x, y) in the square, for Q1: its shape functions.

    Raises:
        ValueError: the point is outside.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"the source is at ({x:g}, {y:g}), outside the unit square")
    ticks = np.arange(intervals + 1)
    row, column = (np.maximum(0, 1 - np.abs(z * intervals - ticks)) for z in (y, x))
    return np.outer(row, column).ravel()


@dataclass(frozen=True, eq=False)
class State:
    """Displacement, velocity and acceleration of all nodes, float64 `(N,)` each."""

    u: np.ndarray
    v: np.ndarray
    a: np.ndarray


class Newmark:
    """Newmark's method for one grid, speed and step, with one sparse LU.

    (beta, gamma) = (1/4, 1/2) is stable at any step, (1/12, 1/2) is of order dt^4 in phase (Fox and
    Goodwin 1949) and stable up to omega dt = sqrt(6) for the largest eigenfrequency omega.
    """

    def __init__(
        self, system: System, speed: float, dt: float, beta: float = 1 / 4, gamma: float = 1 / 2
    ) -> None:
        self.system, self.speed, self.dt, self.beta, self.gamma = system, speed, dt, beta, gamma
        free = system.free
        self._stiffness = (speed**2 * system.stiffness[free][:, free]).tocsr()
        self._solve = _solver(system.mass[free][:, free] + beta * dt**2 * self._stiffness)

    def start(self, u: np.ndarray, force: np.ndarray | None = None) -> State:
        """The state at rest with displacement `u` (side, side), under the load `force` (N,)."""
        free = self.system.free
        inner = u.ravel()[free].astype(np.float64)
        load = -self._stiffness @ inner
        if force is not None:
            load += force[free]
        return self._full(inner, np.zeros(len(free)), self.system.solve_mass(load))

    def step(self, state: State, force: np.ndarray | None = None) -> State:
        """The state `dt` later; `force` (N,) is the load vector of f at that later time."""
        free, dt, beta, gamma = self.system.free, self.dt, self.beta, self.gamma
        a = state.a[free]
        u = state.u[free] + dt * state.v[free] + dt**2 * (0.5 - beta) * a
        v = state.v[free] + dt * (1 - gamma) * a
        load = -self._stiffness @ u
        if force is not None:
            load += force[free]
        a = self._solve(load)
        return self._full(u + beta * dt**2 * a, v + gamma * dt * a, a)

    def energy(self, state: State) -> float:
        """1/2 v'Mv + c^2/2 u'Ku + (beta - 1/4) dt^2/2 a'Ma.

        Without a source and with gamma = 1/2 every step conserves it; with beta = 1/4 it is the
        energy of the finite-element model itself (Krenk, Comput. Methods Appl. Mech. Eng. 2006).
        """
        mass, stiffness = self.system.mass, self.system.stiffness
        kinetic = state.v @ (mass @ state.v)
        potential = self.speed**2 * (state.u @ (stiffness @ state.u))
        extra = (self.beta - 0.25) * self.dt**2 * (state.a @ (mass @ state.a))
        return float(kinetic + potential + extra) / 2

    def _full(self, *inner: np.ndarray) -> State:
        full = np.zeros((3, self.system.mass.shape[0]))
        full[:, self.system.free] = inner
        return State(*full)
