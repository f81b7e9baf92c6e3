"""What is said of an exception, on messages as torch 2.13 writes them."""

from __future__ import annotations

import pytest

from forgemon.exceptions import exception_line, found_no_shared_memory

IN_WORKER = """Caught {kind} in DataLoader worker process 1.
Original Traceback (most recent call last):
  File "/lib/torch/utils/data/_utils/worker.py", line 374, in _worker_loop
    data = fetcher.fetch(index)
           ^^^^^^^^^^^^^^^^^^^^
  File "/home/ada/train.py", line 6, in __getitem__
    raise ValueError("row 500 has 3 columns")
{kind}: {said}
"""
FULL = "unable to allocate shared memory(shm) for file </torch_9864_3671609743_0>: No space left on device (28)"
BUS = (
    "DataLoader worker (pid 2921) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. "
    "Please try to raise your shared memory limit."
)


@pytest.mark.parametrize(
    ("kind", "message", "line"),
    [
        ("ValueError", "bad batch\nmore", "ValueError: bad batch"),
        ("KeyboardInterrupt", "", "KeyboardInterrupt"),
        (
            "ValueError",
            IN_WORKER.format(kind="ValueError", said="row 500 has 3 columns"),
            "ValueError: row 500 has 3 columns (in DataLoader worker process 1)",
        ),
        ("RuntimeError", "Caught cold.\nOriginal Traceback", "RuntimeError: Caught cold."),
    ],
)
def test_one_line(kind: str, message: str, line: str) -> None:
    assert exception_line(kind, message) == line


@pytest.mark.parametrize(
    ("message", "full"),
    [
        (IN_WORKER.format(kind="RuntimeError", said=FULL), True),
        (BUS, True),
        ("unable to write to file </torch_12_34_0>: No space left on device (28)", True),
        ("[Errno 28] No space left on device: '/data/last.pt'", False),
        ("DataLoader worker (pid 2921) is killed by signal: Killed.", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
    ],
)
def test_a_full_dev_shm(message: str, full: bool) -> None:
    assert found_no_shared_memory(message) is full
