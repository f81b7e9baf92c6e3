"""Runs scripts, each in a process of its own, forked from one that has loaded torch and done nothing else with it.

A job is one JSON object a line on stdin: script, arguments, folder, environment, output and errors (paths), config (that of
probes/bootstrap.py, or null for a run that nobody watches), and limit_s of CPU time or null. Two lines answer it: {"pid"} when it has
begun, and {"status", "cpu_s"}, the exit status of the process and its CPU time. null ends the server. The child is an ordinary process
from then on: the probes start in it as in any other, and it ends by the interpreter's own end.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import signal
import sys
from typing import Any, TextIO

import torch
import torch._dynamo  # an optimizer imports it when it is built, which takes longer than all the rest of a run
import torch.utils.data

Job = dict[str, Any]


def main() -> None:
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("torch has started threads: a fork of this process is not sound")
    gc.freeze()  # else each child copies every page that the collector touches
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        if job is None:
            return
        pid = os.fork()
        if pid == 0:
            answers.close()
            _become(job)
            return
        _say(answers, pid=pid)
        _, status, usage = os.wait4(pid, 0)
        _say(answers, status=os.waitstatus_to_exitcode(status), cpu_s=usage.ru_utime + usage.ru_stime)


def _say(answers: TextIO, **answer: float) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _become(job: Job) -> None:
    """This process is the run from now on."""
    if job["limit_s"] is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (job["limit_s"], job["limit_s"]))
        signal.alarm(20 * job["limit_s"])
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    _redirect(0, os.devnull, os.O_RDONLY)
    for descriptor, path in ((1, job["output"]), (2, job["errors"])):
        _redirect(descriptor, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    torch.set_num_threads(1)
    config = job["config"]
    sys.path[0] = job["folder"]
    sys.argv = [job["script"], *job["arguments"]]
    if config is not None:
        namespace: dict[str, Any] = {"__name__": "_forgemon_bootstrap", "__file__": config["bootstrap"]}
        with open(config["bootstrap"], encoding="utf-8") as file:
            exec(compile(file.read(), config["bootstrap"], "exec"), namespace)
        namespace["start"](config)
    runpy.run_path(job["script"], run_name="__main__")


def _redirect(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    main()
