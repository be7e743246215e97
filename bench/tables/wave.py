"""Surrogates of a simulator: size, error as they are rolled out, time beside the simulator's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import stats
from bench.tables import speed
from bench.tables.cells import GROUP, cells, finished
from bench.tables.render import Block, line
from bench.tables.texts import digits

if TYPE_CHECKING:
    import pandas as pd

STEPS = (5, 10, 20)
COLUMNS = (
    *GROUP, "variant", "target_density", "block", "n", "density", "parameters", "nonzeros",
    "effective_macs", "bytes", "relative_l2", "relative_l2_half",
    *(f"relative_l2_{step}{end}" for step in STEPS for end in ("", "_half")),
    "epoch_seconds", "frame_ms", "frame_path", "frame_setting", "intervals", "runs",
)  # fmt: skip
SOLVER = "finite elements"


def rows(
    points: pd.DataFrame,
    history: pd.DataFrame,
    rollout: pd.DataFrame,
    latency: pd.DataFrame,
    solver: pd.DataFrame,
) -> pd.DataFrame:
    """One row per (data set, net, tier, variant, density), and one per grid of the simulator.

    The nets' errors are against the simulator's frames, the simulator's against the exact solution;
    means over seeds with half of their t interval, over trajectories for the simulator (none). A
    rolled-out error belongs to a stored model, so what is read off a curve has no row. A variant
    whose density is a result has one row, without `target_density`.
    """
    import pandas as pd

    done = finished(points)
    free = done["target_density"].isna() & done["final"].eq(True) & (done["block"] != "dense")
    seeds = pd.concat([cells(points), done[free]], ignore_index=True)
    seeds = seeds[seeds["task"].eq("field") & ~seeds["interpolated"].astype(bool)]
    wide = rollout.pivot(index=["run", "point"], columns="step", values="relative_l2")
    wide = wide.reindex(columns=list(STEPS)).add_prefix("relative_l2_").reset_index()
    seeds = seeds.merge(wide, on=["run", "point"], how="left")
    seconds = epoch_seconds(history)
    table: list[dict[str, Any]] = []
    for group, part in seeds.groupby(GROUP, sort=True):
        place = dict(zip(GROUP, group, strict=True))
        here = latency[latency["dataset"].eq(place["dataset"]) & latency["arch"].eq(place["arch"])]
        here = here[here["batch"] == 1]
        chosen = speed.setting(here)
        for (variant, target), cell in part.groupby(
            ["variant", "target_density"], sort=True, dropna=False
        ):
            row = place | {"variant": variant, "target_density": target} | summary(cell)
            timed = speed.measured(cell, here, chosen)
            row |= {f"frame_{k}": timed[f"latency_{k}"] for k in ("ms", "path", "setting")}
            own = seconds[seconds["run"].isin(cell["run"])]
            table.append(row | {"epoch_seconds": own["seconds"].mean()})
        table += [simulator(place, row) for row in solver.to_dict("records")
                  if row["dataset"] == place["dataset"]]  # fmt: skip
    frame = pd.DataFrame(table, columns=list(COLUMNS))
    order = frame["block"].map({"dense": 0, "method": 1, "control": 2, "solver": 3})
    frame = frame.assign(order=order).sort_values(
        [*GROUP, "order", "variant", "target_density", "intervals"],
        ascending=[True] * 5 + [False, True],
        kind="stable",
    )
    return frame[list(COLUMNS)].reset_index(drop=True)


def epoch_seconds(history: pd.DataFrame) -> pd.DataFrame:
    """Run -> the median of its seconds per epoch, of its own training and not its dense start's."""
    lines = history[history["event"].eq("epoch") & history["epoch"].notna()].copy()
    before = lines.groupby("run")["epoch"].shift(fill_value=0.0)
    lines["seconds"] = lines["seconds"] / (lines["epoch"] - before)
    return lines.groupby("run", as_index=False)["seconds"].median()


def summary(cell: pd.DataFrame) -> dict[str, Any]:
    """The seeds of one variant at one density: means, and half intervals of the errors."""
    row = {
        "block": cell["block"].iloc[0],
        "n": int(cell["relative_l2"].notna().sum()),
        "density": cell["density"].mean(),
        "parameters": cell["parameters"].mean(),
        "nonzeros": cell["nonzeros"].mean(),
        "effective_macs": cell["effective_macs"].mean(),
        "bytes": cell["bits"].mean() / 8,
        "runs": " ".join(cell["run"]),
    }
    for name in ("relative_l2", *(f"relative_l2_{step}" for step in STEPS)):
        found = stats.mean(cell[name].astype("float64"))
        row |= {name: found.mean, f"{name}_half": found.half}
    return row


def simulator(place: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A row of the tidy table `solver` in the columns of this one."""
    errors = ("relative_l2", *(f"relative_l2_{step}" for step in STEPS))
    return (
        place
        | {name: row[name] for name in errors}
        | {
            "variant": SOLVER,
            "block": "solver",
            "n": row["n"],
            "frame_ms": row["frame_ms"],
            "frame_setting": f"{row['device_name']}, float64, {row['threads']} thread",
            "intervals": row["intervals"],
        }
    )


def blocks(table: pd.DataFrame) -> list[Block]:
    """One block per (data set, net, tier); controls are in the CSV only."""
    header = (
        "variant", "density", "parameters", "non-zero", "multiply-adds, M", "KiB",
        "error, 1 step", *(f"{step} steps" for step in STEPS), "s / epoch", "ms / frame",
    )  # fmt: skip
    found = []
    for (dataset, arch, tier), part in table.groupby(GROUP, sort=True):
        shown = part[part["block"] != "control"]
        lines = [line(*texts(row)) for row in shown.to_dict("records")]
        title = f"Surrogates of the simulator of {dataset}, {arch}, {tier} tier"
        found.append(Block(title, header, (("", tuple(lines)),), notes(shown), wide=True))
    return found


def texts(row: dict[str, Any]) -> list[str | None]:
    """The cells of one row."""
    grid, target, density = (row[n] for n in ("intervals", "target_density", "density"))
    result = f"({density:.3g})" if density == density else None
    where = f" ({grid:.0f} x {grid:.0f} squares)" if grid == grid and grid is not None else ""
    counts = [row[name] for name in ("parameters", "nonzeros")]
    return [
        f"{row['variant']}{where}",
        f"{target:g}" if target == target else result,
        *(f"{count:.0f}" if count == count else None for count in counts),
        optional(row["effective_macs"] / 1e6),
        optional(row["bytes"] / 1024),
        error(row, "relative_l2") + f" ({row['n']})",
        *(error(row, f"relative_l2_{step}") for step in STEPS),
        optional(row["epoch_seconds"]),
        optional(row["frame_ms"]),
    ]


def optional(value: float) -> str | None:
    """Three significant digits; none for no number."""
    return digits(value) if value == value else None


def error(row: dict[str, Any], name: str) -> str:
    """`4.31 ± 0.20`, in per cent; beyond 1000 % it says no more than that."""
    value, half = 100 * row[name], 100 * row[f"{name}_half"] if f"{name}_half" in row else None
    if value != value:
        return "–"  # noqa: RUF001
    if value > 1000:
        return "> 1000"
    return digits(value) + (f" ± {digits(half)}" if half is not None and half == half else "")


def notes(shown: pd.DataFrame) -> tuple[str, ...]:
    """What the numbers are, and against what."""
    settings = "; ".join(sorted(set(shown["frame_setting"].dropna()))) or "not measured"
    return (
        "Error: ||prediction - truth|| / ||truth|| over the nodes of a frame, in per cent; mean ± "
        "half of the 95 % t interval over the seeds (n). One step: over all test frames. 5, 10, 20 "
        "steps: fed with its own predictions from the first two frames of each test trajectory.",
        "A net's truth is the frames of the finite elements on the finest grid, theirs is the "
        "exact solution, over n trajectories: a net cannot be better than what it learns from.",
        "Density: requested, or in brackets what the variant gives. KiB: on disk. s / epoch: "
        "median of the run's own epochs. ms / frame: one frame at a time, a net's fastest path, "
        f"the solver's time steps (its matrix factorised before); {settings}.",
    )
