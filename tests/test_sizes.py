"""The row that joins all numbers of a model, and what must not be joined."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench import tidy
from bench.tables import made
from bench.tables.cells import TableError, cells
from bench.tables.cost import PHASES
from bench.tables.render import Block
from bench.tables.sizes import sizes
from bench.tables.texts import digits
from tests import records
from tests.records import comparison, make

TEXTS = ("variant", "other paths", "against its controls")
NUMBER = re.compile("[~×]")  # noqa: RUF001
DASH = "–"  # noqa: RUF001


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("suite"))


def one_row_block(folder: Path, arch: str) -> list[dict[str, str]]:
    """The rows of a net's second block in comparison.md, by column."""
    text = (folder / "out" / "comparison.md").read_text()
    block = text.split(f"### Accuracy, size and speed in one row, digits, {arch}, ")[1]
    lines = [line for line in block.split("###")[0].splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_costs_are_means_over_the_runs_they_name(suite):
    made = {item.id: item for item in records.suite()}
    for row in comparison(suite).query("n > 0").to_dict("records"):
        if made[row["runs"].split()[0]].spec.densities:
            continue
        last = [made[run].points[-1] for run in row["runs"].split()]
        for column in ("bits", "macs", "effective_macs"):
            wanted = np.mean([getattr(point, column) for point in last])
            assert row[column] == pytest.approx(wanted, rel=1e-5), column


@pytest.mark.parametrize("arch", records.ARCHS)
def test_the_second_block_has_the_dense_net_first_and_a_row_per_method_and_density(suite, arch):
    shown = one_row_block(suite, arch)
    table = comparison(suite).query(f"arch == '{arch}' and n > 0 and block != 'control'")
    assert shown[0]["variant"] == "dense"
    assert (shown[0]["Δ dense"], shown[0]["compression"]) == ("–", "1.00×")  # noqa: RUF001
    assert [(row["variant"], float(row["density"])) for row in shown] == list(
        zip(table["variant"], table["target_density"], strict=True)
    )


@pytest.mark.parametrize("arch", records.ARCHS)
def test_one_row_has_all_numbers_of_the_csv(suite, arch):
    table = comparison(suite).query(f"arch == '{arch}' and n > 0 and block != 'control'")
    for shown, row in zip(one_row_block(suite, arch), table.to_dict("records"), strict=True):
        texts = {name: text for name, text in shown.items() if name not in TEXTS}
        first = {name: float(NUMBER.sub("", text).split()[0].replace(DASH, "nan"))
                 for name, text in texts.items()}  # fmt: skip
        wanted = {
            "top-1, %": (100 * row["top1"], 0.005),
            "Δ dense": (100 * row["delta_dense"], 0.005),
            "before": (100 * row["top1_before"], 0.005),
            "actual": (row["density"], 5e-5),
            "size, KiB": (row["bits"] / 8 / 1024, 0.5),
            "compression": (row["compression"], 0.05),
            "multiply-adds, M": (row["effective_macs"] / 1e6, 0.005),
            "theoretical": (row["theoretical_speedup"], 0.05),
            "measured": (row["measured_speedup"], 0.005),
            "ms": (row["latency_ms"], 0.005),
            "efficiency": (row["efficiency"], 0.005),
            "worst class": (100 * row["worst_class_drop"], 0.05),
            "ECE": (row["ece"], 5e-4),
            "epochs": (row["epochs"], 0.005),
            "train, s": (sum(row[f"seconds_{phase}"] for phase in PHASES), 0.5),
        }
        assert {"density", *wanted, *TEXTS} >= set(shown) >= {*wanted}
        for name, (value, step) in wanted.items():
            assert first[name] == pytest.approx(value, abs=1.01 * step, nan_ok=True), name
        assert f"({row['n']})" in shown["top-1, %"]
        assert shown["top-1, %"].startswith("~") == row["interpolated"]


def test_a_large_net_is_sized_in_mebibytes(suite):
    table = comparison(suite).query("arch == 'lstm'")
    large = sizes("somewhere", table.assign(bits=table["bits"] * 1024))
    small = sizes("somewhere", table)
    column = small.header.index("size, KiB")
    assert large.header[column] == "size, MiB"
    for one, other in zip(small.sections[0][1], large.sections[0][1], strict=True):
        assert one[column] == other[column]


def test_a_measured_speedup_stands_with_its_interval(suite):
    row = next(r for r in one_row_block(suite, "resnet8") if r["measured"] != "–")  # noqa: RUF001
    middle, low, high = (float(x) for x in re.findall(r"[\d.]+", row["measured"]))
    assert low < middle < high
    assert row["measured"].endswith("]")


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12346"), (123.4, "123"), (1.2, "1.20"), (0.00799, "0.00799"), (0.0, "0")],
)
def test_numbers_keep_three_digits_and_never_turn_into_powers(value, text):
    assert digits(value) == text


def test_other_paths_stand_beside_the_fastest_with_their_own_speedups(suite):
    table = comparison(suite).query("arch == 'resnet8' and other_paths.notna()")
    latency = tidy.read(suite / "tables", "latency")
    assert len(table)
    for row in table.to_dict("records"):
        told = dict(one.split() for one in row["other_paths"].split(", "))
        assert row["latency_path"].split()[0] not in told
        for path, gain in told.items():
            own = latency[(latency["path"] == path) & latency["run"].isin(row["runs"].split())]
            own = own[own["batch"] == 32]  # the table's setting
            assert any(abs(float(gain) - value) < 0.0051 for value in own["speedup"])


def test_the_row_says_how_a_method_stands_against_its_controls(suite):
    verdicts = made(suite / "tables")["controls"][0].dropna(subset=["target_density"])
    table = comparison(suite).query("block == 'method'")
    told = 0
    for row in table.to_dict("records"):
        key = [row["arch"], row["variant"], row["target_density"]]
        same = verdicts[(verdicts[["arch", "variant", "target_density"]] == key).all(axis=1)]
        wanted = ", ".join(
            f"{c}: {v}" for c, v in zip(same["control"], same["verdict"], strict=True)
        )
        assert (row["controls"] if wanted else "") == wanted
        told += bool(wanted)
    assert told


def test_energy_is_a_column_where_it_was_measured(suite):
    frame = made(suite / "tables")["comparison"][0].query("arch == 'resnet8'")
    assert "energy, mJ" not in header(sizes("here", frame))
    block = sizes("here", frame.assign(energy_mj=12.5))
    assert "energy, mJ" in header(block)
    place = header(block).index("energy, mJ")
    assert {row[place].text for row in block.sections[0][1]} == {"12.5"}


def header(block: Block) -> list[str]:
    return list(block.header)


@pytest.mark.parametrize("column", ["protocol", "dataset_digest", "device"])
def test_runs_that_were_made_otherwise_are_not_averaged(suite, column):
    points = tidy.read(suite / "tables", "points")
    other = 2 if column == "protocol" else "another"
    last = points["seed"] == points["seed"].max()
    points[column] = points[column].mask(last, other)
    with pytest.raises(TableError, match=f"mix {column}s"):
        cells(points)


def test_two_pairs_may_have_been_trained_on_two_devices(suite):
    points = tidy.read(suite / "tables", "points")
    points["device"] = points["device"].mask(points["arch"] == "lstm", "another")
    assert len(cells(points))
