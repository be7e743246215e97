"""What a method is, a frozen set of hyper-parameters and one function, `compress`; how to find one.

A method is a file in `methods/`; its name is the file's name. `methods/README.md` is the contract.
"""

from __future__ import annotations

import difflib
import importlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from torch import nn

    from bench.trainer import Trainer

Density = Annotated[
    float, Field(gt=0, le=1, description="fraction of the prunable weights that is kept")
]


class MethodError(ValueError):
    """An unknown method, a parameter it refuses, or a method file that breaks the contract."""


class Method(BaseModel):
    """Base of every method; the subclass's fields are its hyper-parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    """Raised when a change of the code changes results; part of every run's id."""
    start: ClassVar[Literal["init", "dense", "copy"]] = "dense"
    """What `compress` is given: freshly initialised weights or the shared dense run's.

    From the first it trains with the dense run's recipe, batches and epochs, and with the epochs of
    fine-tuning on top; so does a control that is given the pruned net that it copies.
    """
    family: ClassVar[str] = ""
    patterns: ClassVar[tuple[str, ...]] = ()
    citation: ClassVar[str] = ""
    iterative: ClassVar[bool] = False
    """Yields a point each round: one run serves all densities, with the budget of all of them."""
    steered: ClassVar[bool] = True
    """Reaches the density it is asked for; otherwise its density is a result."""
    rewinds: ClassVar[bool] = False
    """Trains from (nearly) untrained weights again.

    So it trains with the dense run's recipe instead of fine-tuning's.
    """
    paper: ClassVar[dict[str, Any]] = {}
    """The paper tier's training schedule: `Recipe` fields that replace the config's."""

    @abstractmethod
    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune `model`, spending training through `trainer`; yield each operating point.

        The model is the method's own copy: change it in place or replace it. What is yielded is a
        plain module whose pruned weights are exact zeros or gone; the harness measures it before it
        asks for more.
        """


def folder() -> Path:
    """Where the method files are."""
    import methods

    return Path(next(iter(methods.__path__)))


@cache
def names() -> tuple[str, ...]:
    """Every method there is, by name."""
    return tuple(sorted(file.stem for file in folder().glob("[a-z]*.py")))


ONLY_CONTROLS = {"scratch": "bench.scratch"}
"""Controls that are no method of their own, and their modules."""


@cache
def load(name: str) -> type[Method]:
    """The class of the method `name`, or of a control that is no method.

    Raises `MethodError` if there is no such file or it holds no single method.
    """
    if name not in names() and name not in ONLY_CONTROLS:
        close = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise MethodError(f"no method {name!r}; {hint}there are: {', '.join(names())}")
    module = importlib.import_module(ONLY_CONTROLS.get(name, f"methods.{name}"))
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise MethodError(
            f"{module.__name__} holds {len(found)} subclasses of Method; it must hold one"
        )
    return found[0]


def make(name: str, params: dict[str, Any]) -> Method:
    """The method `name` with these parameters.

    `MethodError` names the parameter that is refused.
    """
    try:
        return load(name)(**params)
    except ValidationError as error:
        raise MethodError("; ".join(complaint(name, item) for item in error.errors())) from None


def pattern(name: str, params: dict[str, Any]) -> str | None:
    """The pattern of zeros of a run: among its parameters, else the default, else what it can make.

    None of the dense net, and of a method whose file is gone: its numbers are still good.
    """
    if "pattern" in params:
        return str(params["pattern"])
    try:
        kind = load(name)
    except MethodError:
        return None
    field = kind.model_fields.get("pattern")
    return str(field.default) if field else " or ".join(kind.patterns) or None


def complaint(name: str, error: Any) -> str:
    """One pydantic error as a sentence that names the method, the field and what is allowed."""
    where = ".".join(str(part) for part in error["loc"]) or "(parameters together)"
    if error["type"] == "extra_forbidden":
        known = ", ".join(load(name).model_fields) or "none"
        return f"{name}: no parameter {where!r}; there are: {known}"
    return f"{name}: {where} = {error.get('input')!r}: {error['msg']}"
