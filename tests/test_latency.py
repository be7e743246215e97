from __future__ import annotations

import functools
import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

import bench.kernels
from bench.latency import (
    COLUMNS,
    LatencyConfig,
    LatencyError,
    contest,
    machine,
    measure,
    run,
    table,
)
from bench.latency import job as latency_job
from bench.spec import Accuracy, Point, Record, RunSpec

from .latency_fakes import CONFIG, DENSE, MASKED, SHAPE, SHRUNK, Clock, Shelf, scripted

BRIEF = (
    "dataset,arch,run,point,role,path,mode,device,device_name,dtype,layout,batch,threads,n,"
    "median_ms,p5_ms,p25_ms,p75_ms,p95_ms,min_ms,cold_ms,first_ms,peak_mb,energy_mj,speedup,"
    "speedup_low,speedup_high,against,output_error,top1_agreement,status,reason,digest,load_before,load_after,"
    "clock_mhz,power_w,temperature_c,throttle,protocol,torch,library,settings,restarts"
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No other process disturbs, whatever runs beside the tests."""
    monkeypatch.setattr(machine, "busy", lambda: 0.0)


def rows_of(points, *, config=CONFIG, clock=None, shelf=None, **others):
    clock, shelf = clock or Clock(scripted), shelf or Shelf()
    return measure(points, DENSE, SHAPE, config, timer=clock, load=shelf, **others)


def only(rows, **wanted):
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def test_rows_have_exactly_the_columns_of_the_table():
    assert ",".join(COLUMNS) == BRIEF
    rows = rows_of([MASKED, SHRUNK], dataset="digits", arch="net")
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {(row["dataset"], row["arch"]) for row in rows} == {("digits", "net")}


def test_the_denominator_is_the_best_dense_variant_and_the_numerator_the_best_of_its_own():
    rows = rows_of([MASKED])
    masked = only(rows, path="masked_dense")
    assert (masked["layout"], masked["median_ms"]) == ("nchw", 1.6)
    assert masked["speedup"] == pytest.approx(2.0 / 1.6)  # not 4.0 / 1.6
    assert only(rows, run="dense", layout="nchw")["speedup"] == pytest.approx(0.5)


def test_dense_against_itself_reads_one():
    control = only(rows_of([]), run="dense", layout="nhwc")
    assert (control["speedup"], control["speedup_low"], control["speedup_high"]) == (1, 1, 1)
    assert control["status"] == "ok"


def test_where_the_dense_net_does_not_tie_with_itself_no_speedup_is_believed():
    copies = []

    def second_copy_is_slow(call):
        if call not in copies:
            copies.append(call)
        return scripted(call) * (1.1 if copies.index(call) == 2 else 1)

    rows = rows_of([MASKED], clock=Clock(second_copy_is_slow))
    twin = only(rows, role="twin")
    assert (twin["layout"], twin["status"]) == ("nhwc", "ok")  # it is in the table as it reads
    assert twin["speedup"] == pytest.approx(1 / 1.1)
    masked = only(rows, path="masked_dense")
    assert masked["status"] == "unsteady"
    assert "against itself reads 0.91" in masked["reason"]


def test_the_denominator_is_what_was_fastest_even_if_its_twin_was_slow():
    copies = []

    def close(call):
        if call not in copies:
            copies.append(call)
        if call.path != "dense":
            return 1.6
        slow = 1.02 if copies.index(call) == 2 else 1.0  # the twin of the best
        return slow * {"nchw": 2.01, "nhwc": 2.0}[call.variant.layout]

    rows = rows_of([MASKED], clock=Clock(close))
    assert only(rows, role="twin")["layout"] == "nhwc"
    assert only(rows, path="masked_dense")["against"] == "dense eager/nhwc"


def test_resume_measures_again_what_was_timed_in_another_way_or_against_something_else():
    first = rows_of([MASKED])
    for change in ({"seconds_per_cell": 0.5}, {"cold": True}):
        clock = Clock(scripted)
        rows_of([MASKED], config=CONFIG.model_copy(update=change), clock=clock, previous=first)
        assert ("dense", "nchw") in clock.calls
    more = CONFIG.model_copy(update={"paths": ("dense", "masked_dense")})
    clock = Clock(scripted)
    rows_of([MASKED], config=more, clock=clock, previous=first)
    assert clock.calls == []
    other = [row | {"against": "dense eager/nchw"} for row in first if row["run"] == "masked"]
    kept = [row for row in first if row["run"] == "dense"]
    clock = Clock(scripted)
    rows_of([MASKED], clock=clock, previous=[*kept, *other])
    assert ("masked_dense", "nchw") in clock.calls
    assert ("dense", "nchw") not in clock.calls


def test_dense_and_candidate_take_turns():
    clock = Clock(scripted)
    rows_of([MASKED], clock=clock)
    sides = [("dense", "nhwc"), ("masked_dense", "nchw")]
    tail = clock.calls[-16:]
    assert tail == sides * 8


def test_a_shrunk_net_runs_dense_and_is_an_unsupported_row_elsewhere():
    rows = rows_of([SHRUNK])
    assert only(rows, run="shrunk", path="dense")["speedup"] == pytest.approx(2.0)
    refused = only(rows, run="shrunk", path="masked_dense")
    assert refused["status"] == "unsupported"
    assert "channels were removed" in refused["reason"]
    assert refused["median_ms"] is None


def drop_in(folder, monkeypatch, name, body):
    """Put a path's file where the registry looks."""
    (folder / f"{name}.py").write_text(body)
    monkeypatch.setattr(bench.kernels, "__path__", [*bench.kernels.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"bench.kernels.{name}", raising=False)


WRONG = """
import torch
DTYPES = {{"cpu": ("fp32", "bf16")}}
def supports(layer, name):
    return True, ""
def convert(model):
    weight = next(p for p in model.parameters() if p.dim() == 4)
    weight.data[0] {change}
    return model
"""


@pytest.mark.parametrize(
    ("change", "error"), [("*= 1.01", 1e-3), ("*= float('nan')", math.nan)], ids=["wrong", "nan"]
)
def test_the_gate_stops_a_kernel_that_computes_something_else(tmp_path, monkeypatch, change, error):
    drop_in(tmp_path, monkeypatch, "wrong_path", WRONG.format(change=change))
    config = CONFIG.model_copy(update={"paths": ("wrong_path",)})
    row = only(rows_of([MASKED], config=config), path="wrong_path", run="masked")
    assert row["status"] == "failed"
    assert "exceeds 1.00e-05" in row["reason"]
    assert row["output_error"] == pytest.approx(error, rel=10, nan_ok=True)
    assert row["speedup"] is None


OTHER_RUNTIME = """
DTYPES, LAYOUTS, BASELINE = {"cpu": ("fp32",)}, ("nchw",), True
def supports(layer, name):
    return True, ""
def applies(model, dense):
    return True, ""
def convert(model):
    return model
"""


def test_another_runtime_competes_for_the_denominator(tmp_path, monkeypatch):
    drop_in(tmp_path, monkeypatch, "runtime", OTHER_RUNTIME)
    config = CONFIG.model_copy(update={"paths": ("masked_dense", "runtime")})
    rows = rows_of([MASKED], config=config, clock=Clock(lambda c: OF_PATH[c.path]))
    dense = [row for row in rows if row["run"] == "dense"]
    assert {(row["path"], row["role"]) for row in dense} == {
        ("dense", "baseline"),
        ("runtime", "twin"),
    }
    assert {row["against"] for row in rows} == {"runtime eager/nchw"}
    assert only(rows, run="dense", path="runtime")["speedup"] == 1
    assert only(rows, run="masked", path="runtime")["speedup"] == 1
    assert only(rows, run="masked", path="masked_dense")["speedup"] == pytest.approx(1 / 4)


OF_PATH = {"dense": 5.0, "masked_dense": 4.0, "runtime": 1.0, "csr": 4.0}


@pytest.mark.parametrize("slower", [1.0, 1.2])
def test_the_unpruned_net_through_a_path_for_zeros_must_tie(slower):
    config = CONFIG.model_copy(update={"paths": ("dense", "csr")})
    clock = Clock(lambda call: 4.0 * (slower if call.path == "csr" else 1))
    control = only(rows_of([], config=config, clock=clock), path="csr")
    assert (control["role"], control["run"]) == ("control", "dense")
    assert control["against"] == "dense eager/nchw"
    assert control["speedup"] == pytest.approx(1 / slower)
    assert control["status"] == "ok"


def test_a_net_that_cannot_run_is_a_failed_row_and_the_others_are_measured():
    shelf = Shelf()
    shelf.nets["broken"] = torch.nn.Sequential(torch.nn.Linear(7, 5))
    broken = MASKED._replace(run="broken", digest="digest-broken", folder=MASKED.folder / "broken")
    rows = rows_of([broken, MASKED], shelf=shelf)
    assert only(rows, run="broken", path="dense")["status"] == "failed"
    assert "RuntimeError" in only(rows, run="broken", path="dense")["reason"]
    assert only(rows, path="masked_dense", run="masked")["status"] == "ok"


def test_bf16_is_compared_to_bf16_and_passes_its_own_gate():
    config = CONFIG.model_copy(update={"dtypes": ("bf16",)})
    row = only(rows_of([MASKED], config=config), path="masked_dense")
    assert row["status"] == "ok"
    assert 1e-4 < row["output_error"] < 2e-2


def test_resume_by_digest_measures_nothing_twice():
    first = rows_of([MASKED, SHRUNK])
    shelf, clock = Shelf(), Clock(scripted)
    renamed = MASKED._replace(run="renamed")
    again = rows_of([renamed, SHRUNK], clock=clock, shelf=shelf, previous=first)
    assert clock.calls == []
    assert only(again, run="renamed", path="masked_dense")["median_ms"] == 1.6
    assert [r["median_ms"] for r in again] == [r["median_ms"] for r in first]


def test_resume_measures_a_changed_point_and_only_that():
    first = rows_of([MASKED, SHRUNK])
    clock = Clock(scripted)
    rows_of([MASKED._replace(digest="new"), SHRUNK], clock=clock, previous=first)
    assert {path for path, _ in clock.calls} == {"dense", "masked_dense"}
    assert ("dense", "nchw") not in clock.calls


def test_resume_with_another_dense_net_measures_all_again():
    first = [row | {"digest": "old"} if row["run"] == "dense" else row for row in rows_of([MASKED])]
    clock = Clock(scripted)
    rows_of([MASKED], clock=clock, previous=first)
    assert ("dense", "nchw") in clock.calls
    assert ("masked_dense", "nchw") in clock.calls


def test_cold_calls_and_the_first_one_have_columns_of_their_own():
    warm, cold = rows_of([MASKED]), rows_of([MASKED], config=CONFIG.model_copy(update={"cold": 1}))
    assert {row["cold_ms"] for row in warm} == {None}
    row = only(cold, path="masked_dense")
    assert row["cold_ms"] == row["median_ms"] == 1.6  # the scripted clock knows no caches
    assert all(row["first_ms"] > 0 for row in [*warm, *cold] if row["status"] == "ok")
    assert {row[name] for row in cold for name in ("peak_mb", "energy_mj")} == {None}


def test_unsteady_cells_are_repeated_reported_and_not_reused():
    noise = itertools.cycle([1.0, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5])
    clock = Clock(lambda call: scripted(call) * next(noise))
    rows = rows_of([MASKED], clock=clock)
    row = only(rows, path="masked_dense")
    assert row["status"] == "unsteady"
    assert "x minimum" in row["reason"]
    assert row["median_ms"] is not None
    clock = Clock(scripted)
    again = rows_of([MASKED], clock=clock, previous=rows)
    assert clock.calls
    assert only(again, path="masked_dense")["status"] == "ok"


def test_other_processes_make_a_cell_unsteady(monkeypatch):
    seen = itertools.count(0, 1000)
    monkeypatch.setattr(machine, "busy", lambda: float(next(seen)))
    rows = rows_of([MASKED])
    assert "other processes used" in only(rows, path="masked_dense")["reason"]
    assert contest.ATTEMPTS > 1


def test_the_config_refuses_what_does_not_exist():
    with pytest.raises(ValidationError, match="extra"):
        LatencyConfig(batch=1)
    with pytest.raises(ValidationError):
        LatencyConfig(batch_sizes=(0,))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="there is no CUDA device"):
            rows_of([], config=CONFIG.model_copy(update={"devices": ("cuda",)}))


def test_thread_count_and_flags_are_restored():
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    rows_of([MASKED])
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == before


def test_importing_the_config_loads_no_torch():
    code = "import bench.latency, bench.env, bench.kernels, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The job of a suite -----------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path):
    """Records of a dense run and of two points of a pruned one."""
    none = Accuracy(top1=0, loss=0, ece=0, per_class=(), samples=1)
    numbers = dict.fromkeys(
        ("parameters", "nonzeros", "bits", "macs", "effective_macs", "epochs", "density"), 1
    )

    def write(name, points, dense):
        asked = (1.0, 0.5)[: len(points)] if dense else ()
        spec = RunSpec(method=name, arch="net", dataset="digits", densities=asked)
        made = tuple(
            Point(
                index=i, final=True, bits_format={}, test=none, validation=none, digest=d, **numbers
            )
            for i, d in enumerate(points)
        )
        dataset = {"shape": SHAPE}
        record = Record(id=name, spec=spec, status="ok", dense=dense, points=made, dataset=dataset)
        (tmp_path / "runs" / name).mkdir(parents=True)
        text = json.dumps(record.model_dump(mode="json"))
        (tmp_path / "runs" / name / "record.json").write_text(text)

    write("dense", [DENSE.digest], None)
    write("pruned", ["digest-first", MASKED.digest], "dense")
    return tmp_path


def by_point(folder):
    """Nets by the run and point that a folder stands for."""
    shelf = Shelf()
    return shelf(folder.with_name("dense" if folder.parent.parent.name == "dense" else "masked"))


def use(monkeypatch, clock):
    patched = functools.partial(measure, timer=clock, load=by_point)
    monkeypatch.setattr(latency_job, "measure", patched)


def test_the_job_writes_one_table_from_the_records(suite, monkeypatch):
    use(monkeypatch, Clock(scripted))
    path = run(suite, "digits", "net", ["dense", "pruned"], CONFIG)
    assert path == suite / "latency" / "net-digits.csv"
    rows = table.read(path)
    assert {(row["run"], row["point"]) for row in rows} == {
        ("dense", 0),
        ("pruned", 0),
        ("pruned", 1),
    }
    assert only(rows, point=1, path="masked_dense")["speedup"] == pytest.approx(1.25)


def test_a_killed_job_leaves_no_table_and_goes_on_where_it_stopped(suite, monkeypatch):
    def dies_at_the_second_point(call):
        if call.digest == MASKED.digest:
            raise KeyboardInterrupt
        return scripted(call)

    use(monkeypatch, Clock(dies_at_the_second_point))
    with pytest.raises(KeyboardInterrupt):
        run(suite, "digits", "net", ["pruned"], CONFIG)
    assert not (suite / "latency" / "net-digits.csv").exists()

    measured = set()
    use(monkeypatch, Clock(lambda call: measured.add(call.digest) or scripted(call)))
    path = run(suite, "digits", "net", ["pruned"], CONFIG)
    assert measured == {DENSE.digest, MASKED.digest}
    assert {row["point"] for row in table.read(path) if row["run"] == "pruned"} == {0, 1}


def test_a_missing_record_is_named(suite):
    with pytest.raises(LatencyError, match="no record of gone"):
        run(suite, "digits", "net", ["gone"], CONFIG)
    with pytest.raises(LatencyError, match="pruned is net on digits, not vgg on digits"):
        run(suite, "digits", "vgg", ["pruned"], CONFIG)
