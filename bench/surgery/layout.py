"""Which parameters of a selection of k of n go together, and the groups that they make of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from bench.surgery import candidates
from bench.surgery.layers import prunable
from bench.surgery.patterns import Pattern, PatternError
from bench.surgery.prune import Uneven, check


@dataclass(frozen=True)
class Layout:
    """What competes with what, as a method's parameters say it; `tiles`: groups to a row."""

    pattern: str
    granularity: Literal["output", "tap", "filter"] = "output"
    tiles: int = 1
    uneven: Uneven = "refuse"
    dense_output: bool = False

    def refusal(self) -> str | None:
        """Why these do not go together, by name; None if they do."""
        pattern = Pattern.parse(self.pattern)
        channel, fixed = pattern.kind == "channel", pattern.n is not None
        wanted = {"tap": "k-of-n", "filter": "unstructured"}.get(self.granularity)
        if pattern.kind in ("block", "column"):
            kinds = "k-of-n, N:M, kernel, channel, unstructured"
            return f"pattern {self.pattern!r} is none of {kinds}"
        if (wanted and pattern.kind != wanted) or (pattern.kind == "unstructured" and not wanted):
            return (
                f"granularity {self.granularity!r} does not make the pattern {self.pattern!r}; "
                "tap makes k-of-n, filter makes unstructured, output all others"
            )
        if pattern.rows > 1 and self.granularity != "output":
            return f"granularity {self.granularity!r}: not with the pattern {self.pattern!r}"
        if self.tiles > 1 and (channel or pattern.kind == "n:m"):
            return f"tiles {self.tiles}: not with the pattern {self.pattern!r}"
        if self.uneven == "dense" and channel:
            return f"uneven 'dense': not with the pattern {self.pattern!r}"
        if self.dense_output and (channel or fixed):
            return f"dense_output: not with the pattern {self.pattern!r}" + (
                f", whose density is fixed; '*:{pattern.m}' makes up for it" if fixed else ""
            )
        return None

    def groups(
        self, model: nn.Module, shape: tuple[int, ...], density: float
    ) -> tuple[dict[str, candidates.Candidates], dict[str, int]]:
        """The candidates of every layer, or set of coupled channels, and k of each.

        `shape`: one input (C, H, W). Raises `PatternError` for a net that cannot be cut so, or not
        at this density.
        """
        pattern = Pattern.parse(self.pattern)
        if pattern.kind == "channel":
            return candidates.coupled(model, shape, density)
        check(model, self.pattern, density, self.uneven)
        granularity: candidates.Granularity = (
            "kernel" if pattern.kind == "kernel" else self.granularity
        )
        tile = pattern.m if pattern.kind == "n:m" else 0
        found = candidates.weights(
            model,
            granularity,
            tile=tile,
            tiles=self.tiles,
            shared=pattern.rows,
            uneven=self.uneven,
        )
        everything = prunable(model)
        if self.dense_output:
            found.pop(list(everything)[-1], None)
        if not found:
            raise PatternError(f"no layer can hold the pattern {self.pattern!r} so: all stay dense")
        if fixed := pattern.n:
            return dict(found), dict.fromkeys(found, fixed)
        total = sum(w.numel() for w in everything.values())
        return dict(found), candidates.counts(found, density, total)
