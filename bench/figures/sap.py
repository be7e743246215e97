"""SAP from the inside: PQ Index, density and accuracy by round, in each scope."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tidy
from bench.figures import inside, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "sap"
METHODS = ("sap",)
SCOPES = ("neuron", "layer", "global")
PLACE = ("scope", "rule", "p", "q", "density")
"""Parameters that a panel or a colour stands for; `density` only ends a run."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `sap.{pdf,png}`: a row per (dataset, arch, tier) and rule, a colour per scope.

    Columns: PQ Index of the weights left, density, and validation accuracy by round; test accuracy
    over density.
    """
    rounds = by_round(*(tidy.read(tables, name) for name in ("runs", "points", "history")))
    rows = list(rounds.groupby([*inside.PAIR, "row"], sort=True))
    if not rows:
        return style.message("No run of SAP left a round to show.", out, NAME)
    looks = dict(zip(SCOPES, style.looks(SCOPES).values(), strict=True))
    labels = [f"{scope} scope" for scope in SCOPES]
    with style.style():
        made, grid = inside.grid(len(rows), 4, labels)
        for axes, (key, part) in zip(grid, rows, strict=True):
            panels(axes, part, looks)
            tier = f", {key[2]} tier" if rounds["tier"].nunique() > 1 else ""
            axes[0].set_title(f"{key[3]}: {key[0]}, {key[1]}{tier}", loc="left")
        style.legend(made, list(grid.flat))
        return style.save(made, out, NAME)


def by_round(runs: pd.DataFrame, points: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """One row per run and round: `pqi`, `density`, `validation`, `top1`, its `row` and `scope`.

    Round 0 is the dense net. Of each variant only the rounds that all of its seeds have: the mean
    over those that are left would be one over survivors.
    """
    import pandas as pd

    own = inside.runs_of("sap", runs)
    if not len(own) or "pqi_half_1" not in history:
        return pd.DataFrame(columns=[*inside.PAIR, "row", "scope"])
    names = inside.differing(own["setting"], PLACE)
    own = own.assign(
        scope=[setting.scope for setting in own["setting"]],
        row=[title(setting, names) for setting in own["setting"]],
    )
    own = own[[*inside.PAIR, "run", "seed", "row", "scope"]]
    index = history[(history["event"] == "pqi") & (history["layer"] == "all")]
    index = index[["run", "round", "pqi_half_1", "density"]]
    found = history.loc[history["event"] == "round", ["run", "round", "validation"]]
    table = own.merge(index, on="run").merge(found, on=["run", "round"], how="left")
    table = table.merge(test(points), on=["run", "round"])
    variant = [*inside.PAIR, "row", "scope"]
    seeds = table.groupby(variant)["seed"].transform("nunique")
    have = table.groupby([*variant, "round"])["seed"].transform("nunique")
    return table[have == seeds].assign(step=lambda t: t["round"])


def title(setting: Any, names: list[str]) -> str:
    """What a row is called: the rule, SAP's exponents, and `names`, in which the suite varies."""
    rule = setting.rule.replace("_", " ")
    shown = [*(["p", "q"] if setting.rule == "sap" else []), *names]
    return f"{rule} ({inside.worded(setting, shown)})" if shown else rule


def test(points: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy by `run` and `round`; round 0 is the dense run that it started from."""
    import pandas as pd

    done = points[points["top1"].notna()]
    first = done.drop_duplicates("run").assign(round=0, top1=lambda t: t["top1_dense"])
    columns = ["run", "round", "top1", "test_samples"]
    return pd.concat([first[columns], done.assign(round=done["point"] + 1)[columns]])


def panels(axes: list[Axes], part: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """One row of the figure."""
    seen: dict[str, list[float]] = {"validation": [], "top1": []}
    for scope, look in looks.items():
        own, label = part[part["scope"] == scope], f"{scope} scope"
        if not len(own):
            continue
        inside.curve(axes[0], own, "step", "pqi_half_1", look, label)
        inside.curve(axes[1], own, "step", "density", look, label)
        for one, x, y in ((axes[2], "step", "validation"), (axes[3], "density", "top1")):
            seen[y] += list(inside.curve(one, own, x, y, look, label))
    axes[0].set_ylabel("PQ Index (0.5, 1)")
    for one, y in ((axes[2], "validation"), (axes[3], "top1")):
        inside.accuracy_axis(one, seen[y], float(part["test_samples"].max()))
    axes[2].set_ylabel("validation top-1, %")
    axes[3].set_ylabel("test top-1, %")
    for one in axes[:3]:
        one.set_xlabel("round")
    densities = part["density"].astype(float)
    inside.kept_axis(axes[1], "y", densities)
    inside.kept_axis(axes[3], "x", densities)
