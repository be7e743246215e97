"""The machine and the software behind a number: versions, processor, GPU, clocks, git state.

Cheap (tens of milliseconds) and light: versions come from package metadata, so nothing heavy is
imported. Neither host name, user name nor any path is part of it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pydantic",
    "safetensors",
    "snakemake",
    "mlflow",
)
LIBRARIES = ("cudnn", "cublas", "cusparse", "cusparselt", "nccl")
DRIVER_NODES = ("/dev/nvidiactl", "/dev/dxg")
THROTTLE = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
"""NVML's clock event bits that mean slowed down; idle and application clocks do not."""


def environment() -> dict[str, Any]:
    """Everything outside the code that can move a result, as JSON-ready values."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "os": f"{platform.system()} {numeric(platform.release())}",
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_bytes": memory(),
        "cuda": cuda_libraries(),
        "gpus": gpus(),
        "git": git(),
    }


def numeric(release: str) -> str:
    """The leading numbers of a kernel release; what follows names whoever built it."""
    return release[: len(release) - len(release.lstrip("0123456789."))].strip(".")


def installed(package: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def cpu_name() -> str:
    """The processor's model name as the operating system gives it."""
    with suppress(OSError):
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of main memory; none where the system does not tell."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


@cache
def cuda_libraries() -> dict[str, str]:
    """CUDA version that torch was built for, and the NVIDIA libraries installed beside it."""
    found: dict[str, str] = {}
    with suppress(PackageNotFoundError, OSError):
        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text()
        built = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        if built:
            found["cuda"] = built[1]
    for library in LIBRARIES:
        # From CUDA 13 on some wheels carry no suffix.
        names = [f"nvidia-{library}{suffix}" for suffix in ("-cu13", "", "-cu12")]
        known = next((value for name in names if (value := installed(name))), None)
        if known:
            found[library] = known
    return found


def gpus() -> list[dict[str, Any]]:
    """Name, driver and memory of each NVIDIA GPU; empty where there is none or no NVML."""
    nvml = management()
    if nvml is None:
        return []
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [
        {
            "name": text(nvml.nvmlDeviceGetName(handle)),
            "driver": text(nvml.nvmlSystemGetDriverVersion()),
            "memory_bytes": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        }
        for handle in handles
    ]


def git() -> dict[str, Any]:
    """Commit of this checkout and whether tracked files differ from it; nones without one."""
    root = Path(__file__).resolve().parent.parent
    nothing = {"commit": None, "dirty": None}
    if not (root / ".git").exists():
        return nothing
    command = [
        "git",
        "-C",
        str(root),
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=no",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return nothing
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", done.stdout, re.MULTILINE)
    dirty = any(not line.startswith("#") for line in done.stdout.splitlines())
    return {"commit": commit[1] if commit else None, "dirty": dirty}


def clocks(gpu: str | None = None) -> dict[str, Any]:
    """Clock (MHz), power (W), temperature (degrees C) and throttle reasons now; none where unknown.

    Args:
        gpu: UUID of the GPU (`torch.cuda.get_device_properties(...).uuid`); none: the processor, of
            which only the clock is known.
    """
    state: dict[str, Any] = {
        "clock_mhz": None,
        "power_w": None,
        "temperature_c": None,
        "throttle": None,
    }
    if gpu is None:
        return state | {"clock_mhz": cpu_clock()}
    nvml = management()
    if nvml is None:
        return state
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu if gpu.startswith("GPU-") else f"GPU-{gpu}")
    except nvml.NVMLError:  # a part of a GPU, or a virtual one, has another name there
        return state
    # A virtual GPU may hide any one of these sensors; the others still count.
    with suppress(nvml.NVMLError):
        state["clock_mhz"] = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    with suppress(nvml.NVMLError):
        state["power_w"] = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
    with suppress(nvml.NVMLError):
        state["temperature_c"] = float(
            nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        )
    with suppress(nvml.NVMLError):
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        state["throttle"] = "+".join(name for bit, name in THROTTLE.items() if bits & bit) or "none"
    return state


def energy_mj() -> float | None:
    """Energy that the current GPU has used so far, in mJ; none where no counter is known."""
    import torch

    nvml = management()
    if nvml is None or not torch.cuda.is_available():
        return None
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    with suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    return None


def cpu_clock() -> float | None:
    """Mean clock in MHz over the cores that this process may use."""
    with suppress(OSError):
        listed = re.findall(
            r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        allowed = (
            os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(listed))
        )
        own = [float(listed[core]) for core in allowed if core < len(listed)]
        if own:
            return round(sum(own) / len(own), 1)
    return None


@cache
def management() -> Any:
    """NVML, started; none where the package, the driver or a GPU is missing."""
    # Without a driver's device file (WSL has its own) importing the bindings would be wasted time.
    if os.name == "posix" and not any(Path(node).exists() for node in DRIVER_NODES):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def text(value: str | bytes) -> str:
    """NVML's strings: bytes in old versions."""
    return value.decode() if isinstance(value, bytes) else value
