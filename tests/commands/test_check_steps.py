"""`forgemon check --steps`: a real command is run for so many steps, stopped in order, and judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for

LOOP = """
import os, sys, time
mode = sys.argv[1]
print("hello", flush=True)
print("a word on stderr", file=sys.stderr, flush=True)
open(f"pid-{os.environ.get('RANK', 0)}", "w").write(str(os.getpid()))
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x[:, 0] > 0).long()
net = torch.nn.Linear(8, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
step = 0
try:
    while True:
        if mode != "faulty":
            optimizer.zero_grad()
        rows = torch.randint(256, (64,))
        loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        step += 1
        if mode == "crash" and step == 3:
            raise ValueError("a bad batch")
        time.sleep(0.02)
finally:
    if mode == "saves":
        open("saved", "w").write(str(step))
"""
LAUNCHER = """
import os, subprocess, sys, time
for rank in "01":
    subprocess.Popen([sys.executable, "train.py", "ranks"], env={**os.environ, "RANK": rank}, start_new_session=True)
time.sleep(600)
"""
PRETENDS = """
import json, os, signal, sys, time
from pathlib import Path
from tests.recorded import RunFiles
files = RunFiles(Path(json.loads(os.environ["FORGEMON_RUN"])["run_dir"]))
now = time.time()
files.event("attached", 0, now, pid=os.getpid())
for step in range(1, int(sys.argv[2]) + 1):
    files.step(step, now, loss=1 / step, micro_batches=1, training=1, gradients_reused=0)
open("pid-0", "w").write(str(os.getpid()))
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "short":
    time.sleep(600)
"""
"A script that writes rows as the probes would, without the seconds that importing torch takes."
IMPATIENT = """
import forgemon.stopping, sys
patience = forgemon.stopping.Patience
forgemon.stopping.Patience = lambda: patience(0.3, 0.3, 30)
from forgemon.cli import main
main()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    (tmp_path / "launch.py").write_text(LAUNCHER)
    (tmp_path / "pretends.py").write_text(PRETENDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def check(*arguments: str, program: tuple[str, ...] = ("-m", "forgemon")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def trial(mode: str, *options: str) -> subprocess.CompletedProcess[str]:
    return check("--steps", "20", *options, "--", sys.executable, "train.py", mode)


def pretended(mode: str, steps: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = ("--steps", "20", *options, "--", sys.executable, "pretends.py", mode, str(steps))
    return check(*command, program=("-c", IMPATIENT))


def lives(rank: int = 0) -> bool:
    """Whether the process that wrote its number down still runs; a zombie does not, and not every machine reaps them."""
    try:
        return psutil.Process(int(Path(f"pid-{rank}").read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def only_run() -> Path:
    (run,) = Path("runs").iterdir()
    return run.absolute()


def ours(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("forgemon: ")]


def test_a_healthy_loop_is_stopped_as_by_ctrl_c_and_its_loss_trends_down() -> None:
    done = trial("saves")
    assert done.returncode == 0, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert lines[0] == "hello"
    assert "a word on stderr" in done.stderr.splitlines()
    assert int(Path("saved").read_text()) >= 20
    assert "The loss trends down: " in done.stdout
    assert "then the command was stopped with SIGINT" in " ".join(lines)
    assert "No validation pass came within these steps" in done.stdout
    assert "No alarm and nothing to watch" in done.stdout
    assert "  yes          Are gradients zeroed at the right time? since step 2" in lines
    assert lines[-1] == f"See it again: forgemon replay {only_run()}"
    later = json.loads(check("--json", str(only_run())).stdout)
    assert (later["ended"], later["trial"]) == ("exception", None)
    assert [finding["level"] for finding in later["findings"]] == ["info"]


def test_json_is_alone_on_stdout_and_a_faulty_loop_is_exit_code_1() -> None:
    done = trial("faulty", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert "hello" in done.stderr.splitlines()
    assert found["findings"][0]["symptom"] == "missing-zero-grad"
    assert found["findings"][0]["where"]["source"][-3].strip() == "loss.backward()"
    assert (found["trial"]["steps_wanted"], found["trial"]["stopped_with"]) == (20, "SIGINT")
    assert found["trial"]["steps_taken"] == found["trial"]["loss"]["steps"] >= 20
    assert found["trial"]["loss"]["direction"] in ("down", "up", "too few steps")


def test_a_script_that_ends_sooner_is_judged_by_what_it_did() -> None:
    done = pretended("short", 5)
    assert done.returncode == 0, done.stderr
    assert "Only 5 optimizer steps of 20: the command ended by itself with exit code 0." in done.stdout
    assert "Too few steps to tell whether the loss trends down" in done.stdout


def test_a_script_that_crashes_is_exit_code_1_with_its_line() -> None:
    done = trial("crash", "--json")
    assert done.returncode == 1
    assert "ValueError: a bad batch" in done.stderr
    found = json.loads(done.stdout)
    (end,) = [finding for finding in found["findings"] if finding["symptom"] == "ended"]
    assert (end["level"], end["cause"]) == ("alarm", "exception")
    assert found["trial"]["sentence"].startswith("Only 3 optimizer steps of 20: the command ended by itself with exit code 1")


def test_a_script_that_stands_still_is_stopped_and_exit_code_1() -> None:
    done = pretended("still", 3, "--timeout", "3")
    assert done.returncode == 1
    assert "Only 3 optimizer steps of 20: no further one came" in " ".join(done.stdout.split())


def test_a_script_that_ignores_signals_is_killed_and_that_is_no_alarm() -> None:
    done = pretended("deaf", 20)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "stopped with SIGKILL" in " ".join(done.stdout.split())
    assert not lives()
    later = json.loads(check("--json", str(only_run())).stdout)
    (end,) = [finding for finding in later["findings"] if finding["symptom"] == "ended"]
    assert (end["cause"], end["level"], end["evidence"]["asked_by"]) == ("killed", "info", "forgemon check")


def test_ranks_that_outlive_their_launcher_are_stopped_too() -> None:
    done = check("--steps", "20", "--", sys.executable, "launch.py", program=("-c", IMPATIENT))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "2 ranks, of which the first is judged" in done.stdout
    assert not lives(0) and not lives(1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "print('no loop')",
            "nothing could be judged: no optimizer step was seen in the command; it ended by itself with exit code 0",
        ),
        ("raise SystemExit(3)", "it ended by itself with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "it ended by itself with signal SIGKILL"),
        ("import time; time.sleep(600)", "it was silent for long and was stopped with SIGINT"),
    ],
)
def test_a_script_that_never_steps_is_one_line_and_exit_code_2(source: str, said: str) -> None:
    Path("train.py").write_text(source)
    done = trial("none", "--json", "--timeout", "1")
    assert (done.returncode, ours(done.stderr)[:-1]) in (
        (2, []),
        (2, ["forgemon: no optimizer step for 1 s, now asking the command to stop, as Ctrl-C does"]),
    )
    assert said in ours(done.stderr)[-1] and str(only_run()) in ours(done.stderr)[-1]
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--steps", "20", "--follow", "--", "python"), 2, "--follow is for a run that goes on elsewhere"),
        (("one", "two"), 2, "To run a command: forgemon check --steps 20 -- COMMAND"),
        (("--steps", "20", "--", "train.py"), 127, "write: forgemon check --steps 20 -- python train.py"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_us_stops_the_command_too(number: signal.Signals, code: int) -> None:
    Path("train.py").write_text("import os, time; open('pid-0', 'w').write(str(os.getpid())); time.sleep(600)")
    command = [sys.executable, "-m", "forgemon", "check", "--steps", "20", "--", sys.executable, "train.py"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: Path("pid-0").exists() and Path("pid-0").read_text(), "the command to begin")
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"what was seen is recorded in {only_run()}" in said
    assert not lives()


EARLY = """
import os, signal, sys, time
from pathlib import Path
from forgemon import trial
start = trial._start
def start_and_be_asked_to_leave(*arguments):
    child = start(*arguments)
    os.kill(os.getpid(), signal.Signals[sys.argv.pop()])
    return child
trial._start = start_and_be_asked_to_leave
from forgemon.cli import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_us_before_we_know_the_command_stops_it_too(number: signal.Signals, code: int) -> None:
    Path("train.py").write_text("import os, time; open('pid-0', 'w').write(str(os.getpid())); time.sleep(600)")
    command = [sys.executable, "-c", EARLY, "check", "--steps", "20", "--", sys.executable, "train.py", number.name]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert f"what was seen is recorded in {only_run()}" in done.stderr
    assert not Path("pid-0").exists() or not lives()


SKIPS = """
import json, os, sys, time
from pathlib import Path
from tests.recorded import RunFiles
files = RunFiles(Path(json.loads(os.environ["FORGEMON_RUN"])["run_dir"]))
now = time.time()
files.event("attached", 0, now, pid=os.getpid())
for times in (1, 2, 4, 8, 16, 32):
    files.event("skipped", 0, now, optimizer=0, times_in_a_row=times, loss_scale=1.0)
"""


def test_a_command_whose_scaler_skips_every_step_is_judged() -> None:
    Path("train.py").write_text(SKIPS)
    done = check("--steps", "20", "--json", "--", sys.executable, "train.py")
    report = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert "gradient-nonfinite" in [f["symptom"] for f in report["findings"]]
    assert report["trial"]["steps_taken"] == 0 and "0 optimizer steps of 20" in report["trial"]["sentence"]
