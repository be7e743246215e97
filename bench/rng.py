"""Named random streams: one seed gives every purpose its own, so that no draw disturbs another.

All methods of one seed share `init`, `data` and `augment`, so differences between them are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed(*names: str | int) -> int:
    """A 63-bit seed that depends on every name and on nothing else.

    No global state and no hash salt enters it.
    """
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*names: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator at the start of the stream `names`."""
    import torch

    return torch.Generator(device).manual_seed(seed(*names))


@contextmanager
def forked(*names: str | int) -> Iterator[None]:
    """Torch's global generators at the start of the stream `names`.

    Afterwards they are as they were before.
    """
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed(*names))
        yield
