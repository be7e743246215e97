"""Each method against controls with its layer densities: better weights, or only better layers?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import stats
from bench.tables.cells import GROUP, cells, ends
from bench.tables.measures import Measure, measure, named, spelt
from bench.tables.render import Block, line

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *GROUP, "variant", "control", "target_density", "density", "n", "*", "*_control",
    "difference", "half", "low", "high", "p", "p_holm", "verdict", "seeds_needed", "interpolated",
    "runs", "control_runs",
)  # fmt: skip
"""A star stands for each measure of the suite's tasks: `top1`, `relative_l2`."""
RIVAL = "smaller_dense"
"""The method that every other one is compared to: a dense net of its size, trained as long."""


def rows(points: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, control and density: method minus control, paired run by run.

    A control's cell is paired with that of the very run whose layer densities it copies, at the
    same requested density; curves that end above the lowest one are also paired at their ends,
    in a row without `target_density`. Where the suite has smaller dense nets, they are a rival of
    every method, paired by seed. p values are corrected by Holm's method over one variant's rows in
    one (dataset, arch, tier), those against copies and those against the rival apart. Verdict:
    better, worse, tie (not told apart at 5 %), or untested (fewer than two pairs); of an error less
    is better.
    """
    import pandas as pd

    seeds = pd.concat([cells(points), ends(points)], ignore_index=True)
    keep = ["run", "variant", "seed", "value", "interpolated", "density", "test_samples", *GROUP]
    keep += ["task"] if "task" in seeds else []
    names = {"run": "control_run", "method": "control", "value": "value_control"}
    names |= {"like": "run", "interpolated": "read_off"}
    twins = seeds[seeds["like"].notna()].rename(columns=names)[[*names.values(), "target_density"]]
    pairs = twins.merge(seeds[[*keep, "target_density"]], on=["run", "target_density"])
    pairs = pd.concat([pairs, rivals(seeds, keep)], ignore_index=True)
    pairs["interpolated"] |= pairs["read_off"]
    table: list[dict[str, Any]] = []
    apart = (pairs["control"] == RIVAL).rename("apart")
    for _, family in pairs.groupby([*(pairs[key] for key in (*GROUP, "variant")), apart]):
        shown = measure(family)
        tests = family.groupby(["control", "target_density"], dropna=False).ngroups
        found = [
            compare(cell, shown, 0.05 / tests)
            for _, cell in family.groupby(["control", "target_density"], sort=True, dropna=False)
        ]
        for row, p in zip(found, stats.holm([row["p"] for row in found]), strict=True):
            table.append(row | {"p_holm": p, "verdict": verdict(shown.sign * row["difference"], p)})
    frame = pd.DataFrame(table, columns=spelt(COLUMNS, points))
    order = [*GROUP, "variant", "control", "target_density"]
    return frame.sort_values(order, ascending=[True] * 5 + [False], kind="stable").reset_index(
        drop=True
    )


def rivals(seeds: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """Cells of methods with that of the smaller dense net of the same density and seed.

    The columns are those of `keep`, `target_density`, and what `rows` names of a control.
    """
    at = [*GROUP, "target_density", "seed"]
    small = seeds[(seeds["variant"] == RIVAL) & seeds["target_density"].notna()]
    small = small.assign(control=RIVAL).rename(
        columns={"run": "control_run", "value": "value_control", "interpolated": "read_off"}
    )
    methods = seeds[(seeds["block"] == "method") & (seeds["variant"] != RIVAL)]
    methods = methods[[*keep, "target_density"]]
    return methods.merge(small[[*at, "control", "control_run", "value_control", "read_off"]], on=at)


def compare(cell: pd.DataFrame, shown: Measure, alpha: float) -> dict[str, Any]:
    """One variant and density against one control; `alpha`: of a single test."""
    first = cell.iloc[0]
    own = dict(zip(cell["seed"], cell["value"], strict=True))
    control = dict(zip(cell["seed"], cell["value_control"], strict=True))
    result = stats.paired(own, control, resolution=shown.resolution(first["test_samples"]))
    return {
        **{key: first[key] for key in (*GROUP, "variant", "control", "target_density")},
        "density": cell["density"].mean(),
        "n": result.n,
        shown.column: cell["value"].mean(),
        f"{shown.column}_control": cell["value_control"].mean(),
        "difference": result.difference,
        "half": result.half,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "seeds_needed": stats.seeds_needed(result.difference, result.sd, alpha=alpha),
        "interpolated": bool(cell["interpolated"].any()),
        "runs": " ".join(cell["run"]),
        "control_runs": " ".join(cell["control_run"]),
    }


def about(kind: str) -> str:
    """What a kind of control shares with the method, as a legend says it."""
    shared = {"scratch": "same shape", RIVAL: "same density"}
    return shared.get(kind, "same layer densities")


def standings(table: pd.DataFrame) -> pd.Series:
    """Per (dataset, arch, tier, variant, density): `random: better, magnitude: tie`."""
    told = table["control"] + ": " + table["verdict"]
    keys = [*GROUP, "variant", "target_density"]
    return told.groupby([table[key] for key in keys], sort=True).agg(", ".join).rename("controls")


def verdict(advantage: float, p: float) -> str:
    """What a corrected p value lets us say of a method against its control."""
    if p != p:
        return "untested"
    return "tie" if p >= 0.05 else "better" if advantage > 0 else "worse"


def blocks(table: pd.DataFrame) -> list[Block]:
    """One block per (dataset, arch, tier), differences in points."""
    header = (
        "variant", "control", "density", "method", "control's", "difference", "p (Holm)", "verdict",
        "seeds",
    )  # fmt: skip
    found = []
    for (dataset, arch, tier), part in table.groupby(GROUP, sort=True):
        lines, shown = [], named(part)
        for row in part.to_dict("records"):
            half = f" ± {100 * row['half']:.2f}" if row["half"] == row["half"] else ""
            target, needed = row["target_density"], row["seeds_needed"]
            mark = "~" if row["interpolated"] else ""
            lines.append(
                line(
                    row["variant"],
                    row["control"] + "(like)" * (row["control"] != RIVAL),
                    f"{target:g}" if target == target else f"end ({row['density']:.3g})",
                    f"{100 * row[shown.column]:.2f}",
                    f"{100 * row[f'{shown.column}_control']:.2f}",
                    f"{mark}{100 * row['difference']:+.2f}{half} ({row['n']})",
                    f"{row['p_holm']:.3g}" if row["p_holm"] == row["p_holm"] else None,
                    row["verdict"],
                    None if needed is None or needed != needed else int(needed),
                )
            )
        notes = [
            f"Difference: method minus control in points of {shown.short}, paired by seed, "
            f"{'negative where the method is better, ' if shown.lower else ''}± half of the "
            "95 % t interval (n). Verdict at 5 % after Holm's correction over the variant's rows, "
            "those against smaller dense nets (same requested density, trained as long) apart. "
            "Seeds: what 80 % power would need for a difference of this size, at 5 % over the "
            "number of tests."
        ]
        if part["target_density"].isna().any():
            notes.append(
                "End: the last points of curves that do not reach the lowest requested density."
            )
        if part["interpolated"].any():
            notes.append("~ one or both read off a curve of several densities, linear in its log.")
        title = f"Methods against their controls, {dataset}, {arch}, {tier} tier"
        found.append(Block(title, header, (("", tuple(lines)),), tuple(notes)))
    return found
