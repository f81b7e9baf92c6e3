"""The benchmark measures what it says: its statistics on known numbers, its blocks on a clock of the test's, its table for real."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path

import pytest
import torch

from forgemon.reader import RunReader
from tests.benchmarks import probe_cost
from tests.benchmarks.blocks import alternate, extra_of_spared_s, extra_s, ratio
from tests.benchmarks.conditions import Condition, RareSteps
from tests.benchmarks.goals import _line
from tests.benchmarks.gpt import GPT
from tests.benchmarks.loops import TrainingLoop, Transformer, gpt_small, tiny
from tests.benchmarks.measurement import CONDITIONS, Plan
from tests.benchmarks.medians import Median, median_of


@pytest.mark.parametrize(("count", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (100, 40, 61)])
def test_the_interval_of_a_median_is_that_of_the_tables(count: int, low: int, high: int) -> None:
    found = median_of([float(n) for n in range(count, 0, -1)])
    assert (found.value, found.low, found.high, found.count) == ((count + 1) / 2, low, high, count)


def test_too_few_values_have_no_interval() -> None:
    found = median_of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (found.value, found.low, found.high) == (3.0, -math.inf, math.inf)
    with pytest.raises(ValueError):
        median_of([])


class Slowing(Condition):
    """Half as slow again while on, on a machine that itself slows down all the time."""

    now = 0.0
    is_on = False
    on_steps = 0

    def step(self) -> None:
        self._take(1.5)
        assert self.is_on
        self.on_steps += 1

    def plain_step(self) -> None:
        assert not self.is_on
        self._take(1.0)

    def _take(self, seconds: float) -> None:
        self.now += seconds * (1 + 1e-4 * self.now)

    def on(self) -> None:
        self.is_on = True

    def off(self) -> None:
        self.is_on = False


def slowing(folder: Path) -> Slowing:
    loop = gpt_small(torch.device("cpu"))
    return Slowing(loop, folder)


def test_a_machine_that_slows_down_falls_on_both_sides(tmp_path: Path) -> None:
    condition = slowing(tmp_path)
    done = alternate(condition, 10, seconds=3000.0, clock=lambda: condition.now)
    assert len(done.on) == len(done.nothing) > 20
    assert condition.on_steps == done.watched_steps
    plain = [beside.mean_s for _, beside in done.on]
    assert plain[-1] > 1.25 * plain[0]
    assert ratio(done.on).value == pytest.approx(1.5, rel=3e-4)
    assert ratio(done.nothing).low == pytest.approx(1.0, rel=3e-4)
    assert ratio(done.nothing).high == pytest.approx(1.0, rel=3e-4)
    assert extra_s(done.on).value == pytest.approx(0.5 * done.plain_s(), rel=0.05)


class Bursts(Slowing):
    """Every fifth step takes long."""

    def on(self) -> None:
        super().on()
        self.first = self.on_steps

    def step(self) -> None:
        super().step()
        self.now += 7.0 * ((self.on_steps - self.first) % 5 == 0)

    def looked_at(self) -> Collection[int]:
        return range(4, self.on_steps - self.first, 5)


def test_steps_that_most_are_unlike_are_left_out_of_the_mean_of_the_others(tmp_path: Path) -> None:
    condition = Bursts(gpt_small(torch.device("cpu")), tmp_path)
    done = alternate(condition, 10, seconds=3000.0, clock=lambda: condition.now)
    assert extra_of_spared_s(done.on).value == pytest.approx(0.5 * done.plain_s(), rel=0.05)
    assert extra_s(done.on).value > 1.5 * extra_of_spared_s(done.on).value
    assert extra_of_spared_s(done.nothing).value == pytest.approx(0.0, abs=0.01)


def test_the_steps_at_which_the_probes_look_are_known(tmp_path: Path) -> None:
    condition = RareSteps(tiny(torch.device("cpu")), tmp_path)
    try:
        condition.on()
        for _ in range(10):
            condition.step()
        assert set(condition.looked_at()) == set(range(10))  # at first they look at all
        for _ in range(200):
            condition.step()
        condition.off()
        condition.on()
        for _ in range(3000):
            condition.step()
        looked_at = set(condition.looked_at())
        last, written = condition.session.step_now(), condition.session.writer.flush(5.0)
        steps = RunReader(Path(condition.session.folder.path)).read(max_rows=100_000).steps["step"]
        rows = {int(step) - last + 2999 for step in steps if step > last - 3000}
        assert written and 2 <= len(rows) <= 30
        assert looked_at == rows | {row - 1 for row in rows}
    finally:
        condition.close()


def test_a_median_has_an_interval_however_little_time_there_is(tmp_path: Path) -> None:
    condition = slowing(tmp_path)
    done = alternate(condition, 3, seconds=0.0, clock=lambda: condition.now)
    assert len(done.on) == 6 and ratio(done.on).high < math.inf


def test_models_are_as_large_as_is_said() -> None:
    with torch.device("meta"):
        gpt = GPT(vocabulary=50257, length=1024, width=768, heads=12, layers=12)
        assert sum(p.numel() for p in gpt.parameters()) == 124_439_808
        assert len(list(Transformer().parameters())) >= 150


def test_the_table_has_its_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    absent = type("Absent", (Condition,), {"needs": "a_package_of_nobody"})
    monkeypatch.setitem(CONDITIONS, "wandb-1", absent)
    options = "--loops gpt-small tiny --conditions every naive wandb-1 rare --seconds 0.3"
    code = probe_cost.main(options.split())
    said = capsys.readouterr().out
    assert code == 0, said
    assert re.search(r"^on .+, torch \d.+, Python 3\.", said, re.MULTILINE)
    assert said.count("load average") == 2
    assert "gpt-small, wandb-1: a_package_of_nobody is not installed" in said
    number = r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]"
    for title in ("probes, every step", "norm().item() of each"):
        assert re.search(rf"^gpt-small +{re.escape(title)} +28 +\d+\.\d+ +{number} +{number} +[+-]\d", said, re.MULTILINE), said
    accounts = re.search(r"^gpt-small +probes, every step +1\.0 +\d+\.\d\d +", said, re.MULTILINE)
    assert accounts, said
    assert re.search(r"^gpt-small: bytes an observed step \d+, at most 312: met$", said, re.MULTILINE), said
    assert re.search(rf"^  middle step of a block +{number}$", said, re.MULTILINE), said


def test_a_goal_that_noise_hides_is_said_to_be() -> None:
    assert _line("ratio", Median(1.02, 1.015, 1.03, 9), 1.01, 2).endswith("at most 1.01: NOT MET")
    assert _line("ratio", Median(1.005, 1.0, 1.008, 9), 1.01, 2).endswith(": met")
    assert "met, but within the noise" in _line("ratio", Median(1.005, 0.9, 1.1, 9), 1.01, 2)


def test_what_fails_is_said() -> None:
    found = probe_cost.measured(Plan("no such loop", "naive", "cpu", 0.1))
    assert isinstance(found, str) and found.startswith("failed: KeyError")


@pytest.mark.skipif(torch.cuda.is_available(), reason="where no GPU is")
def test_no_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        probe_cost.main(["--gpu"])
    assert "torch finds no GPU here" in capsys.readouterr().err


def test_the_loops_train() -> None:
    loop: TrainingLoop = gpt_small(torch.device("cpu"))
    before = [p.detach().clone() for p in loop.model.parameters()]
    for _ in range(40):  # more than an epoch
        loop.step()
    assert all((p != old).any() for p, old in zip(loop.model.parameters(), before, strict=True))
