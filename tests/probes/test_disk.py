"""A slow disk, a full disk and a vanished run directory cost rows, which are counted, and never hold up the training thread."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from forgemon.reader import RunReader
from tests.probes.common_script import COMMON, TRAIN
from tests.probes.test_harm import script
from tests.probes.watched import ATTACH, attach_argument, column, events, read, run_fresh, run_script

DISK = """
import errno, json, os, sys, threading
mended, met = threading.Event(), threading.Event()
mended.set()
training = threading.get_ident()
def writing(real):
    def write(file, *values):
        if "rank-0" not in os.path.realpath(f"/proc/self/fd/{file}"):
            return real(file, *values)
        if threading.get_ident() == training:
            open("on-the-training-thread", "w").close()
        if not mended.is_set():
            met.set()
            TROUBLE
        return real(file, *values)
    return write
os.write, os.pwrite = writing(os.write), writing(os.pwrite)
import torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
def train(steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
session = sys.modules["_forgemon_probe"].session
writer, put = session.writer, session.writer._put
count = len(writer._queue)
def counting(item):
    global count
    count += 1
    put(item)
writer._put = counting
"""
TROUBLES = {"slow": "mended.wait()", "full": 'raise OSError(errno.ENOSPC, "no space left")'}


def disk(trouble: str) -> str:
    return DISK.replace("TROUBLE", TROUBLES[trouble])


GOES_ON = """
train(50)
mended.clear()
while not met.is_set():
    train()
limit = sys.modules["_forgemon_probes.writer"].LIMIT = len(writer._queue) + 600
train(2000)  # which ends, whatever the disk does
assert not mended.is_set() and len(writer._queue) <= limit
mended.set()
while writer._queue:
    train()
train(50)
writer.stop()
json.dump(count, open("queued.json", "w"))
print("trained")
"""


@pytest.mark.parametrize("trouble", TROUBLES)
def test_training_goes_on_and_every_lost_row_is_counted(tmp_path: Path, trouble: str) -> None:
    done = run_script(disk(trouble) + GOES_ON, tmp_path)
    assert (done.stdout, done.stderr) == ("trained\n", "")
    assert not (tmp_path / "on-the-training-thread").exists()
    reader = RunReader(tmp_path / "run")
    chunk = reader.read(max_rows=1_000_000)
    lost = sum(event["rows"] for event in events(chunk, "dropped"))
    files = [path for path in (tmp_path / "run").rglob("*.json")]
    rows = (
        len(chunk.steps) + sum(len(norms.rows) for norms in chunk.gradients) + sum(len(norms.rows) for norms in chunk.updates)
    )
    told = len([event for event in chunk.events if event["kind"] != "dropped"])
    assert lost > 1000
    assert rows + told + len(files) + lost == json.loads((tmp_path / "queued.json").read_text())
    assert not events(chunk, "probe_error")


ENDS = """
train(50)
mended.clear()
END
"""
ENDINGS = {
    "in order": "while not met.is_set(): train()",
    "by an exception": "raise SystemError('of the loop')",
    "by an exception while the writer is held up": "while not met.is_set(): train()\nraise SystemError('of the loop')",
    "with a detach": "while not met.is_set(): train()\nsession.leave('test')\ntrain(50)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_program_ends_on_a_disk_that_hangs(tmp_path: Path, ending: str) -> None:
    done = run_script(disk("slow") + ENDS.replace("END", ENDINGS[ending]), tmp_path, check=False)
    assert done.returncode == (1 if "exception" in ending else 0)
    assert ("SystemError: of the loop" in done.stderr) == ("exception" in ending)
    assert done.stderr.count("Traceback") == ("exception" in ending)
    assert not (tmp_path / "on-the-training-thread").exists()


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_file_size_limit_costs_rows_and_no_file_descriptor(tmp_path: Path, limit: int) -> None:
    source = script("mlp", "adamw")
    plain = run_script(source, tmp_path, watched=False)
    full = f"""
import os, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""
    twice = """
files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
ours = [file for file in files if "rank-0" in file]
assert ours and len(set(ours)) == len(ours), ours  # never one more for each try
"""
    done = run_fresh(full + source + twice, tmp_path)  # what it prints goes into pipes: a file would be limited too
    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
    assert all(path.stat().st_size <= limit for path in (tmp_path / "run").rglob("*") if path.is_file())


@pytest.fixture
def small_disk(tmp_path: Path) -> str:
    folder = tmp_path / "run"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    return str(folder)


def test_a_disk_that_is_full(tmp_path: Path, small_disk: str) -> None:
    try:
        done = run_script(disk("slow") + "train(3000)\nprint('trained')\n", tmp_path)
        assert (done.stdout, done.stderr) == ("trained\n", "")
        assert len(RunReader(tmp_path / "run").read(max_rows=1_000_000).steps) < 3000
    finally:
        subprocess.run(["umount", small_disk], check=True)


@pytest.mark.parametrize("mode", ["rmtree('run')", "move('run', 'moved')"])
def test_a_run_directory_that_vanishes_harms_nobody(tmp_path: Path, mode: str) -> None:
    between = f"import shutil\ndef between(step):\n    if step == 8 and os.path.exists('run'): shutil.{mode}\n"
    source = script("mlp", "adamw", between=between)
    plain = run_script(source, tmp_path, watched=False)
    done = run_script(source, tmp_path)
    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)


CLEARED = (
    COMMON
    + ATTACH
    + """
import os
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + TRAIN
    + """
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
attach()
train(5)
for number in range(10):
    try:
        torch.save(model.state_dict(), "last.pt")
    except (OSError, RuntimeError) as error:
        print(number)
train(5)
"""
)


def test_a_working_directory_that_is_no_more(tmp_path: Path) -> None:
    done = run_script(CLEARED, tmp_path, attach_argument(tmp_path), watched=False)
    assert (done.stdout.split(), done.stderr) == (list(map(str, range(10))), "")
    assert column(read(tmp_path), "step").tolist() == list(range(1, 11))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["cwd"] == ""
