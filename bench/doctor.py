"""What this machine has, what is missing, and what cannot work on it and why."""

from __future__ import annotations

import json
import shutil

from bench.env import environment
from bench.products import compiled


def examine(root: str | None) -> int:
    """Print the findings; 1 if something that every suite needs is missing."""
    print(json.dumps(environment(), indent=1))
    bad = False
    try:
        import torch
        import torchvision  # noqa: F401
    except Exception as error:
        print(f"[missing] torch and torchvision do not import together: {error}")
        print("          they must be the ordinary builds of one release; see constraints.txt")
        return 1
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        print(f"[ok]      CUDA: {torch.cuda.get_device_name()}, compute capability {major}.{minor}")
        if major < 8:
            print(
                "[cannot]  bf16 tensor cores and 2:4 sparsity: they need compute capability 8.0 "
                "or more"
            )
    else:
        print("[cannot]  GPU latency and GPU tests: torch sees no CUDA device; CPU latency works")
    if not torch.backends.mkldnn.is_available():
        print("[cannot]  fast CPU baselines: this torch has no oneDNN")
    if tool := compiled.compiler():
        print(f"[ok]      C++ compiler, for the path direct: {tool}")
    else:
        print("[cannot]  the path direct: there is no C++ compiler (g++, clang++ or $CXX)")
    browser = "ok" if shutil.which("chromium") else "absent"
    print(f"[{browser}]  chromium, for the browser test of MLflow")
    from bench import data

    where = data.root(root)
    print(f"data root: {where}")
    for name, (found, why) in data.describe(where).items():
        print(f"[{'ok' if found else 'absent'}]  {name}: {why}")
    for module in ("mlflow", "snakemake", "timm", "torch_pruning", "sklearn"):
        try:
            __import__(module)
        except ImportError as error:
            bad = True
            print(f"[missing] {module}: {error}; run `make` again")
    return int(bad)
