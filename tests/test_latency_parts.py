from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bench import env, kernels, models
from bench.latency import COLUMNS, contest, extras, measure, statistics, table, timing
from bench.latency.fold import fold
from bench.latency.gate import WrongOutput, gate
from bench.latency.machine import State, allowance, complaint, exact, flushed, others, pinned
from bench.latency.prepare import Cell, Prepared, Variant, prepare, why

from .latency_fakes import CONFIG, DENSE, SHAPE, SHRUNK, Shelf, convnet


def test_summary_of_known_times():
    found = statistics.summarise(np.arange(101.0).reshape(1, -1))
    assert found == {
        "n": 101,
        "median_ms": 50,
        "p5_ms": 5,
        "p25_ms": 25,
        "p75_ms": 75,
        "p95_ms": 95,
        "min_ms": 0,
    }


def test_drift_that_hits_both_sides_leaves_the_paired_ratio():
    drift = np.linspace(1, 5, 41)[:, None]
    found = statistics.speedup(2 * drift.repeat(3, 1), drift)
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_low"] == pytest.approx(2)
    assert found["speedup_high"] == pytest.approx(2)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        # Each round has its own level, and calls within a round share it.
        sides = [1.5, 1.0]
        level = draw.lognormal(0, 0.1, (30, 1))
        times = [m * level * draw.lognormal(0, 0.05, (30, 4)) for m in sides]
        found = statistics.speedup(*times, seed=trial)
        covered += found["speedup_low"] <= 1.5 <= found["speedup_high"]
    assert 0.9 <= covered / 200 <= 1.0


def test_unpaired_timings_are_refused():
    with pytest.raises(ValueError, match="3 dense rounds and 2"):
        statistics.speedup(np.ones((3, 1)), np.ones((2, 1)))


def test_sides_take_turns_and_the_first_call_of_a_turn_does_not_count():
    order = []

    def timer(call, calls):
        order.append(call)
        return [99.0] + [1.0] * (calls - 1)

    left, right = (lambda: None), (lambda: None)
    times = timing.interleave([left, right], timer, 0.1, timing.Warmth(3, 0))
    assert order[2:] == [left, right] * ((len(order) - 2) // 2)
    assert times[0].shape == times[1].shape
    assert set(times[0].ravel()) | set(times[1].ravel()) == {1.0}


def test_a_crowded_machine_cannot_stretch_a_cell_without_limit():
    calls = []

    def timer(call, count):
        calls.append(count)
        return [0.1 if len(calls) == 1 else 100.0] * count

    times = timing.interleave([lambda: None], timer, 0.3, timing.Warmth(1, 0))
    assert len(times[0]) == timing.FEWEST_ROUNDS


def test_warm_up_lasts_its_calls_and_its_milliseconds():
    counts = []

    def timer(call, calls):
        counts.append(calls)
        return [2.0] * calls

    timing.warm(lambda: None, timer, timing.Warmth(calls=25, ms=300))
    assert sum(counts) == 150


def state(busy=0.0, own=0.0, clock=0.0, mhz=1000.0):
    return State(0.0, busy, own, clock, {"clock_mhz": mhz})


def test_our_own_work_is_not_foreign_load():
    assert others(state(), state(busy=20, own=20, clock=10)) == 0
    assert others(state(), state(busy=20, own=10, clock=10)) == pytest.approx(1)


def test_free_cores_bear_foreign_work_and_at_most_one_core_of_it():
    assert [allowance(2, 2), allowance(1, 2), allowance(1, 64)] == [0.5, 1.0, 1.0]


def test_each_rule_of_steadiness_has_its_reason(monkeypatch):
    monkeypatch.setattr(env, "cores", lambda: 2)
    calm = state(), state(busy=10, own=10, clock=10)
    assert complaint(*calm, [("dense", 1.29)], "cpu", 1) == ""
    assert "dense: median is 1.31 x minimum" in complaint(*calm, [("dense", 1.31)], "cpu", 1)
    crowded = state(), state(busy=20, own=8, clock=10)
    assert "1.20 cores" in complaint(*crowded, [], "cpu", 1)
    assert complaint(*crowded, [], "cuda", 1) == ""
    assert "dense: against the first, it moved by 3.1 %" in complaint(
        *calm, [], "cuda", 1, [("dense", 0.031)]
    )
    assert complaint(*calm, [], "cuda", 1, [("dense", 0.029)]) == ""
    assert complaint(*calm, [], "cpu", 1, [("dense", 0.031)]) == ""


def test_a_drift_is_the_change_of_the_pair_from_half_to_half_whatever_single_calls_take():
    times, other = np.full((40, 3), 2.0), np.full((40, 1), 5.0)
    assert statistics.drift(times, other) == 0
    times[::7] = 9.0
    assert statistics.drift(times, other) == 0
    times[20:] *= 1.05
    assert statistics.drift(times, other) == pytest.approx(0.05)
    assert statistics.drift(times[15:25], other[15:25]) == 0
    other[20:] *= 1.05  # what hits both is no drift of the pair
    assert statistics.drift(times, other) == pytest.approx(0)


def test_folding_keeps_the_function_the_zeros_and_no_norm():
    net = convnet()
    net[0].weight.data[:, 1] = 0
    x = torch.randn(4, *SHAPE)
    with torch.no_grad():
        before = net(x)
        folded, note = fold(net)
        assert note == ""
        assert (folded(x) - before).norm() / before.norm() < 1e-6
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert folded.get_submodule("0").weight[:, 1].count_nonzero() == 0


class Shared(nn.Module):
    """A convolution whose output is used twice, once without the norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Twice(Shared):
    """A convolution that is called twice, once without the norm."""

    def forward(self, x):
        return self.norm(self.conv(x)) + self.conv(2 * x)


class Branching(Shared):
    """Control flow that depends on values."""

    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("kind", [Shared, Twice, Branching])
def test_a_norm_that_cannot_be_folded_stays(kind):
    torch.manual_seed(0)
    net = kind().eval()
    net.norm.running_mean.normal_()
    x = torch.randn(2, *SHAPE).abs()
    with torch.no_grad():
        before = net(x)
        folded, note = fold(net)
        torch.testing.assert_close(folded(x), before)
    assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert ("TraceError" in note) == (kind is Branching)


def row(**values):
    return dict.fromkeys(COLUMNS) | {"status": "ok", "reason": "", "protocol": 1} | values


def test_a_table_reads_back_as_it_was_written(tmp_path):
    rows = [row(run="a", point=3, median_ms=0.125), row(run="b", status="failed", reason="x, y")]
    table.write(tmp_path / "t.csv", rows)
    assert table.read(tmp_path / "t.csv") == rows
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_failed_write_leaves_the_old_table_and_nothing_else(tmp_path):
    table.write(tmp_path / "t.csv", [row(run="old")])
    with pytest.raises(KeyError):
        table.write(tmp_path / "t.csv", [row(run="new"), {"run": "incomplete"}])
    assert [found["run"] for found in table.read(tmp_path / "t.csv")] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_restarts_are_pooled_into_the_widest_interval_and_the_worst_status():
    parts = [
        [row(run="a", role="candidate", n=10, restarts=1, median_ms=m, min_ms=m / 2, speedup=s,
             speedup_low=s - 0.1, speedup_high=s + 0.1, status=status, reason=status)]
        for m, s, status in [(1.0, 2.0, "ok"), (3.0, 1.8, "unsteady"), (2.0, 2.2, "ok")]
    ]  # fmt: skip
    (found,) = table.pool(parts)
    assert (found["median_ms"], found["min_ms"], found["n"]) == (2.0, 0.5, 30)
    assert found["speedup"] == 2.0
    assert (found["speedup_low"], found["speedup_high"]) == pytest.approx((1.7, 2.3))
    assert (found["status"], found["reason"]) == ("unsteady", "unsteady")
    assert found["restarts"] == 3


def test_restarts_that_disagree_on_the_fastest_dense_way_pool_each_way_with_itself():
    """nchw wins once, nhwc twice: their times must not be mixed, and one twin remains."""

    def process(winner):
        times = {"nchw": 2.0, "nhwc": 1.9}
        return [
            row(run="dense", role="twin" if layout == winner else "baseline", path="dense",
                mode="eager", layout=layout, n=5, restarts=1, median_ms=ms,
                speedup=1.0 if layout == winner else 0.9)
            for layout, ms in times.items()
        ]  # fmt: skip

    found = table.pool([process("nchw"), process("nhwc"), process("nhwc")])
    ways = {one["layout"]: one for one in found}
    assert len(found) == 2
    assert (ways["nchw"]["median_ms"], ways["nhwc"]["median_ms"]) == (2.0, 1.9)
    # a twin's speed-up is that of pairs of equals; where it was no twin, it says nothing of them
    assert (ways["nchw"]["speedup"], ways["nhwc"]["speedup"]) == (0.9, 1.0)
    assert {layout: one["role"] for layout, one in ways.items()} == {
        "nchw": "baseline",
        "nhwc": "twin",
    }


def test_both_of_two_sides_with_one_name_are_looked_at(monkeypatch):
    side = Prepared("dense", Variant("eager", "nchw"), "", lambda: None, lambda: None)
    monkeypatch.setattr(
        contest.timing,
        "interleave",
        lambda *given: given[-1]() or [np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])],
    )
    monkeypatch.setattr(contest.machine, "busy", lambda: 0.0)
    found = contest.compete([side, side], Cell("cpu", "fp32", 1, 1), timing.wall, 0.01)
    assert "median is 1.50 x minimum" in found.complaint


def test_a_path_that_writes_nothing_does_not_pass_with_what_was_there_before():
    net, x = convnet(), torch.randn(2, *SHAPE)
    cell = Cell("cpu", "fp32", 2, 1)
    with torch.inference_mode():
        side = prepare(net, kernels.load("dense"), cell, Variant("eager", "nchw"), x)
        door = gate(net, cell, x)
        assert door.check(side) < 1e-5
        stale = side.output().clone()
        assert torch.allclose(stale, net(x), atol=1e-4)  # the timed input is in place again
        side.output = lambda: stale
        with pytest.raises(WrongOutput):
            door.check(side)


def test_norms_of_timm_are_folded_and_their_activation_stays():
    net = models.build("timm:mobilenetv2_050", (3, 32, 32), 10).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = net(x)
        folded, note = fold(net)
        assert note == ""
        assert (folded(x) - before).norm() / before.norm() < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.ReLU6) for module in folded.modules())


def test_reasons_hold_no_path():
    assert why(OSError("cannot open /home/someone/x.so now")) == "OSError: cannot open <path> now"


def test_a_real_clock_sees_a_tie_and_a_slower_net():
    shelf = Shelf()
    shelf.nets["shrunk"] = convnet(512)
    config = CONFIG.model_copy(update={"batch_sizes": (64,)})
    for _ in range(3):  # the machine may be crowded
        rows = measure([SHRUNK], DENSE, SHAPE, config, load=shelf)
        tie = max(row["speedup"] for row in rows if row["run"] == "dense")
        slow = next(row for row in rows if row["run"] == "shrunk" and row["path"] == "dense")
        if 0.9 < tie < 1.1 and slow["speedup_high"] < 0.5:
            break
    assert 0.9 < tie < 1.1
    assert 0 < slow["speedup_low"] <= slow["speedup"] <= slow["speedup_high"] < 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_cuda_graphs_pass_the_gate_and_dense_ties_with_itself(dtype):
    config = CONFIG.model_copy(update={"devices": ("cuda",), "dtypes": (dtype,)})
    rows = measure([SHRUNK], DENSE, SHAPE, config, load=Shelf())
    dense = [r for r in rows if r["run"] == "dense"]
    assert {(r["mode"], r["layout"]) for r in dense} == {
        (mode, layout) for mode in ("eager", "graph") for layout in ("nchw", "nhwc")
    }
    assert all(r["status"] in ("ok", "unsteady") and r["n"] >= 8 for r in dense), dense
    best = min(dense, key=lambda r: r["median_ms"])
    assert best["mode"] == "graph"
    assert 0.9 < best["speedup"] < 1.1
    assert best["clock_mhz"] > 100


def test_a_dead_net_has_nothing_that_could_be_checked():
    net, cell = convnet(), Cell("cpu", "fp32", 2, 1)
    x = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        assert gate(net, cell, x).limit > 0
        net[0].weight[:] = 0
        with pytest.raises(WrongOutput, match="the net is dead: 50 % of its layers"):
            gate(net, cell, x)


def test_every_cold_call_comes_after_a_flush_of_more_than_any_cache(monkeypatch):
    order, flush = [], extras.flush

    def seen(waste):
        order.append(waste.numel() * waste.element_size())
        waste.fill_(1)
        flush(waste)
        assert not waste.any()  # it is really written

    def timer(call, calls):
        order.append("call")
        return [2.0] * calls

    monkeypatch.setattr(extras, "flush", seen)
    side = Prepared("dense", Variant("eager", "nchw"), "", lambda: None, lambda: None)
    assert extras.cold(side, "cpu", timer) == 2
    assert order == [extras.FLUSH, "call"] * extras.COLD_CALLS
    side.copies = 20
    assert extras.cold(side, "cpu", timer) is None


@pytest.mark.gpu
def test_memory_and_energy_of_a_call_are_of_the_right_size():
    """A 4096^3 product in fp32: 0.2 GB; 0.14 TFLOP at 10 to 100 GFLOP a joule."""
    a = torch.randn(4096, 4096, device="cuda")
    side = Prepared("dense", Variant("eager", "nchw"), "", lambda: a @ a, lambda: a @ a)
    held = torch.cuda.memory_allocated() / 1e6  # by whatever ran before, too
    assert 60 < extras.peak(side) - held < 300
    used = extras.energy(side, 1, 3.0)
    assert used is None or 0.1e3 < used < 100e3


@pytest.mark.gpu
def test_a_graph_keeps_what_it_reads_in_memory():
    """It knows addresses only: another net that is made later must not get them."""
    cell, x = Cell("cuda", "fp32", 2, 1), torch.randn(2, *SHAPE, device="cuda")
    with pinned("cuda", 1):
        side = prepare(convnet(), kernels.load("dense"), cell, Variant("graph", "nchw"), x)
        others = [torch.randn(1_000_000, device="cuda") for _ in range(20)]
        assert gate(convnet(), cell, x).check(side) < 1e-5
    assert len(others) == 20


@pytest.mark.gpu
def test_cuda_events_see_device_time_not_launch_time():
    big = torch.randn(8192, 8192, device="cuda")
    timing.events(lambda: big @ big, 3)
    # 1.1 TFLOP in fp32 take more than 5 ms on any GPU; launching them takes microseconds.
    assert min(timing.events(lambda: big @ big, 3)) > 5


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16"])
def test_tf32_is_on_only_where_it_is_asked_for_and_never_for_the_reference(dtype):
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    with pinned("cpu", 1, dtype):
        assert matmul.allow_tf32 == (dtype == "tf32")
        assert torch.backends.cudnn.allow_tf32 == (dtype == "tf32")
        with exact():
            assert not matmul.allow_tf32
        assert matmul.allow_tf32 == (dtype == "tf32")
    assert matmul.allow_tf32 == before


def test_sub_normals_are_flushed_inside_and_alive_again_behind():
    tiny = torch.full((8,), 1e-40)
    assert (tiny * 1).count_nonzero() == 8
    with flushed():
        with pinned("cpu", 1):
            assert (tiny * 1).count_nonzero() == 0
        assert (tiny * 1).count_nonzero() == 0  # also behind a cell, where threads may be made
    assert (tiny * 1).count_nonzero() == 8
