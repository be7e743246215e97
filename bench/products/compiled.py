"""C++ beside a Python module: compiled on first use by the system's compiler, kept in a cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC"),
    *("-ffp-contract=fast", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math"),
)


class CompilerError(RuntimeError):
    """There is no compiler, or it failed; the message has its last lines."""


def compiler() -> str | None:
    """The C++ compiler: $CXX, else g++ or clang++; none if there is none."""
    return next(
        filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))), None
    )


@cache
def library(source: Path) -> ctypes.CDLL:
    """The functions of a C++ file, compiled for this very processor.

    Compiled again where the file, the compiler or the processor is another. The cache is
    $XDG_CACHE_HOME or ~/.cache. OpenMP is torch's own: with a second one in the process, the
    threads of both would fight for the cores.

    Raises:
        CompilerError: see there.
    """
    found = compiler()
    if found is None:
        raise CompilerError("there is no C++ compiler: g++ or clang++, or what $CXX names")
    known = [source.read_bytes(), _run(found, "--version"), processor(), " ".join(FLAGS)]
    own = hashlib.sha256("\n".join(map(str, known)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pruning-benchmark"
    made = folder / f"{source.stem}-{own}.so"
    if not made.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            partial = Path(scratch) / source.stem
            _run(found, *FLAGS, "-c", str(source), "-o", f"{partial}.o")
            _run(found, "-shared", f"{partial}.o", "-o", f"{partial}.so")
            os.replace(f"{partial}.so", made)  # another process may be doing the same
    import torch  # noqa: F401 (its OpenMP has to be there first)

    try:
        return ctypes.CDLL(str(made))
    except OSError as error:  # clang's OpenMP, for one, is not the one that torch brings
        raise CompilerError(f"what {Path(found).name} made cannot be loaded: {error}") from None


def digest(*modules: ModuleType | Path) -> str:
    """Of Python modules, or their files, and the C++ files beside them."""
    files = [m if isinstance(m, Path) else Path(str(m.__file__)) for m in modules]
    files += [own for file in files if (own := file.with_suffix(".cpp")).exists()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def processor() -> str:
    """What the machine calls itself and the instructions that it has, where Linux says so."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    own = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(own)])


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise CompilerError(f"{Path(command[0]).name} failed: {said}")
    return done.stdout
