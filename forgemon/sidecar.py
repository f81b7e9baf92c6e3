"""The sidecar: one small detached process a run that records the machine, stalls and how the run ended, and leaves with it."""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from forgemon.ending import Death, WatchedProcess, describe_end, open_pidfd, start_ticks
from forgemon.gpu import Gpus
from forgemon.machine import MachineSampler
from forgemon.machine_files import MachineFiles
from forgemon.rank_events import RankEvents, ranks_in
from forgemon.stalls import StallClock, StallLimits, stack_of, state_message
from probes.record import Column, machine_columns

CLAIM_S = 4.0
"How long a second sidecar waits for the first to leave, which after a detach takes it a second."
GPU_S = 10.0
"How long the first row may wait for the driver."
LAUNCH_SITE = Path(__file__).parent / "launch_site"


def start(run: Path, pid: int, options: Sequence[str] = ()) -> int:
    """Start a sidecar for `run` that watches process `pid`, and return its pid at once.

    It is no child of the caller, has a session of its own and holds nothing of the caller's open. A run that has one already
    keeps that one. Raises OSError where no process can be started.
    """
    command = [sys.executable, "-m", "forgemon.sidecar", str(run.absolute()), "--pid", str(pid)]
    # Opened here: the process may be gone before the sidecar is up, and who holds this learns its exit code all the same.
    pidfd = open_pidfd(pid)
    command += ["--started", str(start_ticks(pid) or -1), "--pidfd", str(pidfd), *options]
    # The shell leaves at once, so that the sidecar becomes an orphan; forking ourselves is not safe beside other threads.
    shell = ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 & echo $!', "sh", *command]
    try:
        done = subprocess.run(
            shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/", env=_environment(), start_new_session=True, pass_fds=[pidfd] if pidfd >= 0 else [], check=False,
        )  # fmt: skip
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return int(done.stdout)


def _environment() -> dict[str, str]:
    """Ours, so that it finds the same packages from another folder, and is not watched itself."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORGEMON_RUN", "PYTHONINSPECT")}
    paths = [os.path.abspath(p) for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
    package_root = str(Path(__file__).parent.parent)
    if package_root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *paths):
        paths.append(package_root)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p != str(LAUNCH_SITE))
    environment["PYTHONSAFEPATH"] = "1"  # -m would look for packages in / first
    return environment


class Sidecar:
    """Watches one process, and the ranks that report in the run directory, until it ends or the run is detached."""

    def __init__(self, run: str, watched: WatchedProcess, limits: StallLimits, interval_s: float = 1.0) -> None:
        self.run = run
        self.watched = watched
        self.interval_s = interval_s
        self.files = MachineFiles(run)
        self.machine = MachineSampler()
        self.gpus = Gpus()
        self.clock = StallClock(limits, time.monotonic())
        self.ranks: dict[int, RankEvents] = {}
        self.adopted: dict[int, tuple[int, WatchedProcess]] = {}
        "Rank and process by pid, beside `watched`."
        self._columns: Sequence[Column] | None = None
        self._begun = time.monotonic()

    def watch(self) -> None:
        """Returns when there is nothing left to watch."""
        if not self._claim():
            return
        while True:
            self._read_ranks()
            self._record_machine()
            alive = self.watched.alive()
            if not alive:
                self._read_ranks()  # what it said last
            if self._detached():
                return
            if not alive:
                self._record_end()
                return
            self._look_for_stall()
            self._sleep()

    def _claim(self) -> bool:
        deadline = time.monotonic() + CLAIM_S
        while not self.files.claim():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _sleep(self) -> None:
        """Until the next row, or until a watched process ends."""
        poll = select.poll()
        for process in self._processes():
            if process.pidfd >= 0 and process.ended_at is None:
                poll.register(process.pidfd, select.POLLIN)
        wait_s = self.interval_s - (time.monotonic() - self._begun) % self.interval_s
        poll.poll(max(1, int(wait_s * 1000)))
        for _, process in self.adopted.values():
            process.exit()  # at once: later its parent may have reaped it, and its time says who went first

    def _processes(self) -> list[WatchedProcess]:
        return [self.watched, *(process for _, process in self.adopted.values())]

    def _read_ranks(self) -> None:
        for rank in ranks_in(self.run):
            if rank not in self.ranks:
                self.ranks[rank] = RankEvents(self.run, rank)
        for rank, events in self.ranks.items():
            events.read()
            pid = events.placed(self.watched.pid)
            if pid is not None and pid != self.watched.pid and pid not in self.adopted:
                self.adopted[pid] = (rank, WatchedProcess(pid))

    def _detached(self) -> bool:
        attached = [events for events in self.ranks.values() if events.pid is not None]
        return bool(attached) and all(events.detached for events in attached)

    def _record_machine(self) -> None:
        if self._columns is None:
            patient = time.monotonic() < self._begun + GPU_S and self.watched.alive()
            if not self.gpus.ready.wait(0.2 if patient else 0) and patient:
                return
            self._columns = machine_columns(len(self.gpus.names))
            self.files.event(
                "started", pid=os.getpid(), watches=[self.watched.pid], gpus=self.gpus.names, nvml=self.gpus.message
            )
        row = self.machine.row([process.pid for process in self._processes() if process.alive()])
        gpus = self.gpus.read(self.machine.tree.keys())
        if self.watched.alive():  # a row of a process that has just gone would show nothing
            self.files.row(self._columns, row + gpus)

    def _look_for_stall(self) -> None:
        steps = [events.steps_path for events in self.ranks.values()]
        signs = [sign for events in self.ranks.values() for sign in (_size(events.steps_path), events.life)]
        change = self.clock.update(time.monotonic(), signs, steps)
        if change == "resumed":
            self.files.event("resumed", stalled_s=self.clock.silent_s)
        elif change == "stalled":
            self._record_stall()

    def _record_stall(self) -> None:
        known = {self.watched.pid, *self.adopted}
        pid = next((events.pid for _, events in sorted(self.ranks.items()) if events.pid in known), None) or self.watched.pid
        seconds = time.monotonic() - self.clock.alive_at
        stack, message = stack_of(pid)
        self.files.event(
            "stalled", since=time.time() - seconds, usual_s=self.clock.usual_s, seconds=seconds, stack=stack, pid=pid,
            message="; ".join(part for part in (state_message(pid), message) if part),
        )  # fmt: skip

    def _record_end(self) -> None:
        if self._columns is None:
            self._record_machine()
        main_exit = self.watched.exit()
        self._read_ranks()
        own = next((events for events in self.ranks.values() if events.pid == self.watched.pid), None)
        exception, exiting = (own.exception, own.exiting) if own else (None, False)
        main = Death("", self.watched.ended_at or 0.0, main_exit, exception, exiting)
        self.files.event("ended", **describe_end(main, self._other_deaths()))

    def _other_deaths(self) -> list[Death]:
        deaths = []
        for pid, (rank, process) in self.adopted.items():
            events = self.ranks[rank]
            mine = events.pid == pid
            label = f"rank {rank} (pid {pid})"
            exception = events.exception if mine else None
            deaths.append(Death(label, process.ended_at or 0.0, process.exit(), exception, mine and events.exiting))
        return deaths


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m forgemon.sidecar", description=__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--started", type=int, default=0, help="start time in clock ticks, so that no other process is meant")
    parser.add_argument("--pidfd", type=int, default=-1, help="a descriptor of the process that was handed down")
    parser.add_argument("--stall-after", type=float, default=StallLimits.shortest_s, metavar="SECONDS")
    parser.add_argument("--first-step-after", type=float, default=StallLimits.first_step_s, metavar="SECONDS")
    options = parser.parse_args(arguments)
    limits = StallLimits(shortest_s=options.stall_after, first_step_s=options.first_step_after)
    watched = WatchedProcess(options.pid, options.started or None, options.pidfd)
    sidecar = Sidecar(options.run, watched, limits)
    try:
        sidecar.watch()
    finally:
        sidecar.files.close()
    sidecar.gpus.close()


if __name__ == "__main__":
    main()
