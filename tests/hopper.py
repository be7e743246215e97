"""Triton kernels without a GPU: interpreted, or compiled for Hopper and read."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


def interpreted(name, monkeypatch):
    """The body of a fixture: the module `name` with its kernels on the CPU.

    Triton decides that when a kernel is defined.
    """
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    module = importlib.reload(importlib.import_module(name))
    yield
    monkeypatch.undo()
    importlib.reload(module)


def built(kernel, pointers, sizes, aligned=(), warps=4, stages=3):
    """What the compiler makes, by kind ("ptx", "cubin").

    `pointers`: argument -> element type; `sizes`: those known when compiling; `aligned`: numbers
    that are multiples of 16, as pointers are. Others are 32-bit integers, `low` and `high` fp32.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    kinds = {name: f"*{kind}" for name, kind in pointers.items()} | {"low": "fp32", "high": "fp32"}
    kinds |= dict.fromkeys(sizes, "constexpr")
    whole = [*pointers, *aligned]
    source = ASTSource(
        kernel,
        {name: kinds.get(name, "i32") for name in names},
        {(names.index(name),): value for name, value in sizes.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in whole},
    )
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm


def wide_copies(code, warps):
    """Bytes that a program's asynchronous copies of 16 bytes move, in all that are written down."""
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*?, (0x\w+)", code["ptx"])
    return 16 * 32 * warps * copies.count("0x10")


def spills(code, folder):
    """The report of registers that went to memory; empty if none did."""
    (folder / "kernel.cubin").write_bytes(code["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    said = subprocess.run(
        [tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True
    ).stdout
    return "" if re.search(r"STACK:0\b.*LOCAL:0\b", said) else said
