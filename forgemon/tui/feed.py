"""The thread behind the screen: reads the run, moves the playhead, builds one frame at a time and posts it."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from forgemon.chunk import Chunk
from forgemon.ranks import Ranks
from forgemon.reader import RunReader
from forgemon.recording import Recording
from forgemon.telemetry import Snapshot
from forgemon.tui.frame import Frame
from forgemon.tui.output_tail import OutputTail
from forgemon.tui.playhead import Playhead
from forgemon.tui.position import Position
from forgemon.tui.trends import LossHistory, gradient_trend, marks

LIVE_POLL_S = 0.1
LIVE_FRAME_S = 0.2
"""News is shown at most so often: what changes faster cannot be read, and drawing takes time from the training."""
REPLAY_POLL_S = 1.0
PLAYING_POLL_S = 0.05
LOADING_FRAME_S = 0.25
"""While a long recording is read, a picture of what is there so often."""
HEARTBEAT_S = 1.0
"""A live picture is renewed so often though nothing came: how long it has been silent is news too."""
BUSY_SHARE = 0.25
"""Of one core, at most, spent on building frames: a long run is drawn less often rather than at its training's cost."""
RANKS_POLL_S = 1.0
"""How often the other ranks' files are looked at when this one's have nothing new."""
LONG_WAY_ROWS = 20_000
ENDED = frozenset({"finished", "exception", "killed", "exited", "gone", "detached"})


class Feed:
    """Owns the reader and everything computed from it. `post` takes each frame and must be safe to call from a thread."""

    def __init__(
        self,
        run: Path,
        *,
        live: bool,
        post: Callable[[Frame], object],
        failed: Callable[[BaseException], object],
        output: Path | None = None,
        at_step: int | None = None,
    ) -> None:
        self.playhead = Playhead(following=live)
        self._live, self._at_step = live, at_step
        self._reader = RunReader(run)
        self._ranks = Ranks(run)
        self._look_at_ranks = -math.inf
        self.recording = Recording()
        self._end, self._here = Position(), Position()
        self._history = LossHistory()
        self._shown: Frame | None = None
        self._output = OutputTail(output)
        self._loading = True
        self._news = time.monotonic()
        self._post, self._failed = post, failed
        self._asked: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="forgemon-feed", daemon=True)
        self._exists: tuple[float, str, bool | None] = (float("-inf"), "", None)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._asked.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def ask(self, move: str, value: float = 0) -> None:
        """Have the playhead do `move` (a method of Playhead) and show the result."""
        self._asked.put((move, value))

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # shown by the app: as a line if the user can mend it, as a traceback if it is ours
            self._failed(error)

    def _loop(self) -> None:
        shown, moved_at, news = -math.inf, time.monotonic(), False
        while True:
            news = self.take_in() or news
            now = time.monotonic()
            news = self.playhead.advance(now - moved_at) or news
            moved_at = now
            if now - shown >= self._frame_interval_s(shown > 0, news) and (news or self._live or shown < 0):
                self._show()
                shown, news = time.monotonic(), False
            spent = time.monotonic() - now
            if not self._obey(0.0 if self._loading else max(self._poll_s(), spent * (1 / BUSY_SHARE - 1))):
                return

    def _frame_interval_s(self, shown: bool, news: bool) -> float:
        if self._loading:
            return LOADING_FRAME_S if shown else 0.0
        if not news:
            return HEARTBEAT_S
        return 0.0 if self.playhead.playing or not self._live else LIVE_FRAME_S

    def _show(self) -> None:
        self._shown = self.frame()
        self._post(self._shown)

    def _poll_s(self) -> float:
        return PLAYING_POLL_S if self.playhead.playing else LIVE_POLL_S if self._live else REPLAY_POLL_S

    def _obey(self, wait_s: float) -> bool:
        """Do what was asked, waiting so long for it at most; False to stop. What is asked is shown at once."""
        asked = False
        try:
            order = self._asked.get(timeout=wait_s) if wait_s > 0 else self._asked.get_nowait()
            while True:
                if order is None:
                    return False
                getattr(self.playhead, order[0])(order[1])
                asked = True
                order = self._asked.get_nowait()
        except queue.Empty:
            if asked:
                self._show()
            return True

    def take_in(self) -> bool:
        """Take in what is new; whether anything was."""
        chunk = self._reader.read()
        changed = self._output.read()
        if chunk.empty:
            changed = self._read_other_ranks() or changed or self._loading
            self._loading = False
            if self._at_step is not None:
                self.playhead.to_step(self._at_step)
                self._at_step = None
            return changed
        self._news = time.monotonic()
        self._take(chunk)
        return True

    def _read_other_ranks(self) -> bool:
        if time.monotonic() < self._look_at_ranks:
            return False
        more = self._ranks.read_more(self._reader)
        self._look_at_ranks = time.monotonic() + (0.0 if more else RANKS_POLL_S)
        return more

    def _take(self, chunk: Chunk) -> None:
        self._ranks.feed(chunk, self._reader)
        self.recording.extend(chunk)
        self._end.feed(chunk)
        self._history.extend(chunk.steps)
        self._here.heed(chunk)
        self.playhead.grow(self._history.steps, self._history.times)

    def frame(self) -> Frame:
        """The picture at the playhead."""
        head = self.playhead
        end = self._end.snapshot(self._reader.info, tuple(self._reader.problems))
        of_ranks = self._ranks.candidates(self._reader.info)
        end_report = self._end.report(of_ranks)
        head.findings = tuple(sorted({f.first_step for f in end_report.findings}))
        head.ended(not self._live or end.state in ENDED)
        snapshot, report = end, end_report
        if not head.following and head.cursor is not None:
            self._announce(head.cursor)
            self._here.move(self.recording, head.cursor)
            snapshot = self._here.snapshot(self._reader.info, end.problems)
            report = self._here.report([c for c in of_ranks if c.first_step <= head.cursor])
        first = int(head.steps[0]) if len(head.steps) else 0
        started = float(head.times[0]) if len(head.times) else snapshot.time
        following = head.following or head.cursor is None
        newest = max(end.step, head.newest)  # an evaluation or a checkpoint may be ahead of the newest row
        return Frame(
            snapshot=snapshot,
            report=report,
            curves=self._history.curves(len(snapshot.steps)),
            gradients=gradient_trend(snapshot),
            marks=marks(end, end_report, self._history.first_nonfinite),
            first_step=first,
            end_step=newest,
            cursor=newest if following or head.cursor is None else head.cursor,
            live=self._live and end.state not in ENDED,
            following=following,
            playing=head.playing,
            speed=head.speed,
            loading=self._loading,
            best_exists=self._best_exists(snapshot),
            output=self._output.lines,
            elapsed_s=max(snapshot.time - started, 0.0),
            seeking=False,
            silent_s=time.monotonic() - self._news,
        )

    def _announce(self, step: int) -> None:
        """Say so where getting to a step takes more than a moment."""
        here = self._here.step or 0
        rows = int(
            np.searchsorted(self._history.steps, max(here, step)) - np.searchsorted(self._history.steps, min(here, step))
        )
        if rows > LONG_WAY_ROWS and self._shown is not None:
            self._post(replace(self._shown, cursor=step, following=False, seeking=True))

    def _best_exists(self, snapshot: Snapshot) -> bool | None:
        """Whether the best checkpoint's file is there, looked up at most once a second."""
        path = snapshot.best.path if snapshot.best else None
        if path is None:
            return None
        looked, of, exists = self._exists
        if of != path or time.monotonic() - looked >= HEARTBEAT_S:
            if not os.path.isabs(path):
                path = os.path.join(str(self._reader.info.get("cwd") or ""), path)
            exists = os.path.exists(path)
            self._exists = (time.monotonic(), snapshot.best.path or "" if snapshot.best else "", exists)
        return exists
