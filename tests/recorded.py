"""Writes run directories as the probes and the sidecar do, for tests of everything that reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes.record import (
    METRIC_COLUMNS,
    STEP_COLUMNS,
    event_line,
    gradient_columns,
    machine_columns,
    memory_columns,
    metric_file_name,
    update_columns,
    write_json_once,
)
from probes.table import Table

START = 1_700_000_000.0


def step_values(step: int, time: float, **known: float) -> list[float]:
    """One row of steps.npy; what is not named is NaN. A loss or gradient norm that is named was measured, whatever it is."""
    measured = {count: 1.0 for count, name in (("losses", "loss"), ("gradients", "gradient_norm")) if name in known}
    values: dict[str, float] = {"step": step, "time": time, "optimizer": 0, **measured, **known}
    return [values.get(column[0], math.nan) for column in STEP_COLUMNS]


class RunFiles:
    """The files of one run, each made when it is first written to."""

    def __init__(self, run: Path, rank: int = 0) -> None:
        self.run = run
        self.rank_path = run / f"rank-{rank}"
        (self.rank_path / "metrics").mkdir(parents=True)
        self._tables: dict[str, Table] = {}

    def info(self, **fields: Any) -> None:
        write_json_once(str(self.run / "run.json"), {"format": 1, "run": self.run.name, **fields})

    def table(self, path: Path, columns: Sequence[Any]) -> Table:
        if str(path) not in self._tables:
            self._tables[str(path)] = Table(str(path), columns)
        return self._tables[str(path)]

    def step(self, step: int, time: float | None = None, **known: float) -> None:
        when = START + step if time is None else time
        self.table(self.rank_path / "steps.npy", STEP_COLUMNS).append([step_values(step, when, **known)])

    def parameters(self, names: Sequence[str], table: int = 0, first_step: int = 1) -> None:
        described = [{"name": n, "shape": [2, 3], "dtype": "torch.float32", "optimizer": 0, "group": 0} for n in names]
        fields = {"table": table, "first_step": first_step, "parameters": described}
        write_json_once(str(self.rank_path / f"parameters-{table}.json"), fields)

    def gradients(self, step: int, norms: Sequence[float], table: int = 0) -> None:
        path = self.rank_path / f"gradients-{table}.npy"
        self.table(path, gradient_columns(len(norms))).append([[step, *norms]])

    def updates(self, step: int, weights: Sequence[float], updates: Sequence[float], table: int = 0) -> None:
        path = self.rank_path / f"updates-{table}.npy"
        self.table(path, update_columns(len(weights))).append([[step, *weights, *updates]])

    def metric(self, name: str, step: int, value: float) -> None:
        path = self.rank_path / "metrics" / metric_file_name(name)
        self.table(path, METRIC_COLUMNS).append([[step, START + step, value]])

    def event(self, kind: str, step: int, time: float | None = None, **fields: Any) -> None:
        when = START + step + 0.5 if time is None else time
        append(self.rank_path / "events.jsonl", {"time": when, "step": step, "kind": kind, **fields})

    def memory(self, step: int, device_bytes: Sequence[float]) -> None:
        """`device_bytes`: allocated, reserved and peak of one device."""
        self.table(self.rank_path / "memory.npy", memory_columns([0])).append([[step, START + step, *device_bytes]])

    def machine(self, time: float, gpus: int = 0) -> None:
        columns = machine_columns(gpus)
        self.table(self.run / "machine.npy", columns).append([[time, *[1.5] * (len(columns) - 1)]])

    def machine_event(self, kind: str, time: float, **fields: Any) -> None:
        append(self.run / "machine.jsonl", {"time": time, "kind": kind, **fields})


def append(path: Path, event: Mapping[str, Any]) -> None:
    with open(path, "ab") as file:
        file.write(event_line(event))


def small_run(run: Path, steps: int = 30) -> RunFiles:
    """A run with something in every file: two parameter tables, a metric, evaluations, checkpoints, machine rows, an end."""
    files = RunFiles(run)
    files.info(host="elsewhere", user="ada", pid=1, created=START, script="/home/ada/train.py", process_started=START)
    files.event("attached", 0, START, pid=1, signals={"loss": "seen", "clip": "not visible"})
    files.machine_event("started", START, pid=2, watches=[1], gpus=[], nvml="no NVIDIA GPU")
    files.parameters(["weight", "bias"])
    files.parameters(["weight"], table=1, first_step=steps // 2)
    for step in range(1, steps + 1):
        files.step(step, loss=1 / step, training=1, step_s=1, probe_s=0.01)
        if step < steps // 2:
            files.gradients(step, [0.5, math.inf if step == 3 else 1 / step])
        else:
            files.gradients(step, [1 / step], table=1)
        if step % 4 == 1:
            files.updates(
                step, *(([2.0, 1.0], [0.5, math.nan]) if step < steps // 2 else ([4.0], [1 / step])), int(step >= steps // 2)
            )
        files.machine(START + step)
        if step % 5 == 1:
            files.memory(step, [1e9 + step, 2e9, 1.5e9])
        if step % 10 == 0:
            files.metric("accuracy/top 1", step, step / 100)
            files.event(
                "evaluation", step, metric="cross_entropy", value=abs(step - 20) + 1, training=False, grad_enabled=False
            )
            files.event("checkpoint", step, START + step + 0.7, path=f"/checkpoints/{step}.pt", function="torch.save")
    files.machine_event("ended", START + steps + 2, how="finished", exit_code=0, signal=None, message="")
    return files


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file())


def dump(value: object) -> str:
    return json.dumps(value)
