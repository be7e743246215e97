"""The exact solution on the square by separation of variables: what the solver's error is against.

u(x, y, t) = sum over k, l of q_kl(t) p_k(x) p_l(y), with p_k(x) = sin(k pi x) under Dirichlet's and
cos(k pi x) under Neumann's condition, and q_kl'' + w^2 q_kl = f_kl, w = c pi sqrt(k^2 + l^2).
"""

from __future__ import annotations

import numpy as np

from bench.wave.trajectories import Recipe, draw, march, solver, split

MODES = 96
"""Per direction; the spectra of the recipes' bump and wavelet are below 1e-12 of their largest
value from mode 48 on. What is cut off is the jump of 3e-4 at most where the edge cuts a bump."""


def frames(recipe: Recipe, speed: float, source: np.ndarray) -> np.ndarray:
    """What `march` approximates, float64 `(frames, nodes, nodes)`; `source` is (x, y).

    The bump's coefficients are integrals by the trapezoidal rule over 4,096 intervals. After a
    Ricker wavelet with transform R, q = c^2 f_kl (R(w) / w) sin(w (t - delay)), by Duhamel.
    """
    sine = recipe.boundary == "dirichlet"
    number = np.arange(MODES) + sine
    norm = np.where(number == 0, 1, 2)  # 1 / the integral of p_k^2

    def modes(x: np.ndarray) -> np.ndarray:
        return (np.sin if sine else np.cos)(np.pi * np.outer(x, number))

    omega = speed * np.pi * np.hypot(number[:, None], number)
    times = recipe.interval * (recipe.first(speed) + np.arange(recipe.frames))
    if recipe.excitation == "bump":
        fine = np.linspace(0, 1, 4097)
        weights = np.r_[0.5, np.ones(4095), 0.5] / 4096
        profiles = [np.exp(-((fine - z) ** 2) / (2 * recipe.size**2)) * weights for z in source]
        x, y = (norm * (p @ modes(fine)) for p in profiles)
        motion = [np.cos(omega * t) for t in times]
    else:
        x, y = (norm * modes(np.array([z]))[0] for z in source)
        rate = np.pi * speed / recipe.size
        transform = omega * np.sqrt(np.pi) / (2 * rate**3) * np.exp(-((omega / (2 * rate)) ** 2))
        motion = [speed**2 * transform * np.sin(omega * (t - recipe.delay(speed))) for t in times]
    nodes = modes(np.linspace(0, 1, recipe.nodes))
    return np.stack([nodes @ (np.outer(y, x) * m) @ nodes.T for m in motion])


def error(recipe: Recipe, count: int = 10) -> np.ndarray:
    """||u_fem - u|| / ||u|| of each frame of the first `count` test trajectories.

    Float64 `(count, frames)`; norms are over the nodes of a frame.
    """
    speeds, sources = draw(recipe)
    found = []
    for i in split(recipe.trajectories)["test"][:count]:
        ours = np.stack([*march(recipe, solver(recipe, speeds[i]), sources[i])])
        right = frames(recipe, speeds[i], sources[i])
        found.append(np.sqrt(((ours - right) ** 2).sum((1, 2)) / (right**2).sum((1, 2))))
    return np.array(found)
