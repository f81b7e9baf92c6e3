"""Reads a run directory, live or finished, a bounded piece at a time: the one way everything else gets to see a run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from forgemon.chunk import Chunk, Event, Gradients, ParameterTable, Rows, Updates
from forgemon.errors import UserError
from forgemon.growing import conform
from forgemon.journal import JournalFile, text, whole
from forgemon.liveness import gone_event
from forgemon.parameters import read_parameters
from forgemon.run_directory import check_run_directory, ranks_of, read_info
from forgemon.soundness import SoundRows
from forgemon.tables import TableFile
from probes.record import FORMAT, METRIC_COLUMNS, MOST_TABLES, STEP_COLUMNS

MAX_METRICS = 500
MAX_EVENTS = 5_000
MAX_PASSES = 16
LIVENESS_PERIOD_S = 2.0

STEP_ROW = np.dtype([(c[0], "<" + c[1]) for c in STEP_COLUMNS])
METRIC_ROW = np.dtype([(c[0], "<" + c[1]) for c in METRIC_COLUMNS])


def gradient_row(parameters: int) -> np.dtype[Any]:
    return np.dtype([("step", "<i8"), ("norm", "<f4", (parameters,))])


def update_row(parameters: int) -> np.dtype[Any]:
    return np.dtype([("step", "<i8"), ("weight_norm", "<f4", (parameters,)), ("update_norm", "<f4", (parameters,))])


_TABLE_NAME = re.compile(r"(gradients|updates)-(\d{1,9})\.npy")


class RunReader:
    """Hands on what a run directory has gained since the last `read`. Files may appear, grow, be torn or vanish at any time.

    UserError when the path is no run directory, cannot be listed, or is of a format this version does not know.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path = path
        self.rank = rank
        self.caught_up = False
        "Whether the last read reached the end of every file: an empty chunk then means that nothing new is there."
        check_run_directory(path)
        self._info: Mapping[str, Any] = {}
        self._info_problem = ""
        self._rank_path = path / f"rank-{rank}"
        self._steps = TableFile(self._rank_path / "steps.npy", SoundRows("step", ("time",)))
        self._events = JournalFile(self._rank_path / "events.jsonl", steps=True)
        self._machine = TableFile(path / "machine.npy", SoundRows("time"))
        self._memory = TableFile(self._rank_path / "memory.npy", SoundRows("step", ("time",)))
        self._machine_events = JournalFile(path / "machine.jsonl", steps=False)
        self._gradients: dict[int, tuple[ParameterTable, TableFile]] = {}
        self._updates: dict[int, tuple[ParameterTable, TableFile]] = {}
        self._metrics: dict[str, TableFile] = {}
        self._passed_over: dict[str, str] = {}
        self._end_known = False
        self._looked_at = 0.0
        self._newest_time = 0.0
        self._read_info()

    @property
    def info(self) -> Mapping[str, Any]:
        """run.json, {} before it is written."""
        return self._info

    @property
    def ranks(self) -> list[int]:
        """The ranks that have written something so far."""
        try:
            return ranks_of(self.path)
        except OSError:
            return []

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out or could not be read so far, one line each."""
        files: list[TableFile | JournalFile] = [self._steps, self._events, self._memory, self._machine, self._machine_events]
        files += [table for _, table in (*self._gradients.values(), *self._updates.values())]
        files += self._metrics.values()
        found = [problem for file in files for problem in file.problems]
        info = [f"run.json: {self._info_problem}"] if self._info_problem else []
        return (*info, *found, *(f"{name}: {why}" for name, why in self._passed_over.items()))

    def read(self, max_rows: int = 20_000) -> Chunk:
        """At most `max_rows` new rows of each table, with the events beside them. Empty when nothing is new."""
        self._read_info()
        self._find_files()
        chunk = self._read_once(max_rows)
        for _ in range(MAX_PASSES):  # rows may all have been left out: an empty chunk must mean the end
            if self.caught_up or not chunk.empty:
                break
            chunk = self._read_once(max_rows)
        return self._with_end(chunk)

    def _read_once(self, max_rows: int) -> Chunk:
        steps = self._steps.read(max_rows)
        gradients = self._read_gradients(max_rows)
        updates = self._read_updates(max_rows)
        metrics = self._read_metrics(max_rows)
        events = self._events.read(MAX_EVENTS)
        machine = self._machine.read(max_rows)
        memory = self._memory.read(max_rows)
        machine_events = self._machine_events.read(MAX_EVENTS)
        of_parameters = [table for _, table in (*self._gradients.values(), *self._updates.values())]
        tables = [self._steps, self._machine, self._memory, *of_parameters, *self._metrics.values()]
        self.caught_up = all(t.caught_up for t in tables) and self._events.caught_up and self._machine_events.caught_up
        return Chunk(
            steps=np.empty(0, STEP_ROW) if steps is None else conform(steps, STEP_ROW),
            gradients=gradients,
            metrics=metrics,
            events=tuple(events),
            machine=machine,
            machine_events=tuple(machine_events),
            updates=updates,
            memory=memory,
        )

    def _read_gradients(self, max_rows: int) -> tuple[Gradients, ...]:
        read = []
        for table, file in self._gradients.values():
            rows = file.read(max_rows)
            if rows is not None:
                read.append(Gradients(table, conform(rows, gradient_row(len(table.names)))))
        return tuple(read)

    def _read_updates(self, max_rows: int) -> tuple[Updates, ...]:
        read = []
        for table, file in self._updates.values():
            rows = file.read(max_rows)
            if rows is not None:
                read.append(Updates(table, conform(rows, update_row(len(table.names)))))
        return tuple(read)

    def _read_metrics(self, max_rows: int) -> dict[str, Rows]:
        each = max(256, max_rows // max(1, len(self._metrics)))
        read = {name: file.read(each) for name, file in self._metrics.items()}
        return {name: conform(rows, METRIC_ROW) for name, rows in read.items() if rows is not None}

    def _read_info(self) -> None:
        if self._info:
            return
        try:
            info = read_info(self.path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._info_problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
            return
        version = whole(info, "format")
        if version is not None and version > FORMAT:
            raise UserError(
                f"{self.path} is of run directory format {version}, this forgemon reads up to {FORMAT}. "
                "Upgrade with: python -m pip install --upgrade forgemon"
            )
        self._info, self._info_problem = info, ""

    def _find_files(self) -> None:
        """Pick up tables of parameters and metrics that appeared since."""
        for name in _listed(self._rank_path):
            match = _TABLE_NAME.fullmatch(name)
            if match and name not in self._passed_over:
                tables = self._gradients if match[1] == "gradients" else self._updates
                if int(match[2]) not in tables:
                    self._add_table(tables, int(match[2]), name)
        for name in _listed(self._rank_path / "metrics"):
            metric = unquote(name[:-4], errors="replace")
            if name.endswith(".npy") and metric not in self._metrics:
                if len(self._metrics) < MAX_METRICS:
                    path = self._rank_path / "metrics" / name
                    self._metrics[metric] = TableFile(path, SoundRows("step", ("time", "value")))
                else:
                    self._passed_over["metrics"] = f"more than {MAX_METRICS} metrics, the rest is left out"

    def _add_table(self, tables: dict[int, tuple[ParameterTable, TableFile]], number: int, name: str) -> None:
        if len(tables) == MOST_TABLES:
            self._passed_over[name] = f"more than {MOST_TABLES} parameter tables, this one is left out"
            return
        path = self._rank_path / f"parameters-{number}.json"
        try:
            table = read_parameters(path, number)
        except FileNotFoundError:  # written before the first row, but seen later on some network file systems
            return
        except (OSError, ValueError) as error:
            self._passed_over[name] = f"left out, {path.name} cannot be read: {getattr(error, 'strerror', None) or error}"
            return
        norms = ("norm",) if tables is self._gradients else ("weight_norm", "update_norm")
        sound = SoundRows("step", norms, vector=len(table.names))
        tables[number] = (table, TableFile(self._rank_path / name, sound))
        for later in sorted(n for n in tables if n > number):  # in the order of their numbers, whenever they were seen
            tables[later] = tables.pop(later)

    def _with_end(self, chunk: Chunk) -> Chunk:
        """Once all is read: has the process vanished without a word? Then say so, once, as the sidecar would have."""
        self._newest_time = max(self._newest_time, _newest_time(chunk))
        for event in (*chunk.events, *chunk.machine_events):
            self._end_known = (self._end_known or _ends(event)) and text(event, "kind") != "attached"
        if self._end_known or not self.caught_up or not chunk.empty:
            return chunk
        now = time.monotonic()
        if self._looked_at and now - self._looked_at < LIVENESS_PERIOD_S:
            return chunk
        self._looked_at = now
        gone = gone_event(self._info, self.path, self.rank, self._newest_time)
        if gone is None:
            return chunk
        self._end_known = True
        return Chunk(steps=chunk.steps, machine_events=(gone,))


def _ends(event: Event) -> bool:
    return text(event, "kind") in ("ended", "exception", "exiting", "detached")


def _newest_time(chunk: Chunk) -> float:
    times = [float(event["time"]) for event in (*chunk.events, *chunk.machine_events)]
    times += [float(rows["time"].max()) for rows in (chunk.steps, chunk.machine) if rows is not None and len(rows)]
    return max(times, default=0.0)


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # not there yet, or gone: its files say so themselves
        return []


def read_all(reader: RunReader, feed: Callable[[Chunk], None], max_rows: int = 20_000) -> None:
    """Feed everything that stands in the run directory now."""
    while True:
        chunk = reader.read(max_rows)
        if not chunk.empty:
            feed(chunk)
        elif reader.caught_up:
            return
