"""Each method against the controls that copy its layer densities.

Does it choose better weights, or only layers?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import stats
from bench.tables.cells import GROUP
from bench.tables.render import Block, line

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *GROUP,
    *(
        "variant",
        "control",
        "target_density",
        "n",
        "top1",
        "top1_control",
        "difference",
        "half",
        "low",
        "high",
    ),
    *("p", "p_holm", "verdict", "seeds_needed", "runs", "control_runs"),
)


def rows(points: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, control and density: method minus control, paired run by run.

    A control is paired with the very run whose layer densities it copies. p values are Holm-
    corrected over one variant's rows in one (dataset, arch, tier). Verdict: better, worse, tie (not
    told apart at 5 %), or untested (fewer than two pairs).
    """
    import pandas as pd

    done = points[(points["status"] == "ok") & points["final"].fillna(False)]
    keep = ["run", "variant", "target_density", "seed", "top1", "test_samples", *GROUP]
    twins = done.loc[done["like"].notna(), ["run", "like", "method", "top1"]].rename(
        columns={"run": "control_run", "top1": "top1_control", "method": "control"}
    )
    pairs = twins.merge(done[keep], left_on="like", right_on="run")
    table: list[dict[str, Any]] = []
    for _, family in pairs.groupby([*GROUP, "variant"], sort=True):
        found = [
            compare(cell) for _, cell in family.groupby(["control", "target_density"], sort=True)
        ]
        for row, p in zip(found, stats.holm([row["p"] for row in found]), strict=True):
            table.append(row | {"p_holm": p, "verdict": verdict(row["difference"], p)})
    frame = pd.DataFrame(table, columns=list(COLUMNS))
    order = [*GROUP, "variant", "control", "target_density"]
    return frame.sort_values(order, ascending=[True] * 5 + [False], kind="stable").reset_index(
        drop=True
    )


def compare(cell: pd.DataFrame) -> dict[str, Any]:
    """One variant and density against one control."""
    first = cell.iloc[0]
    own = dict(zip(cell["seed"], cell["top1"], strict=True))
    control = dict(zip(cell["seed"], cell["top1_control"], strict=True))
    result = stats.paired(own, control, resolution=1 / first["test_samples"])
    return {
        **{key: first[key] for key in (*GROUP, "variant", "control", "target_density")},
        "n": result.n,
        "top1": cell["top1"].mean(),
        "top1_control": cell["top1_control"].mean(),
        "difference": result.difference,
        "half": result.half,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "seeds_needed": stats.seeds_needed(result.difference, result.sd),
        "runs": " ".join(cell["run"]),
        "control_runs": " ".join(cell["control_run"]),
    }


def verdict(difference: float, p: float) -> str:
    """What a corrected p value lets us say of a method against its control."""
    if p != p:
        return "untested"
    return "tie" if p >= 0.05 else "better" if difference > 0 else "worse"


def blocks(table: pd.DataFrame) -> list[Block]:
    """One block per (dataset, arch, tier), differences in points."""
    header = (
        "variant",
        "control",
        "density",
        "method",
        "control's",
        "difference",
        "p (Holm)",
        "verdict",
        "seeds",
    )
    found = []
    for (dataset, arch, tier), part in table.groupby(GROUP, sort=True):
        lines = []
        for row in part.to_dict("records"):
            half = f" ± {100 * row['half']:.2f}" if row["half"] == row["half"] else ""
            needed = row["seeds_needed"]
            lines.append(
                line(
                    row["variant"],
                    f"{row['control']}(like)",
                    f"{row['target_density']:g}",
                    f"{100 * row['top1']:.2f}",
                    f"{100 * row['top1_control']:.2f}",
                    f"{100 * row['difference']:+.2f}{half} ({row['n']})",
                    f"{row['p_holm']:.3g}" if row["p_holm"] == row["p_holm"] else None,
                    row["verdict"],
                    None if needed is None or needed != needed else int(needed),
                )
            )
        note = (
            "Difference: method minus control in points of top-1, paired by seed, ± half of the "
            "95 % t interval (n). "
            "Verdict at 5 % after Holm's correction over the variant's rows. Seeds: what 80 % "
            "power would need for a "
            "difference of this size."
        )
        title = f"Methods against their controls, {dataset}, {arch}, {tier} tier"
        found.append(Block(title, header, (("", tuple(lines)),), (note,)))
    return found
