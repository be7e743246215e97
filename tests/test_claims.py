"""Claims: what the file may hold, and what happens where records lack what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.claims.kinds import KINDS
from bench.claims.measurements import KINDS as SCHEMAS
from bench.claims.schema import ClaimError, read
from bench.method import load, names
from bench.suite import ConfigError
from tests.claim_tables import (
    GAP,
    SEEDS,
    answer,
    curve_lines,
    entry,
    publish,
    runs,
    timed,
)

SOURCES = {
    "saam", "dpp", "activation_density", "sap", "spp", "tensor_cnn", "djpq", "dpf", "taylor",
    "privacy_admm",
}  # fmt: skip

# the file


WELL = {"kind": "gap", "suite": "x", "variant": "a", "minus": "b", "densities": [0.1], "above": 0}


def measured(**more) -> list[dict]:
    return [{key: value for key, value in (WELL | more).items() if value is not None}]


def refused(folder: Path, match: str, section="sources", method="magnitude", **more) -> None:
    claim = {
        "id": "one", "title": "t", "claim": "c", "source": "Some One, 2020", "paper": "p",
        "evidence": "verified", "reported": "1", "measure": measured(),
    } | more  # fmt: skip
    claim = {key: value for key, value in claim.items() if value is not None}
    file = folder / "claims.yaml"
    file.write_text(yaml.safe_dump({section: {method: [claim]}}))
    with pytest.raises(ConfigError, match=match):
        read(file)


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        (r"claims.yaml: one: .*suiet: unknown key; did you mean 'suite'", measured(suiet="x")),
        (r"claims.yaml: one: .*kind", measured(kind="gape")),
        (r"claims.yaml: one: .*give one of above, below, within", measured(below=1)),
        (r"claims.yaml: one: .*give one of above, below, within", measured(above=None)),
        (r"claims.yaml: one: .*give one of minus, control", measured(control="random")),
        (r"claims.yaml: one: .*densities", measured(densities=[])),
        (r"claims.yaml: one: .*densities", measured(densities=[1.5])),
        (r"claims.yaml: one: .*column", measured(column="top11")),
        (r"claims.yaml: one: .*all of it is beside", measured(beside=True)),
        (r"claims.yaml: one: .*say why sizes are unequal", measured(sizes="unequal")),
    ],
)
def test_a_wrong_measurement_is_a_message_with_file_claim_and_key(match, wrong, tmp_path):
    refused(tmp_path, match, measure=wrong)


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        ("one: clam: unknown key; did you mean 'claim'", {"clam": "x"}),
        ("one: .*give one of measure, untested, untestable", {"measure": None}),
        ("one: .*give one of measure, untested, untestable", {"untested": "a run"}),
        ("one: source", {"source": None}),
        ("one: evidence", {"evidence": "rumour"}),
        ("one: .*from memory quotes", {"evidence": "from memory", "reported": "75.1 %"}),
        ("one: .*from memory quotes", {"number": "from memory", "reported": "75.1 %"}),
        ("no section 'sorces'; did you mean 'sources'", {"section": "sorces"}),
        ("sources: no method 'magnitud'; did you mean 'magnitude'", {"method": "magnitud"}),
    ],
)
def test_a_wrong_claim_is_a_message_with_file_claim_and_key(match, wrong, tmp_path):
    refused(tmp_path, match, **wrong)


def test_two_claims_of_one_id_are_refused(tmp_path):
    entry(tmp_path, untested="x", measure=[])
    file = tmp_path / "claims.yaml"
    content = yaml.safe_load(file.read_text())
    content["sources"]["magnitude"] *= 2
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ClaimError, match="one: two claims"):
        read(file)


def test_every_method_of_a_paper_has_a_claim_and_the_sources_come_first():
    entries = read()
    papers = {name for name in names() if load(name).family != "baseline"}
    assert papers <= {entry.method for entry in entries}
    assert {entry.method for entry in entries if entry.section == "sources"} == SOURCES
    sections = [entry.section for entry in entries]
    assert sections == sorted(sections, key=["sources", "baselines"].index)


def test_every_kind_of_measurement_is_implemented_and_in_use():
    assert set(KINDS) == set(SCHEMAS)
    assert {type(one) for entry in read() for one in entry.claim.measure} == set(SCHEMAS)


# what is not there


@pytest.mark.parametrize(
    ("match", "asked"),
    [
        ("suite: nothing is published as 'mihne'; did you mean 'mine'", GAP | {"suite": "mihne"}),
        ("variant: mine has no variant 'aa'; did you mean 'a'", GAP | {"variant": "aa"}),
        ("minus: mine has no variant 'bb'; did you mean 'b'", GAP | {"minus": "bb"}),
        ("control: mine has no variant 'random", {"kind": "gap", "control": "random", "above": 0}),
        ("densities: a of suite mine has no 0.2; there are: 0.1", GAP | {"densities": [0.2]}),
        ("column: 0 seeds have a number", GAP | {"column": "value_before"}),
        ("event: the history of mine has no 'pqa'; did you mean 'pqi'",
         {"kind": "shape", "event": "pqa", "column": "pqi", "phases": ["falls"], "least": 0.01}),
        ("column: the history of mine has no 'pq'; did you mean 'pqi'",
         {"kind": "shape", "event": "pqi", "column": "pq", "phases": ["falls"], "least": 0.01}),
        ("layer: not every run of a logged 'fc1'",
         {"kind": "shape", "event": "pqi", "column": "pqi", "layer": "fc1", "phases": ["falls"],
          "least": 0.01}),
        ("minus: mine has no dense run dense-0", {"kind": "gap", "minus": "dense", "above": 0}),
        ("variant: a was not timed", {"kind": "speedup", "batch": 8, "above": 1}),
        ("no table layers", {"kind": "exact", "rule": "equal_rows"}),
    ],
)  # fmt: skip
def test_what_is_not_published_is_an_error_with_file_claim_and_key(match, asked, tmp_path):
    both = [*runs("a", {"top1": (0.9,) * 3}), *runs("b", {"top1": (0.9,) * 3})]
    lines = curve_lines({s: [0.3, 0.2] for s in SEEDS})
    publish(tmp_path, both, history=lines, latency=[timed(32, (2.0, 1.9, 2.1))])
    with pytest.raises(ClaimError, match=rf"claims.yaml: one: measure.0.{match}"):
        answer(tmp_path, asked)


def test_one_seed_answers_nothing(tmp_path):
    publish(tmp_path, [*runs("a", {"top1": (0.9,) * 3})[:1], *runs("b", {"top1": (0.9,) * 3})])
    with pytest.raises(ClaimError, match="two seeds"):
        answer(tmp_path, GAP)
