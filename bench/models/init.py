"""The initialisation that the image nets of this folder share."""

from __future__ import annotations

from torch import nn


def initialise(model: nn.Module) -> nn.Module:
    """Convolutions Kaiming normal (fan-out), batch norm 1 and 0, biases 0; returns `model`.

    Linear weights keep torch's default. This is the rule of the SAP paper's code and, but for the
    linear layers, that of He et al. (2015); one rule for all nets keeps architectures comparable.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
