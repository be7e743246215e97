"""Save and load a net whose layers surgery has changed, without pickling anything.

A folder holds `model.safetensors` (the state dict) and `structure.json` (the architecture, and each
layer that is not as `bench.models.build` makes it). `structure.json` is written last and holds the
digest of the weights, so a folder with half a net in it is recognised.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.surgery import leaves, quantised_input
from bench.surgery.probe import SurgeryError

WEIGHTS, STRUCTURE = "model.safetensors", "structure.json"


def save(
    model: nn.Module, folder: str | Path, arch: str, shape: tuple[int, int, int], classes: int
) -> None:
    """Write `model`, built as `arch` for `shape` and `classes` and then changed, to `folder`.

    A layer may have another size, quantise its input, or be replaced by a plain torch layer or an
    `nn.Sequential` of such.

    Raises:
        SurgeryError: the net holds a module that cannot be described this way; the message names
        it.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = _build(arch, shape, classes)
    layers = dict(_changes(model, fresh, ""))
    for name, entry in layers.items():
        fresh = _replace(fresh, name, entry)
    state, expected = model.state_dict(), fresh.state_dict()
    _same_names(state, expected, arch)
    stored, aliases = _untie(state)
    structure = {
        "arch": arch,
        "shape": list(shape),
        "classes": classes,
        "digest": digest(model),
        "layers": layers,
        "tensors": {n: list(t.shape) for n, t in state.items() if t.shape != expected[n].shape},
        "aliases": aliases,
    }
    with _renamed(folder / WEIGHTS) as path:
        save_file({n: t.detach().cpu().contiguous() for n, t in stored.items()}, path)
    with _renamed(folder / STRUCTURE) as path:
        path.write_text(json.dumps(structure, indent=1) + "\n", encoding="utf-8")


def load(folder: str | Path) -> nn.Module:
    """The net in `folder`, on the CPU, bitwise as it was saved. No random state is touched.

    Raises:
        SurgeryError: a file is missing, or the weights are not those that the structure describes.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    for file in (STRUCTURE, WEIGHTS):
        if not (folder / file).is_file():
            raise SurgeryError(f"{folder} holds no {file}: it is not a saved net, or is unfinished")
    structure = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))
    model = _build(structure["arch"], tuple(structure["shape"]), structure["classes"])
    for name, entry in structure["layers"].items():
        model = _replace(model, name, entry)
    state = load_file(folder / WEIGHTS)
    state |= {name: state[first] for name, first in structure["aliases"].items()}
    _fill(model, state, structure["tensors"], structure["arch"])
    for name, first in structure["aliases"].items():
        _tie(model, name, first)
    if digest(model) != structure["digest"]:
        raise SurgeryError(f"{folder / WEIGHTS} is not the file that {STRUCTURE} was written for")
    return model


def digest(model: nn.Module) -> str:
    """sha256 over name, dtype, shape and bytes of the state dict's tensors, sorted by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


class _NoInit(TorchFunctionMode):
    """Leaves out the drawing of initial weights, which the stored ones would overwrite."""

    DRAWS = frozenset(("normal_", "uniform_", "trunc_normal_", "bernoulli_"))

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", "") == "torch.nn.init" or name in self.DRAWS:
            return options["tensor"] if "tensor" in options else args[0]
        return func(*args, **options)


def _build(arch: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    from bench import models

    with torch.random.fork_rng(devices=[]), _NoInit():
        return models.build(arch, shape, classes)


def _changes(model: nn.Module, fresh: nn.Module, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dotted name and the description of every layer of `model` that is not as in `fresh`."""
    if quantised_input.plain(type(model)) is not type(fresh):
        yield name, _describe(model, name)
        return
    base = leaves.kind(model)
    if base is not None:
        values, quantiser = leaves.arguments(model), quantised_input.arguments(model)
        if values != leaves.arguments(fresh) or quantiser:
            resized = type(model) is not base
            entry = {"type": base.__name__, "arguments": values, "resized": resized}
            yield name, entry | ({"quantised_input": quantiser} if quantiser else {})
        return
    children, others = dict(model.named_children()), dict(fresh.named_children())
    if list(children) != list(others):
        yield name, _describe(model, name)
        return
    for child, module in children.items():
        yield from _changes(module, others[child], f"{name}.{child}" if name else child)


def _describe(module: nn.Module, name: str) -> dict[str, Any]:
    if type(module) is nn.Sequential:
        children = {c: _describe(m, f"{name}.{c}") for c, m in module.named_children()}
        return {"type": "Sequential", "children": children}
    base = leaves.kind(module)
    if base is None or type(module) is not base:
        known = ", ".join(leaves.KINDS)
        raise SurgeryError(
            f"{name or 'the net'} was replaced by a {type(module).__name__}, "
            f"which cannot be stored; use nn.Sequential and {known}"
        )
    return {"type": base.__name__, "arguments": leaves.arguments(module), "resized": False}


def _replace(model: nn.Module, name: str, entry: dict[str, Any]) -> nn.Module:
    """`model` with the layer `name` as `entry` says; the new layer if it is the whole net."""
    if entry.get("resized"):
        layer = model.get_submodule(name)
        leaves.resize(layer, entry["arguments"])
        if "quantised_input" in entry:
            quantised_input.attach(layer, **entry["quantised_input"])
        return model
    layer = _construct(entry)
    if not name:
        return layer
    model.set_submodule(name, layer)
    return model


def _construct(entry: dict[str, Any]) -> nn.Module:
    if entry["type"] == "Sequential":
        layers = nn.Sequential()
        for name, child in entry["children"].items():
            layers.add_module(name, _construct(child))
        return layers
    return leaves.construct(leaves.KINDS[entry["type"]], entry["arguments"])


def _same_names(state: dict[str, Tensor], expected: dict[str, Tensor], arch: str) -> None:
    if odd := sorted(set(state) ^ set(expected)):
        raise SurgeryError(
            f"{arch} with its changed layers and the weights differ in: {', '.join(odd)}"
        )


def _fill(
    model: nn.Module, state: dict[str, Tensor], shapes: dict[str, list[int]], arch: str
) -> None:
    """Put the stored tensors, with their dtypes, in the place of the model's own."""
    _same_names(state, model.state_dict(), arch)
    own: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    own |= dict(model.named_buffers(remove_duplicate=False))
    for name, tensor in state.items():
        expected = shapes.get(name, list(own[name].shape))
        if list(tensor.shape) != expected:
            raise SurgeryError(
                f"{name} is {list(tensor.shape)} in {WEIGHTS}, but {expected} is due"
            )
        # a copy is aligned in memory as every other tensor; a view of the file is not, and kernels
        # that look at the alignment then add in another order (outputs differ in the last bits)
        own[name].data = tensor.clone()


def _untie(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, and for each second name of a tensor its first name."""
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        owner = first.setdefault(place, name) if tensor.numel() else name
        if owner != name:
            aliases[name] = owner
    return {name: t for name, t in state.items() if name not in aliases}, aliases


def _tie(model: nn.Module, name: str, first: str) -> None:
    source, target = (model.get_submodule(n.rpartition(".")[0]) for n in (first, name))
    setattr(target, name.rpartition(".")[2], getattr(source, first.rpartition(".")[2]))


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
