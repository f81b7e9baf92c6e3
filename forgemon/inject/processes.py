"""The training processes of this machine: every Python with torch that is neither a worker nor a launcher."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass

import psutil

from forgemon.inject import family, procfs
from forgemon.inject.preflight import user_name
from forgemon.inject.python import PythonProcess, find_python

GPU_PATIENCE_S = 2.0
"A driver that hangs must not hold up a list."


@dataclass(frozen=True)
class TrainingProcess:
    """One line of the list to choose from."""

    pid: int
    user: str
    program: str
    "Its script, or `-m module`."
    age_s: float
    cpu_s: float
    "Processor time it has used, its children not counted."
    gpu_bytes: float | None
    "On all GPUs together; None where no NVIDIA GPU is known."
    run: str | None
    "The run directory it is recorded to, when it is watched."


def training_processes() -> list[TrainingProcess]:
    """All that we may look at, the one with the most processor time first. What ends meanwhile is left out."""
    gpu_bytes = _gpu_bytes_by_pid()
    found = []
    for pid in procfs.pids():
        try:
            if pid != os.getpid() and _is_training(pid):
                found.append(_describe(pid, gpu_bytes))
        except (OSError, psutil.Error):
            continue
    return sorted(found, key=lambda process: -process.cpu_s)


def _is_training(pid: int) -> bool:
    if not family.trains(pid):
        return False
    command = procfs.command_line(pid)
    if not command or family.is_launcher(pid, command) or family.worker_of(pid) is not None:
        return False
    return isinstance(find_python(pid, procfs.mappings(pid)), PythonProcess)


def _describe(pid: int, gpu_bytes: dict[int, float] | None) -> TrainingProcess:
    process = psutil.Process(pid)
    with process.oneshot():
        times = process.cpu_times()
        runs = procfs.open_runs(pid)
        return TrainingProcess(
            pid=pid,
            user=user_name(process.uids().effective),
            program=procfs.program_name(procfs.command_line(pid)),
            age_s=max(0.0, time.time() - process.create_time()),
            cpu_s=times.user + times.system,
            gpu_bytes=None if gpu_bytes is None else gpu_bytes.get(pid, 0.0),
            run=runs[0].run if runs else None,
        )


def _gpu_bytes_by_pid() -> dict[int, float] | None:
    """Memory of each process on all GPUs; None without a GPU, a driver or an answer in time."""
    answers: list[dict[int, float]] = []
    asking = threading.Thread(target=lambda: answers.extend(_ask_nvml()), name="nvml", daemon=True)
    asking.start()
    asking.join(GPU_PATIENCE_S)
    return answers[0] if answers else None


def _ask_nvml() -> list[dict[int, float]]:
    import pynvml

    try:
        pynvml.nvmlInit()
        used: dict[int, float] = {}
        count = pynvml.nvmlDeviceGetCount()
        for index in range(count):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                held = math.nan if process.usedGpuMemory is None else float(process.usedGpuMemory)
                used[process.pid] = used.get(process.pid, 0.0) + held
        return [used] if count else []
    except pynvml.NVMLError:  # no driver, no library, no permission: there is no GPU for us
        return []
