"""`forgemon run --headless`: the command cannot tell that we were there, and its Python processes load the probes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgemon.errors import UserError
from forgemon.launch import find_program, script_of, watched_environment
from forgemon.sidecar import LAUNCH_SITE
from tests.waiting import wait_for

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
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "runs"))
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
    return watched_environment(run, ["python"], probes)


def python(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def forgemon_run(*command: str) -> list[str]:
    return [sys.executable, "-m", "forgemon", "run", "--headless", "--", *command]


def started(run: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(run.glob("started-*"))]


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
