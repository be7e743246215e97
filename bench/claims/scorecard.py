"""All claims against all published records: what was measured of each, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.claims.kinds import checks
from bench.claims.schema import FILE, Claim, ClaimError, Entry
from bench.claims.suites import open_suite
from bench.claims.verdict import Check, Verdict, settle, verdict
from bench.tidy import TidyError


@dataclass(frozen=True)
class Row:
    """One claim with what answers it; without checks where nothing does."""

    section: str
    method: str
    claim: Claim
    checks: tuple[Check, ...]
    verdict: Verdict

    @property
    def one_net(self) -> bool:
        """Whether the verdict is about repetitions of timing one net, not about seeds."""
        return any(c.number.over == "repetitions" and not c.beside for c in self.checks)

    @property
    def empirical(self) -> bool:
        """Whether a paper claims it, and it could have come out otherwise."""
        return not self.claim.mechanism and self.claim.ours != "question"

    @property
    def open_seeds(self) -> list[int | None]:
        """What its open checks need; None: more than 10,000, or not a matter of seeds."""
        return [c.seeds_needed for c in self.checks if c.outcome == "open" and not c.beside]


def score(published: Path, entries: Iterable[Entry]) -> tuple[Row, ...]:
    """A row per claim, in the order of the file; numbers come from `published` alone.

    Raises `ClaimError` with file, claim and key for what is not published as the claim asks.
    """
    suite = cache(lambda name: open_suite(published, name))
    rows = []
    for section, method, claim in entries:
        found: list[Check] = []
        for number, measure in enumerate(claim.measure):
            try:
                found += checks(measure, suite(measure.suite))
            except (ClaimError, TidyError) as error:
                where = f"{FILE.name}: {claim.id}: measure.{number}"
                raise ClaimError(f"{where}.{error}") from None
        settled = settle(found)
        rows.append(Row(section, method, claim, settled, given(claim, settled)))
    return tuple(rows)


def given(claim: Claim, settled: tuple[Check, ...]) -> Verdict:
    """The verdict on a claim with these checks."""
    if claim.untestable is not None:
        return "not testable"
    if claim.untested is not None:
        return "not tested yet"
    return verdict(settled, claim.relation, claim.best_case)
