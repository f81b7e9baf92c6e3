"""`forgemon demo` starts a demo loop, watches it by PID, and takes it along when it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from forgemon.commands.demo import check_torch
from forgemon.demos import GROUPS, demos, find_demo, grouped
from forgemon.errors import UserError
from tests.terminal import Terminal
from tests.waiting import wait_for

FORGEMON = [sys.executable, "-m", "forgemon"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    monkeypatch.setenv("FORGEMON_RUNS", str(folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return folder


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FORGEMON, "demo", *arguments], capture_output=True, text=True, timeout=200)


def info(runs: Path) -> dict[str, Any]:
    (file,) = runs.glob("*/run.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def test_list_names_each_demo_in_one_line_under_its_group() -> None:
    done = demo("--list")
    assert done.returncode == 0 and not done.stderr
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")][:-1]
    assert [block[0] for block in blocks] == list(GROUPS.values())
    assert [[line.split()[0] for line in block[1:]] for block in blocks] == list(grouped().values())
    assert all("Nothing is wrong" in line for line in blocks[-1][1:])
    assert max(len(line) for block in blocks for line in block) < 170


def test_dashes_and_underscores_are_the_same() -> None:
    assert find_demo("goes-nan") == find_demo("goes_nan") == find_demo("goes_nan.py") == demos()["goes-nan"]


def test_a_demo_is_found_by_what_it_shows() -> None:
    assert find_demo("loss-nonfinite") == demos()["goes-nan"]


def test_an_unknown_demo_points_to_the_list() -> None:
    done = demo("explodes", "--headless")
    assert done.returncode == 2
    assert done.stderr == "forgemon: there is no demo explodes; `forgemon demo --list` names them all, by group\n"


def test_without_a_terminal_it_says_how_to_do_without() -> None:
    done = demo("overfits")
    assert done.returncode == 2
    assert done.stderr.endswith("write: forgemon demo overfits --headless\n")


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'forgemon\[torch\]'"):
        check_torch()


def test_a_demo_that_does_not_start_is_explained_and_leaves_nothing(runs: Path) -> None:
    done = demo("overfits", "--headless", "--", "--no-such-option")
    assert done.returncode == 2
    assert "ended before it trained" in done.stderr and "unrecognized arguments: --no-such-option" in done.stderr
    assert list(runs.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(runs: Path) -> None:
    runs.write_text("a file in the way")
    done = demo("overfits", "--headless")
    assert done.returncode == 2
    assert str(runs) in done.stderr and "FORGEMON_RUNS" in done.stderr


def test_a_kill_takes_the_demo_along(runs: Path) -> None:
    with subprocess.Popen([*FORGEMON, "demo", "overfits", "--headless"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        started = re.search(r"overfits is PID (\d+), recorded in (.+)", said)
        assert started, said
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(started[1]))
    assert [folder.name for folder in runs.iterdir()] == [Path(started[2]).name]


def test_the_dashboard_opens_and_leaving_it_ends_the_demo(runs: Path) -> None:
    with Terminal([*FORGEMON, "demo"], {"FORGEMON_RUNS": str(runs), "TMPDIR": os.environ["TMPDIR"]}) as terminal:
        terminal.wait_for("missing-zero-grad", deadline_s=120)
        pid = info(runs)["pid"]
        assert psutil.pid_exists(pid)
        terminal.press("q")
        assert terminal.wait() == 0
        wait_for(lambda: "replay it: forgemon replay" in terminal.text().replace("\n", ""), "the last word")
    assert not psutil.pid_exists(pid)
    (run,) = (folder for folder in runs.iterdir() if folder.is_dir())
    assert " loss " in (run / "output.log").read_text()
    report = json.loads(subprocess.run([*FORGEMON, "check", str(run), "--json"], capture_output=True, check=False).stdout)
    assert report["ended"].startswith("killed")
