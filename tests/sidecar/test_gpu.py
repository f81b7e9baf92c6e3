"""GPU columns through a stand-in for pynvml that the sidecar imports as it would the real one."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgemon import gpu
from forgemon.gpu import Gpus
from probes.record import machine_columns
from tests.sidecar.scene import Scene
from tests.sidecar.test_life import rows_of

PYNVML = """
class NVMLError(Exception): pass
class NVMLError_NotSupported(NVMLError): pass
class Answer:
    def __init__(self, **fields): self.__dict__.update(fields)
NVML_TEMPERATURE_GPU = 0
nvmlMemory_v2 = 2
processes = {0: [], 1: []}
silent = set()
broken_start = False
def _ask(name):
    if name in silent: raise NVMLError_NotSupported(name)
def nvmlInit():
    if broken_start: raise NVMLError("Driver Not Loaded")
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(i): return i
def nvmlDeviceGetName(i): return b"Model 1" if i else "Model 0"
def nvmlDeviceGetMemoryInfo(i, version=1):
    _ask(f"memory{i}v{version}")
    return Answer(used=(10 + i) * 2**30, total=80 * 2**30)
def nvmlDeviceGetComputeRunningProcesses(i):
    _ask(f"processes{i}")
    return [Answer(pid=pid, usedGpuMemory=used) for pid, used in processes[i]]
def nvmlDeviceGetUtilizationRates(i):
    _ask(f"utilisation{i}")
    return Answer(gpu=90 + i, memory=1)
def nvmlDeviceGetPowerUsage(i):
    _ask(f"power{i}")
    return 250_000 + i
def nvmlDeviceGetTemperature(i, sensor):
    _ask(f"temperature{i}")
    return 60 + i
"""

GIB = 2.0**30
FIELDS = ("used_bytes", "total_bytes", "process_bytes", "utilisation_percent", "power_w", "temperature_c")


@pytest.fixture
def pynvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "pynvml.py").write_text(PYNVML)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(gpu, "_in_initial_pid_namespace", lambda: True)
    yield importlib.import_module("pynvml")
    sys.modules.pop("pynvml", None)


def read(pids: set[int]) -> list[dict[str, float]]:
    """One reading, a dictionary a GPU."""
    gpus = Gpus()
    assert gpus.ready.wait(30)
    row = gpus.read(pids, patience_s=30)
    gpus.close()
    assert len(row) == 6 * len(gpus.names)
    return [dict(zip(FIELDS, row[i : i + 6], strict=True)) for i in range(0, len(row), 6)]


def test_every_number_of_two_gpus(pynvml: Any) -> None:
    pynvml.processes = {0: [(7, GIB), (8, 2 * GIB), (9, 4 * GIB)], 1: [(9, GIB)]}
    first, second = read({7, 8, 100})
    assert first == {
        "used_bytes": 10 * GIB,
        "total_bytes": 80 * GIB,
        "process_bytes": 3 * GIB,
        "utilisation_percent": 90,
        "power_w": 250,
        "temperature_c": 60,
    }
    assert second["used_bytes"] == 11 * GIB
    assert second["process_bytes"] == 0, "the pids are known here, and none of ours is on this GPU"


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("utilisation1", "utilisation_percent"),
        ("power1", "power_w"),
        ("temperature1", "temperature_c"),
        ("processes1", "process_bytes"),
    ],
)
def test_what_a_gpu_does_not_answer_is_missing_and_nothing_else(pynvml: Any, question: str, field: str) -> None:
    pynvml.silent = {question}
    first, second = read({1})
    assert math.isnan(second.pop(field))
    assert not any(math.isnan(number) for number in [*first.values(), *second.values()])


def test_memory_of_an_older_driver_and_of_none(pynvml: Any) -> None:
    pynvml.silent = {"memory0v2", "memory1v1", "memory1v2"}
    first, second = read({1})
    assert first["used_bytes"] == 10 * GIB
    assert math.isnan(second["used_bytes"]) and math.isnan(second["total_bytes"])


def test_in_a_container_a_share_nobody_can_know_is_missing(pynvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_in_initial_pid_namespace", lambda: False)
    pynvml.processes = {0: [(70_001, GIB)], 1: []}
    assert all(math.isnan(one["process_bytes"]) for one in read({7}))
    pynvml.processes = {0: [(7, GIB)], 1: []}
    assert [one["process_bytes"] for one in read({7})] == [GIB, 0], "one match shows that the pids are ours"


def test_a_process_whose_memory_is_hidden_is_missing(pynvml: Any) -> None:
    pynvml.processes = {0: [(7, None)], 1: []}
    assert math.isnan(read({7})[0]["process_bytes"])


def test_without_a_driver_there_is_no_gpu(pynvml: Any) -> None:
    pynvml.broken_start = True
    gpus = Gpus()
    assert gpus.ready.wait(30)
    assert (gpus.names, gpus.message, gpus.read({1})) == ([], "no NVIDIA GPU", [])
    gpus.close()


def test_a_driver_that_hangs_costs_its_columns_only(pynvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    go_on = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda i: go_on.wait(30) and 0)
    gpus = Gpus()
    assert gpus.ready.wait(30)
    assert all(math.isnan(number) for number in gpus.read({1}, patience_s=0.01))
    go_on.set()
    gpus.close()


def test_the_sidecar_writes_the_columns_of_two_gpus(scene: Scene, pynvml: Any) -> None:
    process = scene.waiting_python()
    scene.watch(process.pid)
    started = scene.events("started")[0]
    assert started["gpus"] == ["Model 0", "Model 1"]
    assert started["nvml"] == ""
    rows = rows_of(scene, 2)
    assert rows.dtype.names == tuple(column[0] for column in machine_columns(2))
    np.testing.assert_array_equal(rows["gpu1_used_bytes"], 11 * GIB)
    np.testing.assert_array_equal(rows["gpu0_power_w"], 250)
