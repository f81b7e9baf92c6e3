"""Which devices the trained parameters are on; a model that trains on the CPU of a machine with an NVIDIA GPU. Initialises no CUDA."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import torch

from .probe import Probe

if TYPE_CHECKING:
    from .known import Known

DEVICE_FILE = re.compile(r"nvidia\d+")
DRIVER_FOLDER = "/proc/driver/nvidia/gpus"
NO_DEVICES = ("", "-1", "none", "NoDevFiles")


class Devices(Probe):
    """Looks once, at the first step."""

    signals = ("parameter devices",)
    _looked = False

    def step_begins(self, known: Known) -> None:
        if self._looked or not known.parameters:
            return
        self._looked = True
        devices = parameter_devices(known.parameters)
        self.session.signals.seen("parameter devices")
        if set(devices) != {"cpu"} or uses_gpu_otherwise():
            return
        files, driver = gpus_on_machine()
        if files or driver:
            self.session.facts.seen("cpu-fallback", **evidence(devices, files, driver), where=self.session.user_line())


def parameter_devices(parameters: list[torch.Tensor]) -> dict[str, int]:
    """Number of parameters on each device."""
    devices: dict[str, int] = {}
    for parameter in parameters:
        name = str(parameter.device)
        devices[name] = devices.get(name, 0) + 1
    return devices


def uses_gpu_otherwise() -> bool:
    """Whether the program has something on a GPU already: then parameters on the CPU are meant (offloading, a small policy)."""
    if not torch.cuda.is_initialized():
        return False
    try:
        return any(torch.cuda.memory_reserved(device) for device in range(torch.cuda.device_count()))
    except RuntimeError:  # an allocator of the program's own, which counts nothing: there is something to allocate
        return True


def gpus_on_machine() -> tuple[int, int]:
    """(GPUs this process may open, GPUs the kernel's driver knows): in a container without GPU flags only the second shows."""
    files = sum(DEVICE_FILE.fullmatch(name) is not None for name in _names("/dev"))
    return files, len(_names(DRIVER_FOLDER))


def evidence(devices: dict[str, int], files: int, driver: int) -> dict[str, Any]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {
        "parameter_devices": devices,
        "device_files": files,
        "driver_gpus": driver,
        "torch_has_cuda": torch.backends.cuda.is_built(),
        "cuda_visible_devices": visible,
        "on_purpose": visible is not None and visible.strip() in NO_DEVICES,
    }


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
