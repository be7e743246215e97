"""The fixed validation split: cut out of train once, the same for every run, seed and machine."""

from __future__ import annotations

import numpy as np

from bench import rng
from bench.data.source import DataError


def held_out(samples: int) -> int:
    """How many training samples become validation: 5,000 of 50,000 to 60,000, else a tenth."""
    return 5_000 if 50_000 <= samples <= 60_000 else round(samples / 10)


def cut(labels: np.ndarray, count: int, *stream: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide the samples with `labels` (N,) into (rest, chosen), sorted indices; chosen: `count`.

    Each class gives its share of `count`, rounded by largest remainder, and keeps a sample in the
    rest. The draw comes from `bench.rng.seed(*stream)` alone.
    """
    sizes = np.bincount(labels)
    share, remainder = np.divmod(sizes * count, max(1, len(labels)))
    ranked = np.argsort(-remainder, kind="stable")
    able = ranked[(remainder[ranked] > 0) & (share[ranked] + 1 < sizes[ranked])]
    share[able[: count - share.sum()]] += 1
    if count < 1 or share.sum() < count:
        raise DataError(
            f"{stream[-1]}: {len(labels)} samples of {np.count_nonzero(sizes)} classes are too few "
            f"to hold out {max(1, count)} by class. Add samples"
        )
    # RandomState, since numpy promises that its streams never change; newer generators may.
    seed = rng.seed(*stream)
    random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(share)]
    )
    mask = np.zeros(len(labels), dtype=bool)
    mask[chosen] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)
