"""From numbers to verdicts: is a number, with its interval, where the paper says that it is?

That *every* check of a claim holds is an intersection-union test: each at the full level, without
correction. That *some* check holds, or fails, is a search among them: Holm's method corrects it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench import stats
from bench.claims.number import ALPHA, Number, Region

Outcome = Literal["yes", "no", "open", "same"]
Verdict = Literal[
    "reproduced", "partly reproduced", "mixed", "within noise", "no difference made",
    "not reproduced", "not reached here", "not tested yet", "not testable",
]  # fmt: skip
VERDICTS: dict[Verdict, str] = {
    "reproduced": "every check is on the claimed side, each at 5 %, which needs no correction",
    "partly reproduced": "some checks are (Holm), none is on the other side",
    "mixed": "some are on the claimed side and some on the other (both Holm)",
    "within noise": "neither: the intervals hold both sides",
    "no difference made": "the two variants end in the same nets, bit by bit",
    "not reproduced": "some checks are on the other side (Holm), none on the claimed one",
    "not reached here": "a best case over many nets, which one net that misses it cannot refute",
    "not tested yet": "no published suite answers it; the row says what it would take",
    "not testable": "not with what is known or runs here; the row says why",
}
"""Each verdict and when it is given."""

Relation = Literal["each", "together", "readings"]
"""How the checks of a claim make it up: see `verdict`."""


@dataclass(frozen=True)
class Check:
    """One number that answers a claim: what it is, of which runs, and what it says."""

    label: str
    place: str
    """Net, data set and tier."""
    suite: str
    variant: str
    other: str
    """What it is compared to, if anything."""
    unit: str
    region: Region
    number: Number
    runs: tuple[str, ...]
    beside: bool = False
    """Whether it is shown for comparison, without a say in the verdict."""
    epochs: str = ""
    """How long either side trained, where the other one is the dense net."""
    p_for: float = math.nan
    """Corrected over the claim's checks, as the next one; see `settle`."""
    p_against: float = math.nan
    outcome: Outcome = "open"
    seeds_needed: int | None = None
    """For 80 % power at the distance seen; None: more than 10,000, or not a matter of seeds."""


def settle(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks of one claim, each with its outcome.

    Those that are shown beside are a family of their own.
    """
    settled: dict[int, Check] = {}
    for beside in (False, True):
        family = [i for i, check in enumerate(checks) if check.beside == beside]
        settled |= zip(family, corrected([checks[i] for i in family]), strict=True)
    return tuple(settled[i] for i in range(len(checks)))


def corrected(family: Sequence[Check]) -> list[Check]:
    """Checks that are decided together, with their outcomes and p values corrected over them."""
    p_for = stats.holm([check.number.p_for for check in family])
    p_against = stats.holm([check.number.p_against for check in family])
    whole = all(check.number.p_for < ALPHA for check in family)

    def outcome(check: Check, yes: float, no: float) -> Outcome:
        if check.number.lack:
            return "same" if check.number.lack == "same nets" else "open"
        return "yes" if whole or yes < ALPHA else "no" if no < ALPHA else "open"

    def seeds(number: Number) -> int | None:
        return stats.seeds_needed(number.gap, number.sd, alpha=ALPHA / len(family))

    return [
        replace(
            check,
            p_for=yes,
            p_against=no,
            outcome=outcome(check, yes, no),
            seeds_needed=seeds(check.number),
        )
        for check, yes, no in zip(family, p_for, p_against, strict=True)
    ]


def verdict(
    checks: Sequence[Check], relation: Relation = "each", best_case: bool = False
) -> Verdict:
    """Of a claim with these settled checks, one or more that count; see `VERDICTS`.

    `relation`: `each` check is the claim at one place; `together` they are one claim, so that it
    falls with any of them; or they are `readings` of it, so that it falls with all of them only.
    """
    outcomes = {check.outcome for check in checks if not check.beside}
    if outcomes == {"same"}:
        return "no difference made"
    if outcomes == {"yes"}:
        return "reproduced"
    if best_case:
        return "not reached here"
    if "no" in outcomes and "yes" in outcomes and relation != "together":
        return "mixed"
    falls = outcomes == {"no"} if relation == "readings" else "no" in outcomes
    if falls:
        return "not reproduced"
    return "partly reproduced" if "yes" in outcomes else "within noise"
