"""A campaign's config, and what it measures: subjects (nets, layers) and their pruned versions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import nn

from bench import models, rng
from bench.latency.config import LatencyConfig
from bench.latency.trial import Target
from bench.method import Density, make
from bench.spec import Frozen, slug
from bench.speed.shapes import LayerShape, shapes
from bench.speed.still import BRANCH, left_by, settled
from bench.suite import ConfigError, load_yaml, parse

FOLDER = Path(__file__).parents[1] / "config" / "speed"
CLASSES = 1000
UNSAID = ("density", "uneven", "allocation")
"""Parameters that a version's label leaves out."""
KEPT = 32
"""Nets that are held in memory while a subject is measured."""


class Part(Frozen):
    """Subjects of one kind, their versions, and how they are timed."""

    of: tuple[str, ...] = Field(min_length=1, description="nets by name")
    only: tuple[str, ...] = Field(
        ("*",), min_length=1, description="of their layers those with such names (conv3x3-*)"
    )
    relu: bool = Field(
        False, description="a ReLU after each convolution: cuDNN adds a bias only together with one"
    )
    versions: dict[str, tuple[dict[str, Any], ...]] = Field(
        description="method -> its parameters: what prunes, without training"
    )
    densities: tuple[Density, ...] = Field(min_length=1, description="of every version")
    latency: LatencyConfig


class Campaign(Frozen):
    """The schema of the files in `bench/config/speed`."""

    campaign: str = Field(pattern=r"^[a-z0-9_]+$", description="results go to results/<campaign>")
    image: tuple[int, int, int] = Field((3, 224, 224), description="(C, H, W) of the nets' inputs")
    layers: Part | None = Field(None, description="the distinct layers of the nets, one by one")
    nets: Part | None = Field(None, description="whole nets")

    @model_validator(mode="after")
    def _for_layers(self) -> Campaign:
        if self.nets and (self.nets.relu or self.nets.only != ("*",)):
            raise ValueError("only and relu are said of layers, not of nets")
        return self


@dataclass(frozen=True)
class Subject:
    """A net or a layer: what is pruned and timed.

    `shape`: of one input; `relu`: whether one follows the layer.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    part: Part
    layer: LayerShape | None = None
    relu: bool = False

    @property
    def file(self) -> str:
        """Its name as files and the workflow have it."""
        return self.name if self.layer else slug(self.name)

    def dense(self) -> nn.Module:
        """The unpruned subject, with weights that depend on its name alone."""
        with rng.forked("speed", self.name):
            if self.layer is not None:
                after = [nn.ReLU()] * self.relu
                return nn.Sequential(self.layer.build(), *after).eval()
            channels, high, wide = self.shape
            return settled(models.build(self.name, (channels, high, wide), CLASSES), self.shape)

    @cached_property
    def versions(self) -> dict[str, partial[nn.Module]]:
        """Label (`random(pattern=channel)@0.1`) -> what makes that version."""
        found: dict[str, partial[nn.Module]] = {}
        for method, settings in self.part.versions.items():
            for params in settings:
                shown = {key: value for key, value in params.items() if key not in UNSAID}
                said = ", ".join(f"{key}={value}" for key, value in shown.items())
                own = [params["density"]] if "density" in params else self.part.densities
                for density in own:
                    label = method + (f"({said})" if said else "") + f"@{density:g}"
                    if label in found:
                        raise ConfigError(f"{self.name}: two versions are called {label}")
                    made = make(method, {**params, "density": density})
                    found[label] = partial(self._pruned, made)
        return found

    def _pruned(self, method: Any) -> nn.Module:
        return left_by(method, self.dense(), self.shape)

    def target(self, label: str) -> Target:
        """A version, or `dense`, under the name that the protocol knows it by."""
        made = self.versions[label].args[0] if label != "dense" else None
        how = made and (type(made).__name__, made.version, made.model_dump_json())
        said = f"{self.kind} {self.name} {self.shape} {how} settled at {BRANCH}"
        return Target(label, 0, hashlib.sha256(said.encode()).hexdigest(), Path(label))

    def loader(self) -> Callable[[Path], nn.Module]:
        """Makes the net that a target's folder stands for; the last ones are kept."""
        makers = self.versions | {"dense": self.dense}

        @lru_cache(KEPT)
        def load(folder: Path) -> nn.Module:
            with torch.inference_mode(False):  # which the protocol runs in; surgery needs gradients
                return makers[str(folder)]()

        return load


def find(name: str) -> Path:
    """The file of a campaign's name, or of a path to one; `ConfigError` if there is none."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
    if name not in known:
        raise ConfigError(f"no campaign {name!r}; there are: {', '.join(known)}, or a path")
    return known[name]


def read(path: Path) -> Campaign:
    """The validated campaign in a YAML file; `ConfigError` names the file and the key."""
    return parse(Campaign, load_yaml(path), str(path), Part, LatencyConfig)


def subjects(campaign: Campaign) -> dict[str, Subject]:
    """By the name of their file; a layer that several nets share stands there once."""
    found: dict[str, Subject] = {}
    for net in campaign.layers.of if campaign.layers else ():
        for layer in net_layers(net, campaign.image):
            assert campaign.layers
            relu = campaign.layers.relu and layer.window is not None
            name = layer.name + "-relu" * relu
            subject = Subject("layers", name, layer.inputs, campaign.layers, layer, relu)
            if any(fnmatchcase(layer.name, wanted) for wanted in campaign.layers.only):
                found.setdefault(subject.file, subject)
    wanted = campaign.layers.only if campaign.layers else ()
    names = [one.layer.name for one in found.values() if one.layer]
    if missing := [own for own in wanted if not any(fnmatchcase(name, own) for name in names)]:
        raise ConfigError(f"no layer of these nets is called {', '.join(missing)}")
    for net in campaign.nets.of if campaign.nets else ():
        assert campaign.nets
        subject = Subject("nets", net, campaign.image, campaign.nets)
        found[subject.file] = subject
    return found


@lru_cache
def net_layers(net: str, image: tuple[int, int, int]) -> dict[LayerShape, int]:
    """The distinct layers of a net by name, and how often each runs."""
    with torch.no_grad():
        return shapes(models.build(net, image, CLASSES), image)
