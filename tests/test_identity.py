"""A run's id: the same for the same run, in every version to come, and for no other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench.spec import Recipe, RunSpec

FINETUNE = Recipe(epochs=6, lr=0.05)
PINNED = {
    "dense-resnet8-digits-s0-68b601ac": RunSpec(method="dense", arch="resnet8", dataset="digits"),
    "dense-resnet8-digits-s3-a819150f": RunSpec(
        method="dense", arch="resnet8", dataset="digits", seed=3
    ),
    "dense-lstm-digits-s0-c0e58e77": RunSpec(
        method="dense",
        arch="lstm",
        dataset="digits",
        train=Recipe(optimizer="adam", lr=0.003, weight_decay=0),
    ),
    "dense-timm.vit_tiny_patch16_224-folder.birds.small-s0-8a05c42f": RunSpec(
        method="dense", arch="timm:vit_tiny_patch16_224", dataset="folder:birds/small"
    ),
    "magnitude-resnet8-digits-s0-b9ecd51a": RunSpec(
        method="magnitude", arch="resnet8", dataset="digits", finetune=FINETUNE
    ),
    "magnitude-resnet8-digits-s0-182117a7": RunSpec(
        method="magnitude",
        arch="resnet8",
        dataset="digits",
        finetune=FINETUNE,
        params={"density": 0.05, "allocation": "erk"},
    ),
    "magnitude-resnet8-digits-s0-eba7d08b": RunSpec(
        method="magnitude", method_version=2, arch="resnet8", dataset="digits", finetune=FINETUNE
    ),
    "random-resnet8-digits-s0-2e721e24": RunSpec(
        method="random",
        arch="resnet8",
        dataset="digits",
        finetune=FINETUNE,
        like="saam-resnet8-digits-s0-00000000",
    ),
    "sap-resnet20-cifar10-s0-865fc33a": RunSpec(
        method="sap",
        arch="resnet20",
        dataset="cifar10",
        tier="paper",
        finetune=Recipe(epochs=200, clip=1.0, batch_size=250),
        densities=(0.5, 0.2),
    ),
    "dense-resnet20-cifar10-s0-56978fbc": RunSpec(
        method="dense",
        arch="resnet20",
        dataset="cifar10",
        train=Recipe(augment=("crop", "flip"), precision="bf16", channels_last=True),
    ),
    "dense-lenet5-mnist-s0-c7af2b9a": RunSpec(
        method="dense", arch="lenet5", dataset="mnist", weights="w.safetensors"
    ),
    "dense-lenet5-mnist-s0-d42ab83c": RunSpec(
        method="dense",
        arch="lenet5",
        dataset="mnist",
        train=Recipe(
            schedule="step",
            milestones=(0.3, 0.6),
            gamma=0.2,
            warmup=2,
            label_smoothing=0.1,
            compile=True,
        ),
    ),
}


@pytest.mark.parametrize(("run", "spec"), PINNED.items(), ids=PINNED)
def test_run_ids_stay_what_they_are(run: str, spec: RunSpec) -> None:
    """A changed id orphans every record made before; that needs a new PROTOCOL, and a reason."""
    assert spec.id == run


@pytest.mark.parametrize("spec", PINNED.values(), ids=PINNED)
def test_an_id_survives_json_and_the_order_of_parameters(spec: RunSpec) -> None:
    assert RunSpec.model_validate_json(spec.model_dump_json()).id == spec.id
    turned = spec.model_copy(update={"params": dict(reversed(spec.params.items()))})
    assert turned.id == spec.id


@pytest.mark.parametrize("spec", PINNED.values(), ids=PINNED)
def test_a_new_field_with_a_neutral_default_keeps_ids(spec: RunSpec) -> None:
    class LaterRecipe(Recipe):
        ema: float = 0.0

    class LaterSpec(RunSpec):
        train: LaterRecipe = LaterRecipe()
        finetune: LaterRecipe | None = None
        teacher: str | None = None

    later = LaterSpec.model_validate(spec.model_dump())
    assert later.id == spec.id
    assert later.model_copy(update={"teacher": "resnet56"}).id != spec.id
    ema = later.train.model_copy(update={"ema": 0.9})
    assert later.model_copy(update={"train": ema}).id != spec.id


def test_every_field_but_the_row_label_changes_the_id() -> None:
    spec = PINNED["magnitude-resnet8-digits-s0-b9ecd51a"]
    other: dict[str, Any] = {
        "method": "random", "method_version": 2, "params": {"density": 0.3}, "arch": "lstm",
        "dataset": "mnist", "tier": "paper", "train": Recipe(lr=0.2), "finetune": Recipe(),
        "seed": 1, "densities": (0.5,), "like": "x", "weights": "w", "protocol": 99,
    }  # fmt: skip
    assert set(other) == set(RunSpec.model_fields) - {"variant"}
    ids = {spec.model_copy(update={key: value}).id for key, value in other.items()} | {spec.id}
    assert len(ids) == len(other) + 1
    assert spec.model_copy(update={"variant": "another label"}).id == spec.id


def test_a_spec_cannot_be_changed_or_given_an_unknown_field() -> None:
    spec = RunSpec(method="dense", arch="resnet8", dataset="digits")
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="sead"):
        RunSpec(method="dense", arch="resnet8", dataset="digits", sead=1)  # type: ignore[call-arg]
