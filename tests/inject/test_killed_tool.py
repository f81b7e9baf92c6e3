"""kill -9 of the tool at any point of an injection: the target goes on, computes the same, and can be attached to again."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.inject.targets import inject, running
from tests.waiting import wait_for

KILLED_AT = """
    import os, signal, sys
    from forgemon.inject import ptrace
    from tests.inject.targets import inject
    pid, last = int(sys.argv[1]), int(sys.argv[2])
    request, count = ptrace._ptrace, 0
    def counted(*arguments):
        global count
        request(*arguments)
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    ptrace._ptrace = counted
    inject(pid, "import sys; sys.hits += 1")
    print(count)
"""

COMPUTES = """
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
    import signal
    print("wrong", wrong, "blocked", signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
"""

WAITS = """
    import os, select, signal, sys, time
    sys.hits = 0
    a, b = os.pipe()
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        began = time.monotonic()
        poll = select.poll()
        poll.register(a)
        assert poll.poll(100) == []
        assert time.monotonic() - began >= 0.1
        time.sleep(0.05)
    print("wrong 0 blocked", signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
"""


@pytest.mark.parametrize("source", [COMPUTES, WAITS], ids=["computing", "waiting in the kernel"])
def test_kill_after_every_single_request(tmp_path: Path, source: str) -> None:
    driver = textwrap.dedent(KILLED_AT)
    with running(tmp_path, source) as target:
        killed = 0
        for last in range(1, 200):
            tool = subprocess.run([sys.executable, "-c", driver, str(target.pid), str(last)], capture_output=True, text=True)
            assert target.process.poll() is None, f"the target died with the tool at request {last}"
            if tool.returncode == 0:
                break
            assert tool.returncode == -signal.SIGKILL, tool.stderr
            killed += 1
        assert killed > 20
        inject(target.pid, f"open({str(tmp_path)!r} + '/mark', 'w').close()")
        wait_for((tmp_path / "mark").exists, "an injection after all that")
        assert target.finish() == "wrong 0 blocked set()\n"
