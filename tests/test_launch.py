"""`forgemon run --headless`: the command cannot tell that we were there, and its Python processes load the probes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgemon.errors import UserError
from forgemon.launch import find_program, script_of
from tests.waiting import wait_for


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with a folder in it."""
    (tmp_path / "work" / "torch").mkdir(parents=True)
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def forgemon_run(*command: str) -> list[str]:
    return [sys.executable, "-m", "forgemon", "run", "--headless", "--", *command]


@pytest.mark.parametrize("code", [0, 3, 255])
def test_output_and_exit_code_are_the_commands_own(folder: Path, code: int) -> None:
    script = folder / "train.py"
    script.write_text(
        "import os, sys\n"
        "print('out', sys.argv, sys.path)\n"
        "print('err', file=sys.stderr)\n"
        "sys.stdout.buffer.write(bytes(range(256)) + sys.stdin.buffer.read())\n"
        f"sys.exit({code})\n"
    )
    command = [sys.executable, str(script), "--lr", "0.1", "-h"]
    plain = subprocess.run(command, input=b"in\n", capture_output=True, check=False)
    watched = subprocess.run(forgemon_run(*command), input=b"in\n", capture_output=True, check=False)
    assert (watched.returncode, watched.stdout, watched.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert plain.returncode == code and b"'--lr', '0.1', '-h'" in plain.stdout


@pytest.mark.parametrize("arguments", [("-c", "import sys; print(sys.argv, sys.path)", "-x"), ("-m", "shown", "-x")])
def test_other_forms_of_python(folder: Path, arguments: Sequence[str]) -> None:
    (folder / "shown.py").write_text("import sys; print(sys.argv, sys.path)\n")
    command = [sys.executable, *arguments]
    plain = subprocess.run(command, capture_output=True, check=True).stdout
    assert subprocess.run(forgemon_run(*command), capture_output=True, check=True).stdout == plain


def test_ignored_signals_and_the_environment_are_as_without_us(folder: Path) -> None:
    # Read by a program that is no Python, which would ignore SIGPIPE and set the locale itself.
    command = ["sh", "-c", "exec cat /proc/self/status /proc/self/environ"]
    locale = {"LC_ALL": "", "LANG": "C"}
    environment = {name: text for name, text in os.environ.items() if not name.startswith("LC_")} | locale
    plain = subprocess.run(command, capture_output=True, env=environment, text=True, check=True).stdout
    watched = subprocess.run(forgemon_run(*command), capture_output=True, env=environment, text=True, check=True).stdout
    assert _signals_and_environment(watched) == _signals_and_environment(plain)


def _signals_and_environment(text: str) -> list[str]:
    status, _, environment = text.rpartition("\n")
    signals = [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    assert len(signals) == 3
    ours = ("FORGEMON_RUN=", "PYTHONPATH=", "_=")
    return signals + sorted(variable for variable in environment.split("\0") if not variable.startswith(ours))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_command_which_is_us(folder: Path, number: signal.Signals) -> None:
    code = "import os; print(os.getpid(), flush=True); import sys; sys.stdin.read()"
    command = forgemon_run("sh", "-c", f'exec "{sys.executable}" -c "{code}"')
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout and int(process.stdout.readline()) == process.pid
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    run = next((folder.parent / "runs").iterdir())
    ended = wait_for(lambda: _events(run)[1:], "the sidecar's last word")[-1]
    assert ended["how"] in ("killed", "gone"), "gone where the kernel forgets a reaped process"
    assert ended["signal"] in (number.name, None)


def _events(run: Path) -> list[dict[str, Any]]:
    journal = run / "machine.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def test_the_run_is_named_after_the_script(folder: Path) -> None:
    (folder / "fine-tune.py").write_text("")
    subprocess.run(forgemon_run("sh", "-c", f"{sys.executable} fine-tune.py", "fine-tune.py"), check=True)
    runs = list((folder.parent / "runs").iterdir())
    assert [run.name.startswith("fine-tune-") for run in runs] == [True]


def test_run_dir_names_the_folder_of_runs(folder: Path) -> None:
    command = [sys.executable, "-m", "forgemon", "run", "--headless", "--run-dir", "here", "true", "--ignored"]
    subprocess.run(command, check=True)
    assert len(list((folder / "here").glob("true-*"))) == 1


def test_a_command_that_is_not_there(folder: Path) -> None:
    done = subprocess.run(forgemon_run("no-such-command"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "forgemon: no-such-command: command not found\n"
    assert not (folder.parent / "runs").exists()


def test_commands_that_cannot_be_run(folder: Path) -> None:
    (folder / "train.py").write_text("")
    (folder / "bad").write_text("#!/no/such/interpreter\n")
    (folder / "bad").chmod(0o755)
    for name, code, words in [
        ("./train.py", 126, "forgemon run -- python ./train.py"),
        ("train.py", 127, "forgemon run -- python train.py"),
        ("./torch", 126, "is a folder"),
    ]:
        with pytest.raises(UserError, match=words) as caught:
            find_program(name)
        assert caught.value.exit_code == code
    done = subprocess.run(forgemon_run("./bad"), capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert "its first line names does not exist" in done.stderr and done.stderr.count("\n") == 1


def test_a_script_without_an_interpreter_line_is_the_shells(folder: Path) -> None:
    (folder / "job").write_text('echo "$0 $1"; exit 4\n')
    (folder / "job").chmod(0o755)
    done = subprocess.run(forgemon_run("./job", "one"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "./job one\n")


def test_without_a_terminal_the_dashboard_refuses(folder: Path) -> None:
    command = [sys.executable, "-m", "forgemon", "run", "--", "touch", "done"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--headless" in done.stderr
    assert not (folder / "done").exists()


def test_the_name_of_a_run() -> None:
    assert script_of(["python", "-u", "src/train.py", "other.py"]) == "src/train.py"
    assert script_of(["torchrun", "--nproc-per-node", "2", "ddp.py"]) == "ddp.py"
    assert script_of(["bash", "-c", "python train.py"]) == "bash"
    assert script_of(["uv", "run", "/usr/bin/python3.12", "-u", "-m", "vision.train", "--epochs", "3"]) == "-m vision.train"
    assert (
        script_of(["python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vision.train"]) == "-m vision.train"
    )
    assert script_of(["pytest", "-m", "slow"]) == "pytest"
    assert script_of(["python", "-m"]) == "python"


@pytest.fixture
def real_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "runs"))
    script = tmp_path / "loop.py"
    script.write_text(
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Linear(4, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for _ in range(20):\n"
        "    optimizer.zero_grad()\n"
        "    loss = model(torch.randn(8, 4)).square().mean()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        "print(loss.item(), model.weight.sum().item())\n"
    )
    yield script


def test_a_real_loop_is_watched_from_its_first_step(real_loop: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(real_loop)]
    plain = subprocess.run(command, capture_output=True, check=True)
    watched = subprocess.run(forgemon_run(*command), capture_output=True, check=True)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    (run,) = (tmp_path / "runs").iterdir()
    np.testing.assert_array_equal(np.load(run / "rank-0" / "steps.npy")["step"], np.arange(1, 21))
    assert json.loads((run / "run.json").read_text())["mode"] == "run"
    assert wait_for(lambda: _events(run)[1:], "the sidecar's last word")[-1]["how"] == "finished"
