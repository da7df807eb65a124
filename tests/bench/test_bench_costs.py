"""Counters, memory, timing and fits on calls whose costs are known."""

import math
import time

import pytest
import torch

from di4c_cli.bench import memory
from di4c_cli.bench.costs import cost_of
from di4c_cli.bench.growth import fitted
from di4c_cli.bench.measuring import Runner
from di4c_cli.bench.subject import typical_times
from di4c_cli.bench.timing import in_turn, spread
from di4c_cli.core.times import Config as Times

CPU = torch.device("cpu")
MIB = 2**20


def test_products_convolutions_and_attention_are_counted_forward_and_backward():
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    assert cost_of(lambda: a @ b).flops == 2 * 3 * 4 * 5
    assert cost_of(lambda: (a @ b).sum().backward()).flops == 2 * 2 * 3 * 4 * 5  # b needs no gradient
    q = torch.randn(1, 2, 8, 16, requires_grad=True)
    attention = torch.nn.functional.scaled_dot_product_attention
    forward = 2 * 2 * (2 * 8 * 8 * 16)
    assert cost_of(lambda: attention(q, q, q)).flops == forward
    assert cost_of(lambda: attention(q, q, q).sum().backward()).flops > 2 * forward


def test_bytes_are_those_of_operands_and_results():
    a, b = torch.zeros(1000), torch.zeros(1000)
    assert cost_of(lambda: a + b).bytes == 3 * 4000
    assert cost_of(lambda: a.view(10, 100).t()).bytes == 0
    assert cost_of(lambda: torch.empty(1000)).bytes == 0
    assert cost_of(lambda: a[:1].expand(500) + b[:500]).bytes == 4 + 2 * 2000


@pytest.fixture(params=["kernel", "sampled"])
def how(request, monkeypatch, tmp_path):
    """Both ways to see memory on a CPU."""
    if request.param == "sampled":
        monkeypatch.setattr(memory, "CLEAR", tmp_path)  # a folder cannot be written to
    elif not memory.CLEAR.exists():
        pytest.skip("the kernel keeps no high-water mark that can be reset")


def test_memory_is_the_rise_while_a_call_runs(how):
    def call():
        kept = torch.ones(64 * MIB // 4)
        time.sleep(0.02)
        del kept

    call()
    peak = memory.peak_of(call, CPU)
    assert 60 < peak.rise < 80
    assert peak.high > peak.rise
    assert memory.peak_of(lambda: None, CPU).rise < 8


def test_calls_are_timed_in_turn():
    order = []
    times = in_turn({name: lambda name=name: order.append(name) for name in "abc"}, CPU, 20)
    rounds = {"".join(order[at : at + 3]) for at in range(0, len(order), 3)}
    assert {"".join(sorted(names)) for names in rounds} == {"abc"}
    assert len(rounds) > 3  # none always follows the same one
    assert [len(taken) for taken in times.values()] == [20, 20, 20]
    assert spread([1.0, 2.0, 3.0]) == {"median_ms": 2.0, "p10_ms": 1.2, "p90_ms": 2.8}


def test_a_line_is_found_and_how_well_it_fits():
    fit = fitted("time", "ms", "L", [1, 2, 3], [5.0, 7.0, 9.0])
    assert (fit["intercept"], fit["slope"], fit["r2"]) == pytest.approx((3, 2, 1))
    assert fitted("time", "ms", "L", [1, 2, 3], [5.0, 9.0, 5.0])["r2"] == pytest.approx(0)
    assert fitted("time", "ms", "L", [1, 2], [5.0, 5.0])["r2"] == 1


def test_times_of_a_batch_stand_for_equal_shares_of_their_law():
    t, s = typical_times(Times(near_zero=0.3, near_zero_below=0.02, step=0.01), 10, CPU)
    assert (t < 0.02).sum() == 3
    assert bool((t.diff() >= 0).all())
    assert bool((s < t).all())
    middle, _ = typical_times(Times(), 1, CPU)
    assert middle.item() == pytest.approx(0.5, abs=0.05)


class TestRunner:
    def runner(self, *, patient=True):
        self.told = []
        return Runner(CPU, 2, patient, False, torch.float32, self.told.append)

    def test_rows(self):
        runner = self.runner()
        a = torch.randn(8, 8)
        runner.measure(4, {"product": lambda: a @ a, "nothing": lambda: None}, {})
        row = runner.row("product", 4)
        assert row.p10_ms <= row.median_ms <= row.p90_ms
        assert row.samples_per_s == pytest.approx(4000 / row.median_ms)
        assert row.gflop == 2 * 8**3 / 1e9
        assert row.rounds == 2
        assert [row["what"] for row in runner.json()] == ["product", "nothing"]

    def test_what_does_not_fit_into_memory_is_left_out_aloud(self):
        runner = self.runner()
        runner.measure(1, {"large": lambda: pytest.fail("was run")}, {"large": math.inf})
        assert runner.rows == []
        assert [row["what"] for row in runner.skipped] == ["large"]
        assert "needs about" in self.told[0]

    def test_what_would_take_long_is_left_out_unless_asked_for(self, monkeypatch):
        monkeypatch.setattr("di4c_cli.bench.measuring.PATIENCE", 0.1)
        for patient, rows in ((False, 1), (True, 2)):
            runner = self.runner(patient=patient)
            for size in (1, 100):
                runner.measure(size, {"slow": lambda: time.sleep(0.002)}, {})
            assert len(runner.rows) == rows
