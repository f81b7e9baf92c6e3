"""Other interpreters: FORGEMON_TEST_PYTHONS names them, separated by colons; every one must be 3.10 or later."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from forgemon.inject import attach_process, detach_process, procfs
from forgemon.inject.python import REQUIRED, PythonProcess, find_python
from tests.inject.targets import inject, running, stand_in
from tests.inject.test_preflight import MAPS_A_LIBTORCH
from tests.waiting import wait_for

PYTHONS = [path for path in os.environ.get("FORGEMON_TEST_PYTHONS", "").split(os.pathsep) if path]


def test_addresses_are_those_of_the_loader() -> None:
    python = find_python(os.getpid(), procfs.mappings(os.getpid()))
    assert isinstance(python, PythonProcess)
    for name in REQUIRED:
        assert python.addresses[name] == ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value


@pytest.mark.skipif(not PYTHONS, reason="FORGEMON_TEST_PYTHONS is not set")
@pytest.mark.parametrize("python", PYTHONS)
def test_fifty_injections(tmp_path: Path, python: str) -> None:
    with running(tmp_path, MAPS_A_LIBTORCH.replace("time.sleep(0.01)", "sum(range(100))"), python=python) as target:
        for i in range(50):
            inject(target.pid, f"open({str(tmp_path)!r} + '/hit-{i}', 'w').close()")
            wait_for((tmp_path / f"hit-{i}").exists, f"injection {i}")
        run = attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path), timeout_s=30)
        assert [opened.run for opened in detach_process(target.pid)] == [str(run)]
        assert target.finish() == ""
