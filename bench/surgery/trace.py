"""Which channels of a net stand or fall together, found by tracing one forward pass.

torch-pruning's graph says which layer feeds which and where concatenation, splitting and flattening
put an index. A union-find over single channels then joins what must be removed together: residual
adds and gates (two producers, one channel), depthwise convolutions (input c and output c), grouped
convolutions and the layers of a recurrent module (equal positions, since the groups or layers keep
one common size).

A channel is not removable where its absence changes its neighbours (layer and group norm,
attention, softmax), where it is the net's output or its image, or where the trace does not know
what happens to it.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.surgery.layers import CONVOLUTIONS, RECURRENT, TRANSPOSED
from bench.surgery.probe import SurgeryError, probe_of
from bench.surgery.slices import Entry, Layer, places

CONVOLVING = (*CONVOLUTIONS, *TRANSPOSED)
TWO_SIDED = (*CONVOLVING, nn.Linear)  # input and output channels are different things
BATCH_NORM = nn.modules.batchnorm._BatchNorm
INSTANCE_NORM = nn.modules.instancenorm._InstanceNorm
PER_CHANNEL = (BATCH_NORM, INSTANCE_NORM, nn.PReLU)
OUTPUT, IMAGE = "is the output of the net", "is a channel of the image"
# Autograd's names, without "Backward0": work on each channel alone, or only move whole channels.
ALONE = frozenset(
    re.findall(
        r"\w+",
        """
        Abs AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveMaxPool2D Add Alias AsStrided AvgPool2D
        AvgPool3D
    BatchNorm Bernoulli Cat Clamp ClampMax ClampMin Clone ConstantPadNd Contiguous CudnnBatchNorm
    Detach Div Elu Expand Gelu Hardsigmoid Hardswish Hardtanh LeakyRelu MaxPool2DWithIndices
    MaxPool3DWithIndices Maximum Mean Mish MkldnnConvolution Mul Native NativeBatchNorm
    NativeDropout Neg Permute Pow Relu Relu6 Reshape ReflectionPad2D Round Select Sigmoid Sign Silu
    Slice Softplus Split SplitWithSizes Squeeze Stack Sub Sum T Tanh ToCopy Transpose UnsafeView
    Unsqueeze UpsampleBilinear2D UpsampleNearest2D View ViewAs Where _CopySlices""",
    )
)


# Channels that are removed together: for each tensor and axis the indices along it.
Unit = dict[Entry, tuple[int, ...]]


@dataclass
class Trace:
    """Every removable unit of a net, and for the other producing channels why they are not."""

    units: list[Unit] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # weight name -> reason


class _Atoms:
    """Union-find over single channels. An atom is (node, side, index along the channel axis)."""

    def __init__(self) -> None:
        self.parent: dict[Any, Any] = {}
        self.blocked: dict[Any, str] = {}

    def find(self, atom: Any) -> Any:
        root = self.parent.setdefault(atom, atom)
        while root != self.parent[root]:
            root = self.parent[root]
        while atom != root:
            self.parent[atom], atom = root, self.parent[atom]
        return root

    def join(self, first: Any, second: Any) -> None:
        a, b = self.find(first), self.find(second)
        if a != b:
            self.parent[b] = a
            if b in self.blocked:
                self.blocked.setdefault(a, self.blocked.pop(b))

    def block(self, atom: Any, reason: str) -> None:
        self.blocked.setdefault(self.find(atom), reason)


def trace(model: nn.Module, shape: tuple[int, ...]) -> Trace:
    """The removable units of `model` for inputs of `shape` (without batch); the net stays as it is.

    Raises:
        SurgeryError: the net cannot be traced, shares a weight between layers, or has an LSTM with
            a projection.
    """
    _check_weights(model)
    probe, layers, image = probe_of(model, shape)
    graph = _graph(probe, image)
    nodes = list(graph.module2node.values())
    named = {id(p): name for name, p in probe.named_parameters()}
    atoms = _Atoms()
    reached = _propagate(nodes, graph, atoms)
    for node in nodes:
        _couple(node, atoms)
    _couple_directions(nodes, layers, atoms)
    for node in nodes:
        _block(node, image, reached.get(node, []), atoms)
    return _collect(nodes, layers, named, atoms)


def _check_weights(model: nn.Module) -> None:
    owners = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)].append(name)
    shared = next((names for names in owners.values() if len(names) > 1), None)
    if shared:
        raise SurgeryError(f"{' and '.join(shared)} are one tensor: its channels cannot be removed")
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM) and module.proj_size:
            raise SurgeryError(f"{name} has a projection (proj_size); its units cannot be removed")


def _graph(probe: nn.Module, image: nn.Parameter) -> Any:
    import torch_pruning

    graph = torch_pruning.DependencyGraph()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph.build_dependency(
                probe, (image,), unwrapped_parameters=[(image, 1)], verbose=False
            )
    except SurgeryError:
        raise
    except Exception as error:  # whatever the net or the tracer raises
        raise SurgeryError(f"{type(probe).__name__} cannot be traced: {error}") from error
    return graph


def _width(node: Any, side: str) -> int | None:
    """Channels of a node whose module says so."""
    module = node.module
    if isinstance(module, CONVOLVING):
        return module.in_channels if side == "in" else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if side == "in" else module.out_features
    if isinstance(module, (BATCH_NORM, INSTANCE_NORM)):
        return module.num_features
    if isinstance(module, nn.Parameter):
        return module.shape[node.pruning_dim] if module.dim() else None
    if node.type.name in ("LN", "GN"):
        return getattr(module, "num_channels", None) or module.normalized_shape[-1]
    return None


def _propagate(nodes: list[Any], graph: Any, atoms: _Atoms) -> dict[Any, list[frozenset[int]]]:
    """Carry each producer's channels forward; returns for each node what each edge brought."""
    known: dict[Any, set[int]] = defaultdict(set)
    edges: dict[Any, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    queue = []
    for node in nodes:
        width = _width(node, "out")
        if width:
            known[node] = set(range(width))
            queue.append((node, sorted(known[node])))
    while queue:
        node, indices = queue.pop()
        for dependency in node.dependencies:
            target = dependency.target
            if not any(target is n for n in node.outputs):
                continue
            two_sided = isinstance(target.module, TWO_SIDED)
            fresh = []
            for source, index in _mapped(dependency, indices):
                edges[target][id(dependency)].add(index)
                atoms.join((node, "out", source), (target, "in" if two_sided else "out", index))
                if not two_sided and index not in known[target]:
                    known[target].add(index)
                    fresh.append(index)
            if fresh:
                queue.append((target, fresh))
    return {node: [frozenset(e) for e in by.values()] for node, by in edges.items()}


def _mapped(dependency: Any, indices: list[int]) -> list[tuple[int, int]]:
    """(source, target) for each index that crosses an edge of torch-pruning's graph."""
    from torch_pruning._helpers import _HybridIndex

    crossing = [_HybridIndex(idx=i, root_idx=i) for i in indices]
    for mapping in dependency.index_mapping:
        if mapping is not None:
            crossing = mapping(crossing)
    return [(c.root_idx, c.idx) for c in crossing]


def _couple(node: Any, atoms: _Atoms) -> None:
    """Join the channels that the groups of a convolution tie to each other."""
    module = node.module
    if not isinstance(module, CONVOLVING) or module.groups == 1:
        return
    inside, outside = module.in_channels // module.groups, module.out_channels // module.groups
    if inside == 1:  # depthwise: a group is a channel and goes as a whole
        for o in range(module.out_channels):
            atoms.join((node, "in", o // outside), (node, "out", o))
        return
    for i in range(inside, module.in_channels):
        atoms.join((node, "in", i % inside), (node, "in", i))
    for o in range(outside, module.out_channels):
        atoms.join((node, "out", o % outside), (node, "out", o))


def _couple_directions(nodes: list[Any], layers: dict[nn.Module, Layer], atoms: _Atoms) -> None:
    """Join the hidden units, and the inputs, of both directions of a recurrent module."""
    first: dict[int, Any] = {}
    for node in nodes:
        layer = layers.get(node.module)
        if layer is not None and isinstance(layer.module, RECURRENT):
            other = first.setdefault(id(layer.module), node)
            for side in ("in", "out"):
                for index in range(_width(node, side) or 0):
                    atoms.join((other, side, index), (node, side, index))


def _block(node: Any, image: nn.Parameter, brought: list[frozenset[int]], atoms: _Atoms) -> None:
    """Mark the channels of a node that cannot be removed, with the reason."""
    side = "in" if isinstance(node.module, TWO_SIDED) else "out"
    arrived = frozenset[int]().union(*brought)
    reason, width = _refusal(node, image), _width(node, side)
    if reason is None and brought:
        expected = frozenset(range(width)) if width else brought[0]
        if node.type.name != "CONCAT" and any(edge != expected for edge in brought):
            reason = f"does not line up with the channels of {_label(node)}"
    elif reason is None and width and side == "out" and not isinstance(node.module, nn.Parameter):
        reason = f"{_label(node)} reads the image"  # no traced layer feeds it
    if reason is not None:
        for index in arrived | frozenset(range(width or 0)):
            atoms.block((node, side, index), reason)
    if not node.outputs:
        for index in range(_width(node, "out") or 0) if side == "in" else arrived:
            atoms.block((node, "out", index), OUTPUT)


def _refusal(node: Any, image: nn.Parameter) -> str | None:
    """Why no channel that passes `node` can be removed; None if it can."""
    kind, module = node.type.name, node.module
    if module is image:
        return IMAGE
    if kind in ("LN", "GN"):
        return f"is normalised together with its neighbours by {_label(node)}"
    if kind in ("MHA", "EMBED", "UNBIND", "CUSTOMIZED", "LSTM"):
        return f"passes {_label(node)}, whose channels cannot be taken apart"
    if kind in ("ELEMENTWISE", "EXPAND", "SLICE", "SPLIT", "CONCAT", "RESHAPE"):
        name = node.grad_fn.name() if hasattr(node.grad_fn, "name") else "an unknown operation"
        operation = re.sub(r"Backward\d*$", "", name.rpartition("::")[2])
        # the product inside a linear layer is a node of its own when the layer works on a sequence
        inner = all(isinstance(n.module, nn.Linear) for n in node.outputs) and node.outputs
        if operation not in ALONE and not (operation in ("Mm", "Addmm") and inner):
            return f"passes {operation}, which is not known to treat channels one by one"
    return None


def _label(node: Any) -> str:
    return str(node.name).partition(" (")[0]


def _collect(
    nodes: list[Any], layers: dict[nn.Module, Layer], named: dict[int, str], atoms: _Atoms
) -> Trace:
    """Turn the joined channels into units of tensor entries."""
    units: dict[Any, dict[Entry, set[int]]] = defaultdict(lambda: defaultdict(set))
    for node, side, index in list(atoms.parent):
        unit = units[atoms.find((node, side, index))]
        if isinstance(node.module, nn.Parameter):
            if id(node.module) in named:
                axis = node.pruning_dim % node.module.dim()
                unit[Entry(named[id(node.module)], axis, True)].add(index)
        elif isinstance(node.module, (*TWO_SIDED, *PER_CHANNEL)):
            for entry, place in places(layers[node.module], side, index):
                unit[entry].add(place)
    found = Trace()
    for root, unit in units.items():
        reason = atoms.blocked.get(root)
        if reason is None:
            found.units.append({e: tuple(sorted(places)) for e, places in unit.items()})
        elif reason not in (OUTPUT, IMAGE):
            weights = (e.name for e in unit if e.output and e.name.endswith("weight"))
            found.refused |= dict.fromkeys(weights, reason)
    return found
