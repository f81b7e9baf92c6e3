"""The injected source runs, and the target never notices: registers, system calls, signals and sleep stay its own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from forgemon.inject import AttachError, procfs
from forgemon.inject.boot import cannot_fail
from tests.inject.targets import BUSY, TORCH, inject, running, way_into
from tests.waiting import wait_for

MATMUL = """
    import os, sys
    import numpy
    generator = numpy.random.default_rng(0)
    a, b = generator.standard_normal((2, 96, 96)).astype("float32")
    expected = (a @ b).tobytes()
    sys.hits = wrong = 0
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        for _ in range(100):
            wrong += (a @ b).tobytes() != expected
    print("wrong", wrong, "hits", sys.hits, flush=True)
"""

CALLS_C = """
    import ctypes, os, signal, sys, threading, time
    handled = []
    signal.signal(signal.SIGUSR1, lambda *a: handled.append(1))
    signal.signal(signal.SIGALRM, lambda *a: handled.append(2))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    print("ready", flush=True)
    began = time.monotonic()
    time.sleep(1.0)
    slept = time.monotonic() - began
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    while not os.path.exists(sys.argv[1]):
        pass
    print("slept", slept >= 1.0, "mask", [int(s) for s in mask], "hits", getattr(sys, "hits", 0), flush=True)
"""

COUNT = "import sys; sys.hits = getattr(sys, 'hits', 0) + 1"


def test_source_runs_in_a_busy_loop(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with running(tmp_path, BUSY) as target:
        inject(target.pid, f"open({str(mark)!r}, 'w').close()")
        wait_for(mark.exists, "the injected source to run")
        left = target.finish()
    assert left.startswith("end ")
    for name in ("mark", "boot", "_forgemon_boot"):
        assert name not in eval(left[4:])


def test_fifty_injections_leave_matrix_products_exact(tmp_path: Path) -> None:
    with running(tmp_path, MATMUL) as target:
        for i in range(50):
            inject(target.pid, COUNT + f"; open({str(tmp_path)!r} + '/hit-{i}', 'w').close()")
            wait_for((tmp_path / f"hit-{i}").exists, f"injection {i}")
        assert target.finish() == "wrong 0 hits 50\n"


def test_torch_loop_whose_workers_come_and_go(tmp_path: Path) -> None:
    with running(tmp_path, TORCH) as target:
        for i in range(20):
            inject(target.pid, f"open({str(tmp_path)!r} + '/hit-{i}', 'w').close()")
            wait_for((tmp_path / f"hit-{i}").exists, f"injection {i}")
        assert target.finish().endswith("end\n")


def test_sleep_is_not_shortened_and_the_signal_mask_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, CALLS_C) as target:
        inject(target.pid, COUNT)
        inject(target.pid, COUNT)
        assert target.finish() == f"slept True mask [{int(signal.SIGUSR2)}] hits 2\n"


def test_no_signal_is_lost(tmp_path: Path) -> None:
    """Real-time signals queue, so each one sent while the thread is held must arrive, with the value it carries."""
    source = """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN, signal.SIGRTMAX})
        print("ready", flush=True)
        senders = []
        while (info := signal.sigwaitinfo({signal.SIGRTMIN, signal.SIGRTMAX})).si_signo != signal.SIGRTMAX:
            senders.append(info.si_pid)
        print(*sorted(senders), flush=True)
    """
    with running(tmp_path, source) as target:
        way = way_into(target.pid)
        senders = [subprocess.Popen(["kill", "-s", "RTMIN", str(target.pid)]) for _ in range(20)]
        for _ in range(10):
            way.inject("pass")
        pids = sorted(sender.pid for sender in senders if sender.wait() == 0)
        os.kill(target.pid, signal.SIGRTMAX)  # of several that are pending, the kernel delivers it last
        assert [int(pid) for pid in target.finish().split()] == pids
        assert len(pids) == 20


def test_handlers_run_while_injections_go_on(tmp_path: Path) -> None:
    source = """
        import os, signal, sys
        count = 0
        def handler(number, frame):
            global count
            count += 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        print("ready", flush=True)
        while not os.path.exists(sys.argv[1]):
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("handled", count > 20, "hits", sys.hits, flush=True)
    """
    with running(tmp_path, source) as target:
        for i in range(20):
            inject(target.pid, COUNT + f"; open({str(tmp_path)!r} + '/hit-{i}', 'w').close()")
            wait_for((tmp_path / f"hit-{i}").exists, f"injection {i}")
        assert target.finish() == "handled True hits 20\n"


def test_a_stopped_process_stays_stopped(tmp_path: Path) -> None:
    with running(tmp_path, BUSY) as target:
        way = way_into(target.pid)
        os.kill(target.pid, signal.SIGSTOP)
        wait_for(lambda: procfs.status(target.pid).state == "T", "the stop")
        with pytest.raises(AttachError, match=f"stopped just now. Resume it .kill -CONT {target.pid}."):
            way.inject("pass")
        wait_for(lambda: procfs.status(target.pid).state == "T", "it to be stopped again, on its way out of our hands")
        assert procfs.status(target.pid).tracer == 0
        os.kill(target.pid, signal.SIGCONT)
        assert target.finish().startswith("end ")


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    with running(tmp_path, BUSY) as target:
        way = way_into(target.pid)
        target.finish()
        with pytest.raises(AttachError, match=f"PID {target.pid} exited before it could be attached to"):
            way.inject("pass")


def test_a_full_queue_of_calls_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The main thread waits in C, so nothing is taken from the queue; a full one refuses the call."""
    source = """
        import ctypes, sys
        libc = ctypes.PyDLL(None)  # keeps the interpreter lock while it reads
        print("ready", flush=True)
        libc.read(0, ctypes.create_string_buffer(1), 1)
        for _ in range(1000): pass
        print("hits", sys.hits, flush=True)
    """
    with running(tmp_path, source, stdin=subprocess.PIPE) as target:
        way = way_into(target.pid)
        with pytest.raises(AttachError, match="queue of calls is full"):
            for _ in range(400):  # there are 31 places before Python 3.13, 300 since
                way.inject(cannot_fail(COUNT))
        mapped = len(procfs.mappings(target.pid))
        with pytest.raises(AttachError, match="queue of calls is full"):
            way.inject("pass")
        assert len(procfs.mappings(target.pid)) == mapped
        assert target.process.stdin is not None
        target.process.stdin.write("x")
        assert int(target.finish().split()[1]) >= 31  # and what ran before the main thread began to read


def test_bytes_below_the_stack_pointer_and_the_flags_survive(tmp_path: Path) -> None:
    """A sort in C keeps its state in registers and below the stack pointer."""
    source = """
        import os, sys
        numbers = [(i * 2654435761) % 1000003 for i in range(20000)]
        expected = sorted(numbers)
        wrong = 0
        print("ready", flush=True)
        while not os.path.exists(sys.argv[1]):
            wrong += sorted(numbers) != expected
        print("wrong", wrong, flush=True)
    """
    with running(tmp_path, source) as target:
        for i in range(20):
            inject(target.pid, f"open({str(tmp_path)!r} + '/hit-{i}', 'w').close()")
            wait_for((tmp_path / f"hit-{i}").exists, f"injection {i}")
        assert target.finish() == "wrong 0\n"
