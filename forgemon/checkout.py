"""The git commit of the code that is run, and whether it was clean."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

PATIENCE_S = 2.0
"For a large repository on a slow disk: the run must not wait for it."


def git_state(folder: Path) -> dict[str, Any] | None:
    """`{"commit": ..., "clean": bool or None}` of the checkout that `folder` is in; None outside one or without git.

    Files git does not know do not count. Takes no lock in the repository.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "clean": None if changes is None else not changes}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
