"""NVIDIA GPUs through NVML: what each one uses, and how much of that the watched processes do. Missing is NaN."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Collection
from typing import Any

NO_GPU = "no NVIDIA GPU"
INITIAL_PID_NAMESPACE = "pid:[4026531836]"
NAN = math.nan


class Gpus:
    """The GPUs of this host, asked on a thread of their own: a driver that hangs must not hold up anything else.

    `ready` is set once `names` and `message` stand. `message` says why there is no GPU, empty when there is one.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.message = NO_GPU
        self.ready = threading.Event()
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._pids: Collection[int] = ()
        self._row: list[float] = []
        self._pids_are_ours = _in_initial_pid_namespace()
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="nvml", daemon=True)
        self._thread.start()

    def read(self, pids: Collection[int], patience_s: float = 0.3) -> list[float]:
        """Six numbers a GPU in the order of `probes.record.machine_columns`; all NaN when the driver takes too long."""
        if not self.names:
            return []
        self._pids = pids
        self._answered.clear()
        self._wanted.set()
        return self._row if self._answered.wait(patience_s) else [NAN] * (6 * len(self.names))

    def close(self) -> None:
        self._closing = True
        self._wanted.set()
        self._thread.join(1.0)

    def _serve(self) -> None:
        self._open()
        self.ready.set()
        while self._handles and not self._closing:
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing:
                self._row = self._read(self._pids)
                self._answered.set()
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _open(self) -> None:
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:  # no driver, no library, no permission: there is no GPU for us
            return
        self._nvml = pynvml
        try:
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            self.message = f"{NO_GPU}: {error}"
        self.names = [self._name(handle) for handle in self._handles]
        if self._handles:
            self.message = ""

    def _name(self, handle: Any) -> str:
        try:
            name = self._nvml.nvmlDeviceGetName(handle)
        except self._nvml.NVMLError:
            return "NVIDIA GPU"
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)

    def _read(self, pids: Collection[int]) -> list[float]:
        processes = [self._processes(handle) for handle in self._handles]
        if any(pid in pids for found in processes if found for pid in found):
            self._pids_are_ours = True
        return [
            number
            for handle, found in zip(self._handles, processes, strict=True)
            for number in self._read_gpu(handle, self._share(found, pids))
        ]

    def _read_gpu(self, handle: Any, share: float) -> list[float]:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
        if memory is None:  # version 1 counts what the driver reserves for itself as used
            memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        return [
            NAN if memory is None else float(memory.used),
            NAN if memory is None else float(memory.total),
            share,
            self._number(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            self._number(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),  # milliwatts
            self._number(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        ]

    def _processes(self, handle: Any) -> dict[int, float] | None:
        """Bytes of each process that computes on the GPU; None when NVML does not say."""
        found = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if found is None:
            return None
        return {process.pid: NAN if process.usedGpuMemory is None else float(process.usedGpuMemory) for process in found}

    def _share(self, found: dict[int, float] | None, pids: Collection[int]) -> float:
        """What the watched processes hold. NVML knows pids of the host's namespace: in a container 0 would be a guess."""
        if found is None:
            return NAN
        ours = [used for pid, used in found.items() if pid in pids]
        return sum(ours) if ours else (0.0 if self._pids_are_ours else NAN)

    def _number(self, question: Callable[[], Any]) -> float:
        answer = self._ask(question)
        return NAN if answer is None else float(answer)

    def _ask(self, question: Callable[[], Any]) -> Any:
        """None for anything this GPU, driver or version of pynvml does not answer."""
        try:
            return question()
        except (self._nvml.NVMLError, AttributeError, TypeError):
            return None


def _in_initial_pid_namespace() -> bool:
    try:
        return os.readlink("/proc/self/ns/pid") == INITIAL_PID_NAMESPACE
    except OSError:
        return False
