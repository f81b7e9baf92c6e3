"""What torch's allocator holds on CUDA devices, from the allocator's counters to the snapshot. The counters are a stand-in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forgemon.reader import RunReader, read_all
from forgemon.telemetry import Telemetry
from probes import memory
from tests.probes.watched import events, read, run_script
from tests.recorded import small_run

LOOP = """
import torch
import torch.nn.functional as F
held = {0: 0, 1: 3 << 20, 2: 5 << 20}
def statistics(device=None):
    current = held[device]
    return {
        "allocated_bytes": {"all": {"current": current // 2, "peak": current}},
        "reserved_bytes": {"all": {"current": current, "peak": current}},
    }
if PATCHED:
    torch.cuda.is_initialized, torch.cuda.device_count = lambda: True, lambda: 3
    torch.cuda.memory_stats_as_nested_dict = statistics
    torch.cuda.synchronize = lambda *_: 1 / 0
    torch.cuda.is_current_stream_capturing = lambda: False
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    F.mse_loss(model(torch.randn(8, 4)), torch.zeros(8, 2)).backward()
    optimizer.step()
"""


def test_devices_that_hold_memory_have_columns(tmp_path: Path) -> None:
    run_script(LOOP.replace("PATCHED", "True"), tmp_path)
    rows = read(tmp_path).memory
    assert rows is not None and rows["step"][0] == 1
    assert rows.dtype.names == (
        "step",
        "time",
        *(f"cuda{i}_{kind}_bytes" for i in (1, 2) for kind in ("allocated", "reserved", "peak")),
    )
    assert [float(rows[name][0]) for name in rows.dtype.names[2:]] == [
        1.5 * 2**20,
        3 * 2**20,
        3 * 2**20,
        2.5 * 2**20,
        5 * 2**20,
        5 * 2**20,
    ]


def test_an_allocator_that_counts_nothing_is_not_asked_again(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["_forgemon_probes.memory"].PERIOD_S = 0.0
asked = []
def statistics(device):
    asked.append(device)
    raise RuntimeError("this allocator does not yet support getDeviceStats")
"""
    loop = LOOP.replace("PATCHED", "True").replace(
        "memory_stats_as_nested_dict = statistics", "memory_stats_as_nested_dict = refuse"
    )
    run_script(script.replace("statistics", "refuse") + loop + "assert asked == [0], asked", tmp_path)
    assert read(tmp_path).memory is None  # and read() fails on any recorded error of the probe


def test_nothing_without_a_gpu(tmp_path: Path) -> None:
    run_script(LOOP.replace("PATCHED", "False"), tmp_path)
    chunk = read(tmp_path)
    assert chunk.memory is None and len(chunk.steps) == 5
    assert events(chunk, "signals")[-1]["signals"].get("GPU memory", "not visible") == "not visible"


class Writer:
    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def declare(self, name: str, columns: Any) -> None: ...

    def row(self, table: str, values: list[float]) -> None:
        self.rows.append(values)


class Signals:
    def seen(self, *names: str) -> None: ...


class Session:
    def __init__(self) -> None:
        self.writer = Writer()
        self.signals = Signals()
        self.step = 0

    def step_now(self) -> int:
        return self.step


def test_at_most_one_row_a_second_and_none_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held = [100.0], [0]

    def statistics(device: int) -> Mapping[str, Any]:
        return {"reserved_bytes": {"all": {"current": held[0], "peak": held[0]}}}

    monkeypatch.setattr("probes.memory.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("probes.memory.torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("probes.memory.torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("probes.memory.torch.cuda.memory_stats_as_nested_dict", statistics)
    session: Any = Session()
    probe, known = memory.Memory(session), Any
    for session.step in range(1, 41):
        held[0] = 0 if session.step <= 10 else 512
        clock[0] += 0.25
        probe.step_ended(known)  # type: ignore[arg-type]
    rows = session.writer.rows
    assert [row[0] for row in rows] == [13, 17, 21, 25, 29, 33, 37]
    assert all(math.isnan(row[2]) and row[3] == 512 and math.isnan(row[4]) for row in rows)  # not counted by this torch


def test_the_snapshot_has_it(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    reader, telemetry = RunReader(tmp_path / "run"), Telemetry()
    read_all(reader, telemetry.feed, max_rows=3)
    rows = telemetry.snapshot(reader.info, reader.problems).memory
    assert reader.problems == () and rows is not None
    assert rows["step"].tolist() == [1, 6, 11, 16, 21, 26] and rows["cuda0_allocated_bytes"][-1] == 1e9 + 26
