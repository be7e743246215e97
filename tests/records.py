"""A small suite of made-up but realistic records.

Two nets, three seeds, four densities, curves that reach them and curves that do not, controls, a
failure.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.spec import Accuracy, Point, Recipe, Record, RunSpec, Spent

ARCHS = {"resnet8": (77_000, 4_600_000, 0.985), "lstm": (34_000, 270_000, 0.965)}
DENSITIES = (0.2, 0.1, 0.05, 0.02)
SKILL = {"magnitude": 0.6, "magnitude(allocation=erk)": 0.5, "saam": 0.52, "random": 2.2}
CURVES = {"lottery_ticket": 0.45, "sap": 0.58}
ENVIRONMENT = {
    "device": "cpu",
    "cpu": "Some CPU",
    "gpus": [],
    "packages": {"torch": "2.15.0"},
    "git": {"commit": "0" * 40, "dirty": False},
}
EXTRA = tuple(f"magnitude(allocation=a{index})" for index in range(20))


def method_of(variant: str) -> str:
    """`magnitude` of `magnitude(allocation=erk)`."""
    return variant.split("(")[0]


def accuracy(top1: float, samples: int = 360) -> Accuracy:
    """A test result with that share of right answers, as a multiple of 1 / samples."""
    right = round(max(0.1, min(1.0, top1)) * samples) / samples
    return Accuracy(
        top1=right,
        top5=min(1, right + 0.01),
        loss=4 * (1.001 - right),
        ece=(1 - right) / 3,
        per_class=(right,) * 10,
        samples=samples,
    )


def point(index: int, final: bool, density: float, top1: float, arch: str, epochs: float) -> Point:
    """An operating point whose counts follow from its density."""
    weights, macs, _ = ARCHS[arch]
    nonzeros = round(weights * density)
    formats = {"dense": 32 * weights, "csr": 64 * nonzeros, "bitmap": weights + 32 * nonzeros}
    return Point(
        index=index,
        final=final,
        density=nonzeros / weights,
        parameters=weights + 200,
        nonzeros=nonzeros + 200,
        bits=min(formats.values()),
        bits_format=formats,
        macs=macs,
        effective_macs=round(macs * density**0.9),
        bops=round(macs * density**0.9) * 32 * 32,
        weight_bits=32,
        activation_bits=32,
        epochs=epochs,
        test=accuracy(top1),
        before=accuracy(top1 - 0.2) if density < 1 else None,
        validation=accuracy(top1 + 0.002),
        worst_class_drop=(1 - top1) * 2,
        digest=f"{index:064d}",
    )


def record(
    spec: RunSpec,
    densities: tuple[float, ...],
    dense: str | None,
    skill: float,
    failed: bool = False,
) -> Record:
    """A finished run of this spec; its noise depends on the seed (shared) and on the variant."""
    top = ARCHS[spec.arch][2]
    shared = np.random.default_rng(spec.seed).normal(0, 0.002)
    own = np.random.default_rng([spec.seed, *spec.id.encode()]).normal(0, 0.003)
    points = [
        point(
            index,
            index == len(densities) - 1,
            density,
            top
            - 0.9 / (1 + np.exp(4.2 - skill * np.log2(1 / density))) * (density < 1)
            + shared
            + own,
            spec.arch,
            3.0 * (index + 1),
        )
        for index, density in enumerate(densities)
    ]
    return Record(
        id=spec.id,
        spec=spec,
        status="failed" if failed else "ok",
        reason="layer collapse: conv2.weight has no weight left" if failed else None,
        dense=dense,
        points=() if failed else tuple(points),
        initial="ab" * 32,
        started="2026-01-01T00:00:00+00:00",
        ledger=(
            Spent(phase="score", samples=128, seconds=0.1),
            Spent(phase="finetune", epochs=3, samples=4000, seconds=2),
        ),
        environment=ENVIRONMENT,
        seconds=3,
        peak_memory=2**28,
        dataset={"name": spec.dataset, "digest": "cd" * 32, "licence": "CC BY 4.0"},
    )


def suite(extra: bool = False, seeds: int = 3, tier: Any = "equal") -> list[Record]:
    """All records; `extra` adds twenty variants."""
    found = []
    for arch in ARCHS:
        for seed in range(seeds):
            base = {"arch": arch, "dataset": "digits", "seed": seed}
            start = RunSpec(method="dense", variant="dense", **base)
            found.append(record(start, (1.0,), None, 0))
            base["tier"] = tier
            for variant in (*SKILL, *(EXTRA if extra else ())):
                skill = SKILL.get(variant, 0.5 + 0.01 * len(found) % 0.4)
                for density in DENSITIES:
                    found += one_shot(base, start.id, variant, density, skill)
            for variant, skill in CURVES.items():
                found += curve(base, start.id, variant, skill)
    return found


def one_shot(
    base: dict[str, Any], dense: str, variant: str, density: float, skill: float
) -> list[Record]:
    """One run and, for a method that is no baseline, its two controls."""
    params: dict[str, Any] = {"density": density}
    if "=" in variant:
        params["allocation"] = variant.split("=")[1].rstrip(")")
    spec = RunSpec(
        method=method_of(variant), variant=variant, params=params, finetune=Recipe(epochs=3), **base
    )
    collapsed = (
        variant == "random" and density == 0.02 and base["seed"] == 1 and base["arch"] == "resnet8"
    )
    own = record(spec, (density,), dense, skill, collapsed)
    return [own, *(controls(own, skill) if variant == "saam" else ())]


def curve(base: dict[str, Any], dense: str, variant: str, skill: float) -> list[Record]:
    """One iterative run with a point each round, and its two controls."""
    spec = RunSpec(
        method=variant,
        variant=variant,
        params={"density": min(DENSITIES)},
        densities=DENSITIES,
        finetune=Recipe(epochs=3),
        **base,
    )
    own = record(spec, rounds(variant, base["arch"], base["seed"]), dense, skill)
    return [own, *controls(own, skill)]


def rounds(variant: str, arch: str, seed: int) -> tuple[float, ...]:
    """Densities after each round: the ticket's pass through all that are requested.

    SAP's are its own: on the LSTM it ends above all of them, on the ResNet before the last, and
    with seed 2 at the second.
    """
    if variant == "lottery_ticket":
        return (0.6, 0.35, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02)
    rate, count = (0.84, 5) if arch == "lstm" else (0.62 + 0.005 * seed, 5 if seed == 2 else 8)
    return tuple(rate**k for k in range(1, count + 1))


def controls(own: Record, skill: float) -> list[Record]:
    """The two controls of a run, with as many points as they copy of it."""
    found = []
    for control, handicap in (("random", 0.25), ("magnitude", 0.02)):
        spec = own.spec.model_copy(
            update={
                "method": control,
                "variant": f"{control}(like={own.spec.variant})",
                "like": own.id,
            }
        )
        copied = tuple(point.density for point in own.operating_points)
        found.append(record(spec, copied, own.dense, skill + handicap))
    return found


def write(folder: Path, records: list[Record], latency: bool = True) -> Path:
    """The suite as runs leave it on disk."""
    for item in records:
        home = folder / "runs" / item.id
        home.mkdir(parents=True, exist_ok=True)
        (home / "record.json").write_text(item.model_dump_json())
        (home / "history.jsonl").write_text(
            "".join(json.dumps(entry) + "\n" for entry in history(item))
        )
        lines = [layer(stored) for stored in item.points]
        header = "point,layer,shape,weights,nonzeros,density,macs,effective_macs,bits,"
        header += "weight_bits,activation_bits,bops"
        (home / "layers.csv").write_text("\n".join([header, *lines]) + "\n")
    if latency:
        write_latency(folder / "latency", [item for item in records if item.spec.seed == 0])
    return folder


def layer(stored: Point) -> str:
    """The line of one prunable weight in `layers.csv`."""
    left, macs = round(72 * stored.density), round(4608 * stored.density)
    size = f"72,{left},{stored.density!r},4608,{macs},2304,32,32,{macs * 1024}"
    return f"{stored.index},conv1.weight,(8; 1; 3; 3),{size}"


def history(item: Record) -> list[dict[str, Any]]:
    """Six epochs that approach the final accuracy, and one event of the method's own.

    The ticket first trains the dense net's start again.
    """
    if not item.points:
        return []
    top = item.points[-1].test.top1
    phase = "pretrain" if item.dense is None else "finetune"
    epochs = [
        {
            "event": "epoch",
            "phase": phase,
            "epoch": float(k),
            "step": 11 * k,
            "loss": 2 / k,
            "accuracy": max(0.1, top - 0.2 / k),
            "validation": max(0.1, top - 0.25 / k),
            "lr": 0.05 / k,
            "seconds": 0.5,
        }
        for k in range(1, 7)
    ]
    if item.spec.method == "lottery_ticket":
        replayed = [line | {"phase": "pretrain"} for line in epochs[:2]]
        epochs = [*replayed, *(line | {"epoch": line["epoch"] + 2} for line in epochs)]
    return [*epochs, {"event": "pqi", "layer": "conv1.weight", "round": 1, "pqi": 0.25}]


def write_latency(folder: Path, records: list[Record]) -> None:
    """Times of two paths at two batch sizes, one of them unsupported on the LSTM."""
    from bench.latency.table import COLUMNS

    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {arch: [",".join(COLUMNS)] for arch in ARCHS}
    for item in records:
        for stored in item.points:
            for path, batch in (("dense", 1), ("dense", 32), ("gather", 1), ("gather", 32)):
                row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
                gain = 1.0 if path == "dense" else 0.4 * stored.density**-0.4
                known = path == "dense" or item.spec.arch != "lstm"
                row |= {
                    "dataset": "digits",
                    "arch": item.spec.arch,
                    "run": item.id,
                    "point": stored.index,
                    "role": "baseline" if item.spec.method == "dense" else "candidate",
                    "path": path,
                    "mode": "eager",
                    "device": "cpu",
                    "device_name": "Some CPU",
                    "dtype": "float32",
                    "layout": "nchw",
                    "batch": batch,
                    "threads": 2,
                    "protocol": 1,
                    "torch": "2.15.0",
                    "digest": stored.digest,
                }
                if known:
                    ms = 0.1 * batch / gain
                    row |= {
                        "n": 50,
                        "median_ms": ms,
                        "p5_ms": 0.95 * ms,
                        "p95_ms": 1.1 * ms,
                        "p25_ms": 0.98 * ms,
                        "p75_ms": 1.02 * ms,
                        "min_ms": 0.9 * ms,
                        "speedup": gain,
                        "speedup_low": 0.97 * gain,
                        "speedup_high": 1.03 * gain,
                        "against": "dense eager/nchw",
                        "output_error": 1e-6,
                        "status": "ok",
                    }
                else:
                    row |= {"status": "unsupported", "reason": "no kernel for LSTM"}
                lines[item.spec.arch].append(",".join(str(value) for value in row.values()))
    for arch, rows in lines.items():
        (folder / f"{arch}-digits.csv").write_text("\n".join(rows) + "\n")


def make(folder: Path, **options: Any) -> Path:
    """The made-up suite collected, with its tables in `out`."""
    from bench import tables
    from bench.collect import collect

    write(folder, suite(**options))
    collect(folder)
    tables.write(folder / "tables", folder / "out")
    return folder


def comparison(folder: Path) -> Any:
    """The comparison that `make` wrote."""
    import pandas as pd

    return pd.read_csv(folder / "out" / "comparison.csv")
