"""The ONNX Runtime path: the net exported to ONNX, as many people deploy on CPUs.

Its kernels ignore zeros, so it runs unpruned and pruned nets alike, and it competes with torch for
the dense baseline. Needs the packages `onnx`, `onnxscript` and `onnxruntime`.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import logging
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"cpu": ("fp32",)}
MODES = ("eager",)
LAYOUTS = ("nchw",)
BASELINE, ZEROS = True, False
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def supports(layer: nn.Module, name: str) -> tuple[bool, str]:
    """Whatever can be exported; zeros are numbers to it."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    return not missing, f"not installed: {', '.join(missing)}" if missing else ""


def applies(model: nn.Module, dense: nn.Module) -> tuple[bool, str]:
    """Every net, where the packages are there."""
    return supports(model, "")


@cache
def version() -> str:
    """`onnxruntime 1.31.1`; empty without it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return ""
    return f"onnxruntime {importlib.metadata.version('onnxruntime')}"


def convert(model: nn.Module) -> nn.Module:
    """The net as a session of ONNX Runtime; exported at the first call, which gives the shape."""
    return Session(model)


class Session(nn.Module):
    """A net of one input and one output, in ONNX Runtime with as many threads as torch has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.shape = model, torch.Size()
        self.session: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Run the session of this shape."""
        if self.session is None or x.shape != self.shape:
            self.session, self.shape = session(self.model, x), x.shape
        inputs = {self.session.get_inputs()[0].name: x.numpy()}
        return torch.from_numpy(self.session.run(None, inputs)[0])


def session(model: nn.Module, x: Tensor) -> Any:
    """`model`, exported at the shape of `x`, ready to run."""
    import onnxruntime

    from bench.latency.machine import settle

    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = ordinary(model)
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(plain, (x.clone(),), dynamo=True, verbose=False)
    assert program is not None
    written = program.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as torch is set, too
    # its threads would go on turning while the other side is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    made = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    settle()  # the session has set this thread, too
    return made


def ordinary(model: nn.Module) -> nn.Module:
    """A copy whose tensors were not made in inference mode: the export tracks gradients."""
    plain = copy.deepcopy(model)
    for module in plain.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    return plain
