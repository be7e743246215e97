"""The scorecard as a table: reported beside measured. All numbers as CSV, the rest for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.claims.schema import SECTIONS
from bench.claims.scorecard import Row
from bench.claims.units import UNITS
from bench.claims.verdict import VERDICTS, Check
from bench.tables.render import Block, Cell, line, markdown, row_text

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    "sources": "the papers this benchmark was made for",
    "baselines": "the papers of its baselines",
}
WHOLE = ("claim", "source", "reported", "measured", "setting here", "verdict")
BRIEF = ("claim", "reported", "measured", "verdict")
MANY = float("inf")
SHORT = 3
"""Most checks that a row in print spells out."""


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row per check, with everything; a claim without checks has one row."""
    import pandas as pd

    return pd.DataFrame(
        [about(row) | numbers(check) for row in rows for check in row.checks or (None,)]
    ).astype({"n": "Int64", "seeds_needed": "Int64"})


def about(row: Row) -> dict[str, Any]:
    """What all checks of a claim share."""
    claim = row.claim
    return {
        "section": row.section,
        "method": row.method,
        "id": claim.id,
        "claim": claim.claim,
        "source": claim.source,
        "evidence": claim.evidence,
        "reported": claim.reported,
        "paper": claim.paper,
        "verdict": row.verdict,
        "note": " ".join(filter(None, (claim.untested, claim.untestable, claim.note))),
    }


def numbers(check: Check | None) -> dict[str, Any]:
    """The columns of one check."""
    if check is None:
        return {}
    number = check.number
    return {
        "check": check.label,
        "outcome": check.outcome,
        "place": check.place,
        "suite": check.suite,
        "variant": check.variant,
        "other": check.other,
        "unit": check.unit,
        "claimed": str(check.region),
        "estimate": number.estimate,
        "low": number.low,
        "high": number.high,
        "n": number.n,
        "p_for": number.p_for,
        "p_for_holm": check.p_for,
        "p_against": number.p_against,
        "p_against_holm": check.p_against,
        "seeds_needed": check.seeds_needed,
        "runs": " ".join(check.runs),
    }


def screen(rows: Sequence[Row]) -> str:
    """As Markdown: a summary, then everything that is said of each claim in one row."""
    left, right = (row_text((":--", *[side] * (len(WHOLE) - 1))) for side in (":--", "--:"))
    return markdown(blocks(rows)).replace(right, left)  # these columns are sentences


def blocks(rows: Sequence[Row]) -> list[Block]:
    """A summary, then the claims of each section, with all that is said of them."""
    return [summary(rows), *(block(rows, section, WHOLE, whole) for section in SECTIONS)]


def print_blocks(rows: Sequence[Row]) -> list[Block]:
    """The same rows in few words, for print."""
    return [summary(rows), *(block(rows, section, BRIEF, brief) for section in SECTIONS)]


def summary(rows: Sequence[Row]) -> Block:
    """How many claims have which verdict, and what a verdict means."""
    counts = {s: Counter(row.verdict for row in rows if row.section == s) for s in SECTIONS}
    lines = [
        line(name, *(counts[s][name] for s in SECTIONS), sum(c[name] for c in counts.values()))
        for name in VERDICTS
    ]
    lines.append(line("all", *(c.total() for c in counts.values()), len(rows)))
    notes = (
        "Verdicts are computed from the records, by 95 % Student-t intervals over the seeds (of "
        "measured times: over repetitions), with Holm's correction over the checks of a claim. "
        + "; ".join(f"{name}: {when}" for name, when in VERDICTS.items())
        + ".",
        "A claim is about all of its checks: one that speaks against it is enough. Of a claim that "
        "something is better at all, an advantage that is surely below 0.1 points speaks against "
        "it.",
        "Claims are tested at this benchmark's scale and budget, mostly LeNet-5 on Fashion-MNIST "
        "with three seeds; a verdict is about that, not about the paper's nets and data.",
    )
    header = ("verdict", *SECTIONS, "all")
    return Block("Scorecard: how many claims", header, (("", tuple(lines)),), notes)


def block(rows: Sequence[Row], section: str, header: tuple[str, ...], said: Any) -> Block:
    """The claims of one section, grouped by method; `said` makes the cells of a row."""
    methods: dict[str, list[tuple[Cell, ...]]] = {}
    for row in rows:
        if row.section == section:
            methods.setdefault(row.method, []).append(said(row))
    notes = (
        "Measured: per check the number with its 95 % interval, before Holm's correction, and what "
        "it says after it (yes: as claimed, no: the opposite, open). Gaps are in points of accuracy"
        " or error, paired by seed; the percentage before a colon is the share of weights kept; n: "
        "seeds, layers, or timed nets.",
        "After within noise: seeds that a check would take for 80 % power at the distance seen, "
        "its level divided by the number of checks.",
    )
    parts = tuple((method, tuple(lines)) for method, lines in methods.items())
    return Block(f"Scorecard: {TITLES[section]}", header, parts, notes, wide=True)


def whole(row: Row) -> tuple[Cell, ...]:
    """The cells of one claim, with all that is known of it."""
    claim = row.claim
    note = f" ({claim.note})" if claim.note else ""
    return line(
        claim.claim + note,
        f"{claim.source} [{claim.evidence}]",
        claim.reported,
        measured(row),
        f"{where(row)} instead of {claim.paper}" if row.checks else claim.paper,
        said(row),
    )


def brief(row: Row) -> tuple[Cell, ...]:
    """The cells of one claim, for a page."""
    return line(row.claim.title, row.claim.reported, ranged(row), said(row))


def where(row: Row) -> str:
    """The nets and data sets of its checks."""
    return ", ".join(dict.fromkeys(check.place for check in row.checks))


def measured(row: Row) -> str:
    """Every check, or why there is none."""
    if not row.checks:
        return row.claim.untested or row.claim.untestable or ""
    return "; ".join(f"{check_text(check)} {check.outcome}" for check in row.checks) + counted(row)


def ranged(row: Row) -> str:
    """Its checks, or the smallest and the largest of many; nothing where there is none."""
    if len(row.checks) <= SHORT:
        return "; ".join(map(check_text, row.checks)) + (counted(row) if row.checks else "")
    at = sorted(row.checks, key=lambda check: check.number.estimate)
    ends = " ... ".join(number_text(check) for check in (at[0], at[-1]))
    return f"{ends}, {len(at)} checks{counted(row)}"


def counted(row: Row) -> str:
    """` (n = 3)`."""
    counts = sorted({check.number.n for check in row.checks})
    return f" (n = {', '.join(map(str, counts))})"


def check_text(check: Check) -> str:
    """`as pruned, 5 %: +0.41 ± 0.95`."""
    return f"{check.label}: {number_text(check)}" if check.label else number_text(check)


def number_text(check: Check) -> str:
    """`+0.41 ± 0.95`."""
    number = check.number
    return UNITS[check.unit].says(number.estimate, number.low, number.high)


def said(row: Row) -> str:
    """The verdict, and how many seeds would tell where noise hides the answer."""
    if row.verdict != "within noise":
        return row.verdict
    needed = [MANY if seeds is None else seeds for seeds in row.open_seeds]
    low, high = (f"{seeds:.0f}" if seeds < MANY else "more than 10000" for seeds in ends(needed))
    return f"{row.verdict} ({low if low == high else f'{low} to {high}'} seeds)"


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    return min(values), max(values)
