"""Imports torch once and forks a child for each training script asked for on standard input: a real process in a moment.

A line is a JSON object: `script`, `folder`, and for a run that is watched from its start `config`. The answer is the child's pid.
The scripts call `gate(epoch)`, which waits at epoch PAUSE until FOLDER/go exists.
"""

from __future__ import annotations

import builtins
import json
import os
import runpy
import sys
import time
from typing import Any

import torch
import torch.utils.data

PAUSE = 2


def grow_up(task: dict[str, Any]) -> None:
    folder = task["folder"]

    def gate(epoch: int) -> None:
        if epoch == PAUSE:
            open(os.path.join(folder, "paused"), "w").close()
            while not os.path.exists(os.path.join(folder, "go")):
                time.sleep(0.005)

    builtins.gate = gate  # type: ignore[attr-defined]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if "config" in task:
        path = task["config"]["bootstrap"]
        namespace: dict[str, Any] = {"__name__": "_forgemon_bootstrap", "__file__": path}
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), namespace)
        namespace["start"](task["config"])
    sys.argv = [task["script"]]
    runpy.run_path(task["script"], run_name="__main__")


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            grow_up(task)
            return
        print(child, flush=True)


if __name__ == "__main__":
    main()
