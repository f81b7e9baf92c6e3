"""What `forgemon run` does inside each Python it starts (forgemon/launch_site): waits for torch and leaves all else alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from forgemon.launch import watched_environment
from forgemon.sidecar import LAUNCH_SITE

BOOTSTRAP = """
import os, sys
def start(config):
    if os.environ.get("STAND_IN_FAILS"): raise RuntimeError("no luck")
    name = os.path.join(config["run_dir"], f"started-{os.getpid()}")
    torch = sys.modules["torch"]
    with open(name, "w") as file:
        print(__name__, __file__, config["mode"], config["host_pid"], torch.done, torch.__spec__._initializing, file=file)
"""
"Stands in for probes/bootstrap.py: writes down that and how it was started."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small package called torch in it."""
    (tmp_path / "work" / "torch").mkdir(parents=True)
    (tmp_path / "work" / "torch" / "__init__.py").write_text("done = False\nimport json\ndone = True\n")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def environment(folder: Path, run: Path) -> dict[str, str]:
    """That of a watched command whose probes are the stand-in."""
    probes = folder.parent / "probes"
    probes.mkdir()
    (probes / "bootstrap.py").write_text(BOOTSTRAP)
    return watched_environment(run, ["python"], probes=probes)


def python(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def started(run: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(run.glob("started-*"))]


def test_the_probes_start_once_torch_is_whole(environment: dict[str, str], run: Path) -> None:
    code = "import torch, sys; print(type(sys.meta_path[0]), torch.__loader__.__dict__.keys(), '_forgemon' in str(sys.modules))"
    watched, plain = python(environment, "-c", code), python(os.environ, "-c", code)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    name, path, mode, pid, done, initializing = started(run)[0].split()
    assert (name, Path(path).name, mode, done, initializing) == (
        "_forgemon_bootstrap",
        "bootstrap.py",
        "run",
        "True",
        "False",
    )
    assert (run / f"started-{pid}").exists()


def test_a_process_without_torch_is_left_alone(environment: dict[str, str], run: Path) -> None:
    code = "import sys; print(sorted(sys.modules)); import json; print(sys.path, 'torch' in sys.modules)"
    assert python(environment, "-c", code).stdout == python(os.environ, "-c", code).stdout
    assert not list(run.iterdir())


def test_looking_for_torch_is_not_importing_it(environment: dict[str, str], run: Path) -> None:
    code = "import importlib.util as u; print(u.find_spec('torch').origin, u.find_spec('no_such')); print(not started())"
    code = code.replace("started()", f"__import__('glob').glob({str(run / 'started-*')!r})") + "; import torch"
    done = python(environment, "-c", code)
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    assert len(started(run)) == 1


def test_a_torch_that_fails_to_import_may_be_tried_again(environment: dict[str, str], run: Path, folder: Path) -> None:
    (folder / "torch" / "__init__.py").write_text(
        "import os\nif os.environ.pop('FAIL', 0): raise ImportError('no')\ndone = 1\n"
    )
    code = "\ntry:\n import torch\nexcept ImportError as e: print(e)\nimport torch\n"
    done = python({**environment, "FAIL": "1"}, "-c", code)
    assert (done.stdout, done.stderr) == ("no\n", "")
    assert len(started(run)) == 1


def test_children_inherit(environment: dict[str, str], run: Path, folder: Path) -> None:
    (folder / "spawn.py").write_text(
        "import multiprocessing, subprocess, sys, torch\n"
        "def child(): import torch\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    subprocess.run([sys.executable, '-c', 'import torch'], check=True)\n"
    )
    assert python(environment, "spawn.py").stderr == ""
    assert len(started(run)) == 3


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_an_isolated_python_stays_unwatched(environment: dict[str, str], run: Path, flag: str) -> None:
    done = python(environment, flag, "-c", "import sys; sys.path.insert(0, '.'); import torch; print(torch.done)")
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not started(run)


@pytest.mark.parametrize(
    "own",
    [
        None,
        "import sys; sys.own = 'ran'; value = 7",
        "raise RuntimeError('theirs')",
        "import no_such_module",
        "import sys; sys.path.append('/extra')",
        "raise SystemExit(9)",
    ],
)
def test_the_users_sitecustomize_runs_as_it_would(environment: dict[str, str], folder: Path, own: str | None) -> None:
    theirs = folder.parent / "theirs"
    theirs.mkdir()
    if own is not None:
        (theirs / "sitecustomize.py").write_text(own)
    code = (
        "import sys\n"
        "print(getattr(sys, 'own', None), sys.path, list(sys.path_importer_cache), 'sitecustomize' in sys.modules)\n"
        "import sitecustomize\n"
        "print(sitecustomize.__file__, vars(sitecustomize).get('value'), sitecustomize is sys.modules['sitecustomize'])\n"
    )
    plain = python({**os.environ, "PYTHONPATH": str(theirs)}, "-c", code)
    path = environment["PYTHONPATH"] + os.pathsep + str(theirs)
    watched = python({**environment, "PYTHONPATH": path}, "-c", code)
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    if own != "raise SystemExit(9)":  # ends in a traceback of the import system, where one of the frames is ours
        assert watched.stderr == plain.stderr


def test_probes_that_fail_leave_a_note_and_nothing_else(environment: dict[str, str], run: Path) -> None:
    done = python({**environment, "STAND_IN_FAILS": "1"}, "-c", "import torch; print(torch.done)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    (event,) = [json.loads(line) for line in (run / "rank-0" / "events.jsonl").read_text().splitlines()]
    assert (event["kind"], event["error"]) == ("probe_error", "RuntimeError: no luck")


@pytest.mark.parametrize("config", ["", "no json", "{}", '{"probes": "/nowhere", "run_dir": "/proc/nowhere"}'])
def test_a_broken_environment_harms_nobody(environment: dict[str, str], config: str) -> None:
    done = python({**environment, "FORGEMON_RUN": config}, "-c", "import torch; print(torch.done)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_an_installation_that_vanished_harms_nobody(environment: dict[str, str], folder: Path) -> None:
    site = folder.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text((LAUNCH_SITE / "sitecustomize.py").read_text())
    done = python({**environment, "PYTHONPATH": str(site)}, "-c", "import torch, sys; print(torch.done)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
