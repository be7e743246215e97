"""Has a path become slower? Two campaigns' rows compared, by noise that was measured in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.speed.table import SETTING

if TYPE_CHECKING:
    import pandas as pd

LEAST = 0.03
"""A smaller loss is never called one: the band in which a control has to lie, too."""
KEYS = ["dataset", "arch", "run", "path", *SETTING]


def noise(table: pd.DataFrame) -> float:
    """The largest relative difference among what does the same work: A/A pairs and controls."""
    same = table["against"].eq(table["path"] + " " + table["mode"] + "/" + table["layout"])
    same = (same & table["role"].eq("baseline")) | table["role"].eq("control")
    pairs = table.loc[same & table["status"].eq("ok"), "speedup"]
    return float(np.expm1(np.log(pairs).abs().max())) if len(pairs) else 0.0


def regressions(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows whose speed-up over the dense net has fallen by more than the noise of both tables.

    Speed-ups are paired with the dense net in their own session, so that a machine that is slower
    as a whole counts for nothing. And the intervals must not touch. Columns: `KEYS`, `before`,
    `now`, `lost` (relative), `noise`.
    """
    sides = [
        table[table["role"].eq("candidate") & table["status"].eq("ok")].set_index(KEYS)
        for table in (old, new)
    ]
    both = sides[0].join(sides[1], how="inner", lsuffix="_old", rsuffix="_new").reset_index()
    allowed = max(LEAST, noise(old), noise(new))
    lost = 1 - both["speedup_new"] / both["speedup_old"]
    worse = both[(lost > allowed) & (both["speedup_high_new"] < both["speedup_low_old"])]
    return worse[KEYS].assign(
        before=worse["speedup_old"], now=worse["speedup_new"], lost=lost[worse.index], noise=allowed
    )
