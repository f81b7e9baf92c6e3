"""Where a run is recorded and where the target finds the probes: both must be open to the target's user, in its file tree."""

from __future__ import annotations

import importlib.util
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forgemon.errors import UserError
from forgemon.inject.errors import AttachError
from forgemon.inject.preflight import Target, user_name
from forgemon.inject.procfs import Status, program_name
from forgemon.places import new_run_directory


def probes_folder() -> Path:
    """The folder of the probes' source, without importing them."""
    spec = importlib.util.find_spec("probes")
    if spec is None or spec.origin is None:
        raise AttachError("forgemon's own files are incomplete: there is no package `probes`. Install forgemon again")
    return Path(spec.origin).parent


@contextmanager
def acting_as(owner: Status) -> Iterator[None]:
    """Open and make files with the rights of the target's user, where we are root: never follow a trap they may have laid."""
    if os.geteuid() != 0 or owner.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups(sorted(owner.groups))
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def make_run_directory(target: Target, parent: Path | None) -> Path:
    """A new run directory that the target can write to. AttachError, UserError."""
    owner = target.status
    if parent is None and owner.uid != os.geteuid() and "FORGEMON_RUNS" not in os.environ:
        parent = _runs_of(owner)  # our own place, root's for example, is closed to them
    with acting_as(owner), _told_as(owner):
        run = new_run_directory(target.script or program_name(target.command), target.pid, parent)
    if not _target_sees(target.pid, run):
        run.rmdir()
        raise AttachError(
            f"PID {target.pid} is in a container that does not see {run.parent}. "
            "Name a folder that has the same path inside and outside with --run-dir"
        )
    return run


@contextmanager
def _told_as(owner: Status) -> Iterator[None]:
    """Root can write nearly everywhere: an error must say that the folder has to be open to someone else."""
    try:
        yield
    except UserError as error:
        if owner.uid == os.geteuid() or owner.uid == os.getuid():
            raise
        raise AttachError(f"acting as {user_name(owner.uid)}, whose process it is: {error}") from error


def bootstrap_for(target: Target, probes: Path, run: Path) -> Path:
    """Path of bootstrap.py as the target can open it: in place, or else in a copy of the probes in the run directory."""
    if _target_sees(target.pid, probes) and _user_reads(target.status, probes / "bootstrap.py"):
        return probes / "bootstrap.py"
    sources = {source.name: source.read_bytes() for source in probes.glob("*.py")}
    copy = run / "probes"
    with acting_as(target.status):
        copy.mkdir(mode=0o755)
        for name, data in sources.items():
            (copy / name).write_bytes(data)
    return copy / "bootstrap.py"


def _user_reads(owner: Status, path: Path) -> bool:
    with acting_as(owner):
        return os.access(path, os.R_OK, effective_ids=True)


def _target_sees(pid: int, folder: Path) -> bool:
    """Whether the path leads to the same folder in the file tree of the target, which a container gives one of its own."""
    try:
        return os.path.samefile(folder, Path(f"/proc/{pid}/root") / folder.relative_to("/"))
    except OSError:
        return False


def _runs_of(owner: Status) -> Path:
    """Where that user's own runs live."""
    try:
        home = Path(pwd.getpwuid(owner.uid).pw_dir)
    except KeyError:
        home = Path("/nonexistent")
    with acting_as(owner):
        usable = os.access(home, os.W_OK | os.X_OK, effective_ids=True)
    return home / ".local" / "state" / "forgemon" / "runs" if usable else Path("/var/tmp") / f"forgemon-{owner.uid}" / "runs"
