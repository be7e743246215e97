"""A method run as the harness runs it, without the files: what the contract's tests look at."""

from __future__ import annotations

import copy
from unittest import mock

import torch
from torch import nn

from bench import models, rng
from bench.method import load, make
from bench.spec import Recipe, RunSpec
from bench.surgery import Masks
from bench.trainer import Trainer

TRAIN, FINETUNE = (
    Recipe(epochs=2, lr=0.05, batch_size=64),
    Recipe(epochs=1.5, lr=0.02, batch_size=64),
)
DENSITY = 0.3


class Bench:
    """Runs a method as the harness does, without the files."""

    def __init__(self, digits, arch: str, method: str, seed: int = 0, **params):
        self.digits, self.arch, self.seed = digits, arch, seed
        kind = load(method)
        if "density" in kind.model_fields:
            params = {"density": DENSITY, **params}
        self.method = make(method, params)
        self.spec = RunSpec(
            method=method,
            arch=arch,
            dataset="digits",
            train=TRAIN,
            finetune=None if method == "dense" else FINETUNE,
            seed=seed,
        )
        self.budget = TRAIN.epochs if method == "dense" else FINETUNE.epochs
        if kind.start == "init" and method != "dense":
            self.budget += TRAIN.epochs
        self.lines: list[dict] = []
        self.masks: list[Masks] = []  # what training held at zero, at each point

    def initial(self) -> nn.Module:
        with rng.forked("init", self.arch, self.seed):
            return models.build(self.arch, self.digits.shape, self.digits.classes)

    def trainer(self, spec=None, budget=None) -> Trainer:
        return Trainer(
            spec or self.spec,
            self.digits,
            torch.device("cpu"),
            self.initial,
            self.budget if budget is None else budget,
            self.lines.append,
        )

    def start(self) -> nn.Module:
        model = self.initial()
        if self.method.start == "dense":
            spec = self.spec.model_copy(update={"finetune": None})
            self.trainer(spec, TRAIN.epochs).fit(model, phase="pretrain")
        return model

    def points(self, start: nn.Module | None = None) -> tuple[list[nn.Module], Trainer]:
        start = start or self.start()
        self.lines.clear()
        trainer, found = self.trainer(), []
        with mock.patch.object(trainer, "fit", wraps=trainer.fit) as fit:
            for point in self.method.compress(start, trainer):
                found.append(copy.deepcopy(point))
                self.masks.append(copy.deepcopy(fit.call_args.kwargs.get("masks") or Masks()))
        return found, trainer
