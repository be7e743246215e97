"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, or a skip that says how to have it."""
    root = os.environ.get("BENCH_DATA")
    if not root:
        pytest.skip("BENCH_DATA is not set: no real data sets here beyond digits")
    return Path(root)
