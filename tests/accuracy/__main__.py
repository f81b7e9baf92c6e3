"""python -m tests.accuracy --half tuning|frozen: run the loops of one half and say how often the diagnosis was right."""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.accuracy.comparison import comparison
from tests.accuracy.configurations import Configuration, all_configurations
from tests.accuracy.figures import tables
from tests.accuracy.judging import Judged, judge
from tests.accuracy.quick import quick
from tests.accuracy.running import folder_of, run_all
from tests.accuracy.settings import HALVES


def main() -> None:
    options = _options()
    jobs = _jobs(options)
    out = options.out or Path(tempfile.mkdtemp(prefix="forgemon-accuracy-"))
    print(f"{len(jobs)} runs, logs in {out}", flush=True)
    began = time.monotonic()
    runs = list(_judged(jobs, out, options))
    runs.sort(key=lambda run: (run.fault, run.name, run.seed))
    seconds = time.monotonic() - began
    report = (
        f"{tables(runs)}\n\n{comparison(runs)}\n\n{len(runs)} runs in {seconds:.0f} s, {seconds / max(1, len(runs)):.2f} s each"
    )
    (out / "outcomes.json").write_text(json.dumps([run.as_json() for run in runs], indent=1))
    (out / "report.txt").write_text(report + "\n")
    print(report)


def _judged(jobs: list[tuple[Configuration, int]], out: Path, options: argparse.Namespace) -> Iterator[Judged]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        waiting: list[Future[Judged]] = []
        for count, done in enumerate(run_all(jobs, out, options.workers, options.budget), 1):
            waiting.append(pool.submit(judge, done))
            if sys.stderr.isatty() or count % 25 == 0:
                print(f"{count} of {len(jobs)} run", file=sys.stderr, flush=True)
            yield from _ended(waiting)
        for future in waiting:
            yield future.result()


def _ended(waiting: list[Future[Judged]]) -> Iterator[Judged]:
    """Those judged by now, so that an error in judging shows at once."""
    while waiting and waiting[0].done():
        yield waiting.pop(0).result()


def _jobs(options: argparse.Namespace) -> list[tuple[Configuration, int]]:
    configurations = [c for c in all_configurations() if c.half == options.half]
    if options.filter:
        configurations = [c for c in configurations if any(fnmatch.fnmatch(_matched(c), glob) for glob in options.filter)]
    if options.quick:
        configurations = quick(configurations)
    # One seed of each first, so that a limit sees as many configurations as it can.
    most = max((len(c.seeds) for c in configurations), default=0)
    jobs = [(c, c.seeds[i]) for i in range(1 if options.quick else most) for c in configurations if i < len(c.seeds)]
    jobs = jobs[:: max(1, len(jobs) // options.limit)][: options.limit] if options.limit else jobs
    if options.stored:
        jobs = [job for job in jobs if (folder_of(*job, options.out) / "status").exists()]
    random.Random(0).shuffle(jobs)  # a run that is cut short has seen some of everything
    return jobs


def _matched(configuration: Configuration) -> str:
    """What a filter is compared with: SETTING@FAULT, or SETTING@ of a healthy one."""
    return configuration.name if configuration.fault is not None else f"{configuration.name}@"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__)
    parser.add_argument("--half", choices=HALVES, default="tuning", help="which configurations")
    parser.add_argument("--limit", type=int, default=0, help="run so many, spread over all")
    parser.add_argument(
        "--filter", action="append", metavar="GLOB", help="of names: mlp/*, *@missing-zero-grad, *@ (healthy ones)"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--budget", type=float, default=0.0, help="of the probes; 0 observes every step")
    parser.add_argument("--quick", action="store_true", help="the subset that CI runs")
    parser.add_argument("--out", type=Path, help="where logs and results stay; default: a new temporary folder")
    parser.add_argument("--stored", action="store_true", help="judge the logs that stand in --out, run nothing else")
    options = parser.parse_args()
    if options.stored and options.out is None:
        parser.error("--stored needs --out")
    return options


if __name__ == "__main__":
    main()
