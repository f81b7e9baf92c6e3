"""The two faults that show only on some machines, shown there and mended as their fix says: then nothing is found any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from forgemon.check import RunCheck
from tests.demo_loops.demo_run import DEMO_LOOPS
from tests.demo_loops.expected import shortened
from tests.demo_loops.fixes import words_followed
from tests.demo_loops.followed_calls import CPU_FALLBACK, SHM_TOO_SMALL
from tests.demo_loops.mending import assert_nothing_is_found
from tests.demo_loops.watched_demo import Watched, watched

SIMULATED_DEVICE = Path(__file__).parents[1] / "probes" / "simulated_device.py"
ON_IT = """
import runpy
folders = os.listdir
os.listdir = lambda path=".": ["null", "nvidiactl", "nvidia0"] if path == "/dev" else folders(path)
with simulate(sys.modules["_forgemon_probe"].session):
    runpy.run_path({script!r}, run_name="__main__")
"""
"""What the loop sends to its device is on a GPU to our eyes, though it is computed on the CPU."""
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = ["simulated", pytest.param("real", marks=needs_a_gpu)]

SMALL, LARGER = "64m", "256m"
"""The first is what a container has that was started without --shm-size."""
DEADLINE_S = 100.0
MOUNT = 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"'
ALONE = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))
"""Each gives what it starts mounts of its own; the second to anybody, where the kernel lets them."""


def on_gpu(device: str, script: Path, folder: Path) -> Watched:
    if device == "simulated":
        start = folder / "simulated.py"
        start.write_text(SIMULATED_DEVICE.read_text() + ON_IT.format(script=str(script)))
        script = start
    return watched(script, folder, shortened(CPU_FALLBACK.demo))


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_left_on_the_cpu(device: str, tmp_path: Path) -> None:
    found = on_gpu(device, DEMO_LOOPS / "cpu_fallback.py", tmp_path).of("cpu-fallback")
    assert found is not None and found.fix == words_followed("cpu_fallback")
    assert found.where is not None and found.where.text == "optimizer.step()"


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_moved_to_the_gpu(device: str, tmp_path: Path) -> None:
    assert_nothing_is_found(on_gpu(device, CPU_FALLBACK.write(CPU_FALLBACK.source, tmp_path), tmp_path))


@pytest.fixture(scope="module")
def alone() -> Sequence[str]:
    """What to put before a command so that it can have a /dev/shm of its own."""
    for prefix in ALONE:
        try:
            if subprocess.run([*prefix, "sh", "-c", MOUNT, SMALL, "true"], capture_output=True).returncode == 0:
                return prefix
        except OSError:
            break
    pytest.skip("a /dev/shm of one's own needs unshare(1), and the right to mount")


def with_shm(alone: Sequence[str], size: str, script: Path, folder: Path) -> Watched:
    """Run `script` from its first step to its end where /dev/shm holds `size`. Where a worker finds no room for a batch only as it hands
    it over, torch drops the batch, and the loop waits for it until somebody kills it."""
    forgemon = [sys.executable, "-m", "forgemon", "run", "--headless", "--budget", "0", "--run-dir", str(folder / "runs")]
    with subprocess.Popen(
        [*alone, "sh", "-c", MOUNT, size, *forgemon, "--", sys.executable, str(script), *shortened(SHM_TOO_SMALL.demo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
    (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    check = RunCheck(run)
    check.read()
    return Watched(output, process.returncode, check.checked())


def test_workers_with_a_small_shm(alone: Sequence[str], tmp_path: Path) -> None:
    run = with_shm(alone, SMALL, DEMO_LOOPS / "shm_too_small.py", tmp_path)
    found = run.of("shm-too-small")
    assert found is not None, run.output[-2000:]
    assert (found.level, found.fix) == ("alarm", words_followed("shm_too_small"))
    assert found.where is not None and "train_loader = DataLoader(" in found.where.text


def test_workers_with_a_larger_shm(alone: Sequence[str], tmp_path: Path) -> None:
    assert_nothing_is_found(with_shm(alone, LARGER, DEMO_LOOPS / "shm_too_small.py", tmp_path))


def test_fewer_workers_with_a_small_shm(alone: Sequence[str], tmp_path: Path) -> None:
    script = SHM_TOO_SMALL.write(SHM_TOO_SMALL.source, tmp_path)
    assert_nothing_is_found(with_shm(alone, SMALL, script, tmp_path))
