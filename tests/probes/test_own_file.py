"""A program that closes descriptors which it does not know, as daemons do: what it opens then under their numbers is its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from probes.own_file import OwnFile
from tests.probes.common_script import COMMON, TRAIN
from tests.probes.watched import column, events, read, run_script

DAEMON = (
    COMMON
    + """
import os
session = sys.modules["_forgemon_probe"].session
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + TRAIN
    + """
    assert session.writer.flush(30)
train(10)
os.closerange(3, 256)
own = [open(f"own-{i}.bin", "wb+") for i in range(24)]
for file in own:
    file.write(b"mine" * 100)
    file.flush()
model.train(False), model.train(True)
train(10)
print(json.dumps([os.fstat(file.fileno()).st_size for file in own]))
"""
)


def test_files_of_the_program_stay_as_it_wrote_them(tmp_path: Path) -> None:
    done = run_script(DAEMON, tmp_path)
    assert json.loads(done.stdout) == [400] * 24
    assert all((tmp_path / f"own-{i}.bin").read_bytes() == b"mine" * 100 for i in range(24))
    chunk = read(tmp_path)
    assert column(chunk, "step").tolist() == list(range(1, 21))
    assert [event["training"] for event in events(chunk, "mode")] == [False, True]


def test_what_is_no_longer_ours_is_neither_used_nor_closed(tmp_path: Path) -> None:
    ours = OwnFile(str(tmp_path / "ours"), os.O_RDWR | os.O_CREAT)
    ours.open()
    fd = ours.descriptor()
    with (tmp_path / "theirs").open("w") as theirs:
        os.dup2(theirs.fileno(), fd)
        anew = ours.descriptor()
        assert anew != fd
        os.dup2(theirs.fileno(), anew)
        ours.close()
        for of_theirs in (fd, anew):
            assert os.fstat(of_theirs).st_ino == (tmp_path / "theirs").stat().st_ino
            os.close(of_theirs)


def test_a_file_that_was_closed_is_opened_again(tmp_path: Path) -> None:
    ours = OwnFile(str(tmp_path / "ours"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ours.open()
    os.write(ours.descriptor(), b"a")
    os.close(ours.descriptor())
    os.write(ours.descriptor(), b"b")
    ours.close()
    ours.close()
    assert (tmp_path / "ours").read_bytes() == b"ab"


def test_a_folder_that_is_gone_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        OwnFile(str(tmp_path / "gone" / "ours"), os.O_WRONLY | os.O_CREAT).open()
