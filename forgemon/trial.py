"""A trial: runs a command for so many optimizer steps, every one observed, stops it, and hands what was seen to the diagnosis."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np

from forgemon import launch
from forgemon.check import RunCheck
from forgemon.ending import signal_name
from forgemon.errors import UserError
from forgemon.foreground import SignalArrived, await_note, handled, has_ended, suspended_together
from forgemon.loss_direction import loss_direction
from forgemon.report import Checked, Trial
from forgemon.snapshot import Snapshot
from forgemon.stopping import Patience, Stopping

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which we are asked to leave."""
POLL_S = 0.1
NOTE_S = 5.0
"How long the sidecar may take to write how the command ended; of a short one it may not be up yet."


@dataclass(frozen=True)
class TrialOptions:
    """How to run the command."""

    steps: int
    silence_s: float
    "Without a new step for so long it is stopped all the same."
    parent: Path | None = None
    "Folder of the run's directory, instead of where runs live."
    keep_stdout: bool = True
    "Else what it prints goes to our stderr: our stdout is for the report alone."
    patience: Patience | None = None


def run_trial(command: Sequence[str], options: TrialOptions) -> Checked:
    """Start it, let it take its steps, stop it. UserError where it took none: then nothing was judged."""
    program = launch.find_program(command[0], f"forgemon check --steps {options.steps}")
    run = launch.new_run(command, options.parent)
    leaving = Leaving()
    with handled({number: leaving for number in ASKED if signal.getsignal(number) != signal.SIG_IGN}):
        child = _start(program, command, launch.watched_environment(run, command, budget=0.0), options.keep_stdout)
        stopping = Stopping(child.pid, run, _tell, options.patience)
        with _stopped_at_last(stopping), suspended_together(child.pid):
            leaving.may_now()
            launch.start_sidecar(run, child.pid)
            check = RunCheck(run)
            why = _watch(check, stopping, options)
            stopped_by = stopping.stop() if why else ""
            await_note(run / "machine.jsonl", NOTE_S)
            status = child.wait() if has_ended(child.pid) else -signal.SIGKILL
    check.read()
    return _judged(check, options.steps, why, stopped_by, status)


def _start(program: str, command: Sequence[str], environment: dict[str, str], keep_stdout: bool) -> subprocess.Popen[bytes]:
    """In a session of its own, so that all of it can be told to stop and nothing else is."""

    def popen(arguments: Sequence[str], executable: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            arguments,
            executable=executable,
            stdin=subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None,
            stdout=None if keep_stdout else sys.stderr.fileno(),
            env={**environment, "PYTHONUNBUFFERED": "1"},  # what it printed must not be lost when it is stopped
            start_new_session=True,
            # A shell that starts us with & has us ignore SIGINT, and the command would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    sys.stdout.flush()
    sys.stderr.flush()
    try:
        try:
            return popen(command, program)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return popen(launch.shell_command(program, command), "/bin/sh")
    except OSError as error:
        raise launch.unusable(program, error) from error


def _watch(check: RunCheck, stopping: Stopping, options: TrialOptions) -> str:
    """Wait for the steps. Why it is to be stopped; empty when it has ended by itself."""
    taken, since = 0, time.monotonic()
    while True:
        over = stopping.over()  # before the read: what it wrote until then is read below
        if check.read() and (now := steps_taken(check.snapshot())) > taken:
            taken, since = now, time.monotonic()
        if over:
            return ""
        if taken >= options.steps:
            _tell(f"{taken} optimizer steps seen, now asking the command to stop, as Ctrl-C does")
            return "steps"
        if check.snapshot().state == "detached":
            _tell("the probe has left the command, now asking it to stop, as Ctrl-C does")
            return "silence"
        if time.monotonic() - since > options.silence_s:
            _tell(f"no optimizer step for {options.silence_s:g} s, now asking the command to stop, as Ctrl-C does")
            return "silence"
        time.sleep(POLL_S)


def steps_taken(snapshot: Snapshot) -> int:
    """Of the optimizer that stepped most. A resumed one counts on from its checkpoint, so rows are counted and not numbers."""
    optimizers = snapshot.steps["optimizer"]
    return int(np.bincount(np.maximum(optimizers, 0)).max()) if len(optimizers) else 0


def _judged(check: RunCheck, wanted: int, why: str, stopped_by: str, status: int) -> Checked:
    checked = check.checked()
    taken = steps_taken(checked.snapshot)
    code, number = (None, -status) if status < 0 else (status, None)
    by_itself = f"exit code {code}" if number is None else f"signal {signal_name(number)}"
    says_why = any(
        f.level == "alarm" and f.symptom != "ended" for f in checked.report.findings
    )  # a scaler that skips every step
    if not taken and not says_why:
        left = f"it was silent for long and was stopped with {stopped_by}" if why else f"it ended by itself with {by_itself}"
        raise UserError(f"nothing could be judged: no optimizer step was seen in the command; {left}. Recorded in {check.run}")
    counted = f"{taken} optimizer step{'s' * (taken != 1)}"
    if why == "steps":
        said = f"{counted} observed, {wanted} asked for, then the command was stopped with {stopped_by}."
        said += " What it wrote on its way, a checkpoint perhaps, is its own and was left where it is."
    elif why:
        said = f"Only {counted} of {wanted}: no further one came, and the command was stopped with {stopped_by}."
    else:
        said = f"Only {counted} of {wanted}: the command ended by itself with {by_itself}."
    if not why and taken >= wanted:
        said = f"{counted} observed, {wanted} asked for; the command ended by itself with {by_itself}."
    trial = Trial(
        steps_wanted=wanted,
        steps_taken=taken,
        stopped_with=stopped_by or None,
        exit_code=code if not why else None,
        failed=why == "silence" or (not why and status != 0),
        sentence=said,
        loss=loss_direction(checked.snapshot.steps),
    )
    return replace(checked, trial=trial)


class Leaving:
    """Handler of the signals that ask us to leave. One that comes while the command is being started waits until it is known: nobody
    else would stop it."""

    def __init__(self) -> None:
        self._may = False
        self._asked: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if self._may:
            self._leave(number)

    def may_now(self) -> None:
        self._may = True
        if self._asked is not None:
            self._leave(self._asked)

    def _leave(self, number: int) -> NoReturn:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SignalArrived(128 + number)


@contextlib.contextmanager
def _stopped_at_last(stopping: Stopping) -> Iterator[None]:
    """Whatever ends us takes the command with it: nobody would stop it later."""

    try:
        yield
    except BaseException:
        _tell(f"stopping the command; what was seen is recorded in {stopping.run}")
        stopping.stop()
        raise


def _tell(message: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone
        os.write(2, f"forgemon: {message}\n".encode())
