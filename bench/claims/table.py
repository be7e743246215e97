"""The scorecard as a table: reported beside measured. All numbers as CSV, the rest for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bench.claims.number import ALPHA
from bench.claims.schema import SECTIONS
from bench.claims.scorecard import Row
from bench.claims.verdict import VERDICTS, Check
from bench.claims.wording import brief, whole
from bench.tables.render import Block, Cell, line, markdown, row_text

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    "sources": "the papers this benchmark was made for",
    "baselines": "the papers of its baselines",
}
WHOLE = ("claim", "source", "reported", "measured", "setting here", "verdict")
BRIEF = ("claim", "reported", "measured", "verdict")
COLUMNS = (*SECTIONS, "all", "mechanisms", "our questions")
"""Of the summary; only what a paper claims, and what could fail, counts in `all`."""


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
        "number_evidence": claim.number or claim.evidence,
        "ours": claim.ours or "",
        "mechanism": claim.mechanism,
        "relation": claim.relation,
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
        "beside": check.beside,
        "outcome": check.outcome,
        "place": check.place,
        "suite": check.suite,
        "variant": check.variant,
        "other": check.other,
        "epochs": check.epochs,
        "unit": check.unit,
        "claimed": str(check.region),
        "estimate": number.estimate,
        "low": number.low,
        "high": number.high,
        "n": number.n,
        "over": number.over,
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
    first, *others = blocks(rows)
    return "\n".join((markdown([first]), markdown(others).replace(right, left)))  # sentences


def blocks(rows: Sequence[Row]) -> list[Block]:
    """A summary, then the claims of each section, with all that is said of them."""
    return [summary(rows), *(block(rows, section, WHOLE, whole) for section in SECTIONS)]


def print_blocks(rows: Sequence[Row]) -> list[Block]:
    """The same rows in few words, for print."""
    return [summary(rows), *(block(rows, section, BRIEF, brief) for section in SECTIONS)]


def summary(rows: Sequence[Row]) -> Block:
    """How many claims have which verdict, and what a verdict means."""
    counts = {
        name: Counter(row.verdict for row in rows if name in columns(row)) for name in COLUMNS
    }
    lines = [line(name, *(count[name] for count in counts.values())) for name in VERDICTS]
    lines.append(line("sum", *(count.total() for count in counts.values())))
    header = ("verdict", *COLUMNS)
    title = "Scorecard: how many claims"
    return Block(title, header, (("", tuple(lines)),), (*NOTES, chance(rows)))


def columns(row: Row) -> tuple[str, ...]:
    """Those of the summary that a claim counts in."""
    if row.empirical:
        return row.section, "all"
    return ("mechanisms",) if row.claim.mechanism else ("our questions",)


NOTES = (
    "Verdicts are computed from the records, by 95 % Student-t intervals over the seeds (of "
    "measured times: over repetitions of one net on one machine, marked so), against the bound of "
    "the claim itself. " + "; ".join(f"{name}: {when}" for name, when in VERDICTS.items()) + ".",
    "Mechanisms hold by construction or by a knob (exact counts, weights that come back), and our "
    "questions no paper answers; neither counts in all.",
    "Claims are tested at this benchmark's scale and budget, mostly LeNet-5 on Fashion-MNIST with "
    "three seeds; a verdict is about that, not about the paper's nets and data.",
)


def chance(rows: Sequence[Row]) -> str:
    """What to expect of so many tests, none of which is corrected for the others."""
    fixed = ("not reached here", "no difference made")
    tested = sum(row.empirical and bool(row.checks) and row.verdict not in fixed for row in rows)
    return (
        f"No correction is made over claims. Were all numbers of the {tested} tested ones exactly "
        f"at their bounds, up to {tested * ALPHA:.1f} would be decided by chance, half of them "
        "either way."
    )


def block(
    rows: Sequence[Row],
    section: str,
    header: tuple[str, ...],
    said: Callable[[Row], tuple[Cell, ...]],
) -> Block:
    """The claims of one section, grouped by method; `said` makes the cells of a row."""
    methods: dict[str, list[tuple[Cell, ...]]] = {}
    for row in rows:
        if row.section == section:
            methods.setdefault(row.method, []).append(said(row))
    notes = (
        "Measured: per check the number with its 95 % interval, without correction, and what it "
        "says (yes: as claimed, no: the opposite, open; as the verdicts correct it). What stands "
        "beside has no say in the verdict. Gaps are in points of accuracy or error, paired by "
        "seed; the percentage before a colon is the share of weights kept.",
        "Our reading: the claim is the paper's, the bound or what it is compared to is ours. Our "
        "question: no claim of the paper. After within noise: the fewest seeds that would decide "
        "one of its checks, at 80 % power, were the true distance the one seen.",
    )
    parts = tuple((method, tuple(lines)) for method, lines in methods.items())
    return Block(f"Scorecard: {TITLES[section]}", header, parts, notes, wide=True)
