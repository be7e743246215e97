"""Where a row's numbers come from."""

from __future__ import annotations

from typing import Any

from bench.spec import Record


def origin(record: Record) -> dict[str, Any]:
    """Where a row's numbers come from, and last what depends on the clock."""
    environment = record.environment
    spent = {f"seconds_{phase}": 0.0 for phase in ("pretrain", "score", "prune", "finetune")}
    for line in record.ledger:
        spent[f"seconds_{line.phase}"] += line.seconds
    return {
        "status": record.status,
        "reason": record.reason,
        "dense": record.dense,
        "dataset_digest": record.dataset.get("digest"),
        "protocol": record.spec.protocol,
        "device": hardware(environment),
        "torch": environment.get("packages", {}).get("torch"),
        "git_commit": commit(environment.get("git", {})),
        "provenance": "rerun",
        **spent,
        "seconds": record.seconds,
        "peak_memory": record.peak_memory,
        "started": record.started,
    }


def hardware(environment: dict[str, Any]) -> str | None:
    """Name of what trained: the GPU's where it was one, else the processor's."""
    if str(environment.get("device")).startswith("cuda"):
        return next((gpu["name"] for gpu in environment.get("gpus", [])), "cuda")
    return environment.get("cpu")


def commit(git: dict[str, Any]) -> str | None:
    """The commit that ran, with `+changes` when tracked files differed from it."""
    return f"{git['commit']}+changes" if git.get("dirty") else git.get("commit")
