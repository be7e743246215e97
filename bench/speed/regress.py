"""Has a path become slower? Two campaigns' rows compared, by noise that was measured in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.latency.baseline import CONTROL_BAND
from bench.speed.rows import SETTING

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["dataset", "arch", "run", "path", *SETTING]


def noise(table: pd.DataFrame) -> float:
    """What 95 % of the relative differences among what does the same work stay below.

    Of twins and controls; the largest of hundreds would be that of the shortest call.
    """
    same = table["role"].isin(["twin", "control"]) & table["status"].eq("ok")
    pairs = table.loc[same, "speedup"].dropna()
    return float(np.expm1(np.log(pairs).abs().quantile(0.95))) if len(pairs) else 0.0


def regressions(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows whose speed-up over the dense net has fallen by more than the noise of both tables.

    Speed-ups are paired with the dense net in their own session, so that a machine that is slower
    as a whole counts for nothing. And the intervals must not touch. A row that has failed since is
    one, too. Columns: `KEYS`, `before`, `now`, `lost` (relative), `noise`, `reason`.

    Raises `ValueError` where the tables have no row in common.
    """
    ran = old[old["role"].eq("candidate") & old["status"].eq("ok")]
    again = new[new["role"].eq("candidate") & ~new["status"].eq("unsteady")]
    both = ran.merge(again, on=KEYS, suffixes=("_old", "_new"))
    if not len(both):
        raise ValueError("the two campaigns have no row in common")
    allowed = max(CONTROL_BAND, noise(old), noise(new))
    lost = 1 - both["speedup_new"] / both["speedup_old"]
    slower = (lost > allowed) & (both["speedup_high_new"] < both["speedup_low_old"])
    worse = both[slower | ~both["status_new"].eq("ok")]
    return worse[KEYS].assign(
        before=worse["speedup_old"],
        now=worse["speedup_new"],
        lost=lost[worse.index],
        noise=allowed,
        reason=worse["reason_new"],
    )
