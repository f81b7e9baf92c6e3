"""Attaching from begin to end: look, make a run directory, inject, wait for the answer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgemon import __version__
from forgemon.inject import procfs
from forgemon.inject.boot import boot_source
from forgemon.inject.folders import bootstrap_for, make_run_directory, probes_folder
from forgemon.inject.handshake import Handshake, cancel, wait_for_handshake
from forgemon.inject.preflight import Target, no_process, preflight, without_torch
from forgemon.inject.way import choose_way

GIT_PATIENCE_S = 0.5
"A large repository on a slow disk must not hold up the attach; its state is then recorded as unknown."
TIMEOUT_S = 60.0
YOUNG_S = 30.0
"A Python process of this age without torch may still be on its way to `import torch`."
_POLL_S = 0.1


def _silent(message: str) -> None:
    del message


@dataclass(frozen=True)
class PendingAttachment:
    """The source is in the target and runs as soon as its main thread is back in Python."""

    pid: int
    run: Path
    rank: int

    def wait(self, timeout_s: float = TIMEOUT_S, tell: Callable[[str], None] = _silent) -> Handshake:
        """Wait for the probe; see handshake.wait_for_handshake. A KeyboardInterrupt cancels the attach and goes on."""
        try:
            return wait_for_handshake(self.run, self.pid, timeout_s, tell)
        except KeyboardInterrupt:
            cancel(self.run, (self.rank,))
            raise


def attach_process(
    pid: int,
    run_dir: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    budget: float | None = None,
    probes: Path | None = None,
    tell: Callable[[str], None] = _silent,
) -> Path:
    """Attach to process `pid` and return its run directory once the probe answered. See `begin_attach`, `wait`."""
    began = time.monotonic()
    pending = begin_attach(pid, run_dir, timeout_s=timeout_s, budget=budget, probes=probes, tell=tell)
    pending.wait(max(0.0, began + timeout_s - time.monotonic()), tell)
    return pending.run


def begin_attach(
    pid: int,
    run_dir: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    budget: float | None = None,
    probes: Path | None = None,
    tell: Callable[[str], None] = _silent,
) -> PendingAttachment:
    """Check process `pid`, make its run directory in `run_dir` (or where runs live) and inject the probes.

    budget: the share of step time the probes may cost; None for their default. probes: another folder of probes.
    A process that has just started is given time to load torch. AttachError, UserError: the target is as it was.
    """
    target = _with_torch(pid, timeout_s, tell)
    way = choose_way(target.python)
    git = _git_state(target)
    run = make_run_directory(target, run_dir)
    try:
        bootstrap = bootstrap_for(target, probes or probes_folder(), run)
        way.inject(boot_source(_config(target, run, git, budget), str(bootstrap)))
    except BaseException:
        _remove_unused(run)
        raise
    return PendingAttachment(pid, run, _rank(pid))


def _config(target: Target, run: Path, git: dict[str, Any] | None, budget: float | None) -> dict[str, Any]:
    config = {
        "run_dir": str(run),
        "mode": "attach",
        "forgemon": __version__,
        "git": git,
        "tool_pid": os.getpid(),
        "host_pid": target.pid,
    }
    return config if budget is None else {**config, "budget": budget}


def _with_torch(pid: int, timeout_s: float, tell: Callable[[str], None]) -> Target:
    """The checked target; one that is still young may be on its way to `import torch`."""
    target = preflight(pid, torch_may_come=True)
    if target.has_torch:
        return target
    young_s = min(YOUNG_S, timeout_s)
    if _age_s(pid) > young_s:
        raise without_torch(pid)
    tell(f"Waiting for PyTorch to be loaded in PID {pid}")
    while _age_s(pid) < young_s:
        time.sleep(_POLL_S)
        target = preflight(pid, torch_may_come=True)
        if target.has_torch:
            return target
    raise without_torch(pid)


def _age_s(pid: int) -> float:
    try:
        return procfs.age_s(pid)
    except (FileNotFoundError, ProcessLookupError):
        raise no_process(pid) from None


def _git_state(target: Target) -> dict[str, Any] | None:
    from forgemon.checkout import git_state

    found: list[dict[str, Any] | None] = []
    folder = Path(target.script).parent if target.script else Path(target.directory)
    asking = threading.Thread(target=lambda: found.append(git_state(folder)), daemon=True)
    asking.start()
    asking.join(GIT_PATIENCE_S)
    return found[0] if found else None


def _rank(pid: int) -> int:
    """As the probe will number itself: from the environment."""
    try:
        text = procfs.environment(pid).get("RANK", "0")
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _remove_unused(run: Path) -> None:
    """Nothing was recorded there: the injection failed."""
    try:
        for name in os.listdir(run / "probes") if (run / "probes").is_dir() else []:
            os.unlink(run / "probes" / name)
        if (run / "probes").is_dir():
            (run / "probes").rmdir()
        run.rmdir()
    except OSError:
        return
