"""What the scorecard says of a claim, its checks and its verdict, in words."""

from __future__ import annotations

from collections.abc import Sequence

from bench.claims.schema import Claim
from bench.claims.scorecard import Row
from bench.claims.units import UNITS
from bench.claims.verdict import Check
from bench.tables.render import Cell, line

SHORT = 3
"""Most checks that a row in print spells out."""


def whole(row: Row) -> tuple[Cell, ...]:
    """The cells of one claim, with all that is known of it."""
    claim = row.claim
    notes = "; ".join(filter(None, (claim.note, *epochs(row))))
    return line(
        claim.claim + (f" ({notes})" if notes else ""),
        f"{claim.source} [{known(claim)}]",
        claim.reported,
        measured(row),
        f"{where(row)} instead of {claim.paper}" if row.checks else claim.paper,
        said(row),
    )


def brief(row: Row) -> tuple[Cell, ...]:
    """The cells of one claim, for a page."""
    return line(row.claim.title, row.claim.reported, ranged(row), said(row))


def known(claim: Claim) -> str:
    """How we know the claim, and the number if that is another matter; what of it is ours."""
    evidence: str = claim.evidence
    if claim.number not in (None, claim.evidence):
        evidence = f"claim {claim.evidence}, number {claim.number}"
    return f"{evidence}; our {claim.ours}" if claim.ours else evidence


def epochs(row: Row) -> list[str]:
    """How long the nets trained that stand beside the dense one, each way once."""
    return list(dict.fromkeys(check.epochs for check in row.checks if check.epochs))


def where(row: Row) -> str:
    """The nets and data sets of its checks."""
    return ", ".join(dict.fromkeys(check.place for check in row.checks))


def measured(row: Row) -> str:
    """Every check, or why there is none."""
    if not row.checks:
        return row.claim.untested or row.claim.untestable or ""
    parts = []
    for beside in (False, True):
        told = [check_text(c) + outcome(c) for c in row.checks if c.beside == beside]
        parts += ["beside: " * beside + "; ".join(told)] * bool(told)
    return ". ".join(parts) + counted(row.checks)


def outcome(check: Check) -> str:
    """` yes`; nothing where its text says all."""
    return "" if check.number.lack else f" {check.outcome}"


def ranged(row: Row) -> str:
    """Its checks, or the smallest and the largest of many; nothing where there is none."""
    checks = [check for check in row.checks if not check.beside]
    if len(checks) <= SHORT:
        return "; ".join(map(check_text, checks)) + (counted(checks) if checks else "")
    at = sorted((c for c in checks if not c.number.lack), key=lambda c: c.number.estimate)
    ends = " ... ".join(number_text(check) for check in (at[0], at[-1])) if at else "same nets"
    return f"{ends}, {len(checks)} checks{counted(checks)}"


def counted(checks: Sequence[Check]) -> str:
    """` (n = 3 seeds)`; of a timing that the interval is not over what n counts."""
    found = []
    for over in dict.fromkeys(check.number.over for check in checks):
        n = ", ".join(map(str, sorted({c.number.n for c in checks if c.number.over == over})))
        timed = "net, on one machine; interval over repetitions"
        found.append(f"n = {n} {timed if over == 'repetitions' else over}")
    return f" ({'; '.join(found)})"


def check_text(check: Check) -> str:
    """`as pruned, 5 %: +0.41 ± 0.95`."""
    return f"{check.label}: {number_text(check)}" if check.label else number_text(check)


def number_text(check: Check) -> str:
    """`+0.41 ± 0.95`, or why there is none."""
    number = check.number
    return number.lack or UNITS[check.unit].says(number.estimate, number.low, number.high)


def short(row: Row) -> str:
    """The verdict and what qualifies it."""
    marks = ["one net"] * row.one_net + ["mechanism"] * row.claim.mechanism
    marks += ["our question"] * (row.claim.ours == "question")
    tested = marks if row.checks else []
    return f"{row.verdict} ({', '.join(tested)})" if tested else row.verdict


def said(row: Row) -> str:
    """The verdict, and how many seeds would tell where noise hides the answer."""
    if row.verdict != "within noise" or row.one_net:
        return short(row)
    known = [seeds for seeds in row.open_seeds if seeds is not None]
    return f"{short(row)} ({min(known) if known else 'more than 10000'} seeds)"
