"""The boot string: what it starts, what it leaves behind, and that nothing in it can hurt the loop it interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from forgemon.inject import begin_attach
from forgemon.inject.boot import boot_source, cannot_fail, detach_source
from tests.inject.targets import running, stand_in, way_into
from tests.waiting import wait_for

LOOP = """
    import os, sys, time
    print("ready", flush=True)
    before = set(globals()) | {"before"}
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.001)
    print("end", set(globals()) - before, sorted(name for name in sys.modules if name.startswith("_forgemon")), flush=True)
"""

FAULTS = {
    "syntax error": "def start(config:\n    pass\n",
    "no start": "x = 1\n",
    "exception": "def start(config):\n    raise ValueError('boom')\n",
    "exit": "import sys\ndef start(config):\n    sys.exit(3)\n",
    "exit while loading": "raise SystemExit(4)\n",
    "interrupt": "def start(config):\n    raise KeyboardInterrupt\n",
    "recursion": "def start(config):\n    start(config)\n",
}


def boot(pid: int, run: Path, bootstrap: Path, **config: Any) -> None:
    way_into(pid).inject(boot_source({"run_dir": str(run), **config}, str(bootstrap)))


@pytest.mark.parametrize("source", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_ours_is_written_down_and_the_loop_goes_on(tmp_path: Path, source: str) -> None:
    probes = stand_in(tmp_path, source)
    with running(tmp_path, LOOP) as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py")
        report = tmp_path / "boot-error.txt"
        wait_for(lambda: report.exists() and report.read_text().endswith("\n"), "the report")
        assert target.finish() == "end set() []\n"
        assert target.process.returncode == 0


def test_no_bootstrap_and_no_run_directory(tmp_path: Path) -> None:
    with running(tmp_path, LOOP) as target:
        boot(target.pid, tmp_path / "gone", tmp_path / "gone" / "bootstrap.py")
        way_into(target.pid).inject(cannot_fail(f"open({str(tmp_path / 'after')!r}, 'w').close()"))
        wait_for((tmp_path / "after").exists, "the call after it")
        assert target.finish() == "end set() []\n"


def test_bootstrap_gets_the_config_and_a_namespace_of_its_own(tmp_path: Path) -> None:
    source = """
        import json
        def start(config):
            with open(config["run_dir"] + "/got.tmp", "w") as file:
                json.dump([config, __name__, __file__], file)
            import os
            os.rename(config["run_dir"] + "/got.tmp", config["run_dir"] + "/got")
    """
    probes = stand_in(tmp_path, source)
    config: dict[str, Any] = {
        "git": {"commit": "abc", "clean": True},
        "budget": 0.01,
        "name": 'it\'s "quoted" \\ ü\n',
        "none": None,
    }
    with running(tmp_path, LOOP) as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py", **config)
        wait_for((tmp_path / "got").exists, "the config to arrive")
        import json

        got = json.loads((tmp_path / "got").read_text())
        assert got == [{"run_dir": str(tmp_path), **config}, "_forgemon_bootstrap", str(probes / "bootstrap.py")]
        assert target.finish() == "end set() []\n"


def test_names_the_user_has_taken_do_not_matter(tmp_path: Path) -> None:
    probes = stand_in(tmp_path, "def start(config):\n    open(config['run_dir'] + '/started', 'w').close()\n")
    taken = LOOP.replace("before = ", 'exec = open = compile = BaseException = "taken"\n    before = ')
    with running(tmp_path, taken) as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py")
        wait_for((tmp_path / "started").exists, "the start")
        assert target.finish() == "end set() []\n"


def test_in_the_middle_of_an_import(tmp_path: Path) -> None:
    """The outer import must end as if nothing had been: the source is loaded without the import system."""
    (tmp_path / "slow_module.py").write_text(
        "import os, sys, time\nprint('ready', flush=True)\n"
        "while not os.path.exists(sys.argv[1]):\n    time.sleep(0.001)\nvalue = 5\n"
    )
    probes = stand_in(tmp_path, "def start(config):\n    open(config['run_dir'] + '/started', 'w').close()\n")
    with running(tmp_path, "import slow_module\nprint('value', slow_module.value)\n") as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py")
        wait_for((tmp_path / "started").exists, "the start")
        assert target.finish() == "value 5\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_of_the_users_is_not_swallowed(tmp_path: Path, number: int) -> None:
    """It arrives while our source runs and its handler raises there; the user's own code must see the exception."""
    slow = "def start(config):\n    open(config['run_dir'] + '/started', 'w').close()\n    while True: pass\n"
    probes = stand_in(tmp_path, slow)
    source = """
        import os, signal, sys, time
        class Asked(Exception): pass
        def handler(number, frame):
            raise Asked(number)
        signal.signal(signal.SIGTERM, handler)
        print("ready", flush=True)
        try:
            while True:
                time.sleep(0.001)
        except (Asked, KeyboardInterrupt) as error:
            print("stopped by", type(error).__name__, flush=True)
    """
    with running(tmp_path, source) as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py")
        wait_for((tmp_path / "started").exists, "the start")
        os.kill(target.pid, number)
        expected = "KeyboardInterrupt" if number == signal.SIGINT else "Asked"
        assert target.finish() == f"stopped by {expected}\n"
        assert not (tmp_path / "boot-error.txt").exists()


def test_an_attach_that_was_given_up_does_not_start(tmp_path: Path) -> None:
    probes = stand_in(tmp_path, "def start(config):\n    open(config['run_dir'] + '/started', 'w').close()\n")
    (tmp_path / "rank-0").mkdir()
    (tmp_path / "rank-0" / "detach").touch()
    with running(tmp_path, LOOP) as target:
        boot(target.pid, tmp_path, probes / "bootstrap.py")
        way_into(target.pid).inject(cannot_fail(f"open({str(tmp_path / 'after')!r}, 'w').close()"))
        wait_for((tmp_path / "after").exists, "the call after it")
        assert target.finish() == "end set() []\n"
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "boot-error.txt").exists()


def test_source_that_does_not_compile_never_leaves_the_tool() -> None:
    with pytest.raises(SyntaxError):
        cannot_fail("def (:")
    with pytest.raises(TypeError):
        boot_source({"run_dir": object()}, "/x")


def test_detach_source_asks_the_session(tmp_path: Path) -> None:
    program = f"""
        import sys, types
        state = types.ModuleType("_forgemon_probe")
        state.session = types.SimpleNamespace(request_detach=lambda: print("asked"))
        sys.modules["_forgemon_probe"] = state
        exec({detach_source()!r})
        del sys.modules["_forgemon_probe"]
        exec({detach_source()!r})
        print("alive")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == "asked\nalive\n"


def test_a_failed_injection_leaves_no_run_directory(tmp_path: Path) -> None:
    from forgemon.inject import AttachError

    with running(tmp_path, LOOP) as target:
        runs = tmp_path / "runs"
        with pytest.raises(AttachError, match="is Python without PyTorch"):
            begin_attach(target.pid, runs, timeout_s=0.0, probes=stand_in(tmp_path))
        assert not runs.exists() or not list(runs.iterdir())
