"""Publishing a campaign: its tables, figures, ceilings, config and machine, as text in git."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.publish import copy

BESIDE = ("ceilings.csv", "environment.json", "campaign.json")
"""What a reader needs besides the tables."""


def publish(folder: Path, to: Path) -> Path:
    """Copy what `folder` measured to `to`, in the place of what is there."""
    if missing := [name for name in BESIDE if not (folder / name).exists()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: measure it with this code")
    copy(folder, to)
    for name in BESIDE:
        shutil.copy(folder / name, to)
    return to


def holds(folder: Path) -> bool:
    """Whether a folder is a campaign's, published or not."""
    return (folder / "tables" / "speed.csv").exists()
