"""Checkpoints: whose weights each holds, which are overwritten or gone, whether the best result is kept and whether one can resume."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from .checkpoints import holds, is_remote, runs_on_cpu
from .copies import copy_in_memory
from .evaluations import Batch, EvaluationPass
from .fingerprints import Fingerprints
from .probe import Probe
from .save_calls import SaveCalls
from .saved_files import HELD, Result, SavedFile, SavedFiles
from .trained_since import TrainedSince
from .whole_checkpoints import WholeCheckpoints

if TYPE_CHECKING:
    from .instruments import Instruments
    from .known import Known
    from .session import Session

MOST_SEARCHES = 8
"""Searches for a copy in memory in one run."""
MOST_ENTRIES = 2_000
REST = 100
"""Times as long as a judgement took, none follows: the loop waits for this thread while it computes, and may validate every few
milliseconds."""
COARSEST_CLOCK_S = 1.0
"""Of a file system: a file's time may lie so much before it was written."""
_BEST = re.compile(r"best|top|acc|f1|auc|score", re.IGNORECASE)
_MEASURE = re.compile(r"acc|f1|auc|score|bleu|rouge|iou|best_global_step", re.IGNORECASE)


class CheckpointFacts(Probe):
    """`best-checkpoint-not-saved` and `checkpoint-incomplete`. What needs the disk is done on the writer's thread."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.kept = SavedFiles()
        self._fingerprints = Fingerprints(session.transfer)
        self._trained = TrainedSince(session)
        self._calls = SaveCalls()
        self._whole = WholeCheckpoints(session.facts)
        self._loaded_at = -1
        "Step at which weights were loaded: what is saved then is not what was trained."
        self._buffered: tuple[int, int] | None = None
        self._searches = 0
        self._sizes: dict[str, int] = {}
        self._judged = -1
        self._was_held = False
        "By the newest judgement."
        self._not_before = 0.0
        "Time of the next one."
        self._told_of = -1
        "Step of the best result that was last said to be in no file."

    def install(self, instruments: Instruments) -> None:
        instruments.always(torch.nn.Module.load_state_dict, None, self._loaded)

    def late_modules(self, instruments: Instruments) -> None:
        self._calls.observe(instruments)

    def _loaded(self, values: tuple[Any, ...], _: Any) -> None:
        if self.session.is_root(values[0]):
            self._loaded_at = self.session.step_now()

    # What is said of each

    def evaluation_batch(self, batch: Batch) -> None:
        if batch.of is not None:
            self._note_weights(batch.of.step)

    def evaluated(self, finished: EvaluationPass, metric: str, value: float, higher_is_better: bool = False) -> None:
        standing = self.session.steps.validation.standing
        if standing["metric"] != metric or standing["evaluation_step"] != finished.step:
            return  # over training data, or a second loader
        if finished.step == self.session.step_now():  # a pass of which no batch was seen, but its result
            self._note_weights(finished.step)
        began = time.time() - max(0.0, time.perf_counter() - finished.began)
        value, model = -value if higher_is_better else value, self.session.models.number_at(finished.step)
        self.kept.evaluated(metric, Result(finished.step, value, finished.items, began, model))
        self._look_later()

    def _note_weights(self, step: int) -> None:
        if self._fingerprints.is_new(step):
            self._fingerprints.note(step, self._trained.look())

    def buffered(self, saved: Any) -> None:
        step = self.session.step_now()
        self._buffered = (step, id(saved))
        self.kept.excuse(step)

    def saved(self, function: str, path: str, saved: Any, event: dict[str, Any]) -> None:
        step = self.session.step_now()
        if self._buffered == (step, id(saved)):
            self.kept.excused.discard(step)  # that buffer is what is in this file
        self._buffered = None
        measure = _own_measure(path, event, saved)
        file = SavedFile(path, step, time.time(), self._step_in(saved, step), event["has_weights"], event["where"], measure)
        event["holds_step"] = file.holds
        event["overwrites"] = self.kept.saved(file)
        self._whole.add(path, event)
        self._look_later()

    def _step_in(self, saved: Any, now: int) -> int | None:
        """Whose weights are in it: the step of `now`, of the pass at which a copy of them was taken, or None where nobody knows."""
        root = self._trained.newest()
        same = holds(saved, root) if now != self._loaded_at else False
        copied_at = None if same and runs_on_cpu(root) else self._fingerprints.step_of(saved, root)
        return now if same is not False and copied_at is None else copied_at

    def step_begins(self, known: Known) -> None:
        self._whole.judge()

    def exiting(self) -> None:
        # Detached, the loop goes on: what it saves later is not seen. An exception cut it short.
        final = self.session.active and not hasattr(sys, "last_value")
        if final:
            self._whole.judge()
        self._look_later(final, is_last=True)

    # On the writer's thread

    def _look_later(self, final: bool = False, is_last: bool = False) -> None:
        self.session.writer.file("", lambda _: self.session.guard.protected(self._look, final, is_last))

    def _look(self, final: bool, is_last: bool) -> None:
        """`final`: no save will follow. `is_last`: none that we see."""
        self._note_gone()
        if time.perf_counter() < self._not_before and not is_last:
            return  # another look follows with the next result or save
        results = self.kept.count
        is_new = final or results != self._judged
        # What holds the best result may be replaced without another result; what was found missing stays so until then.
        verdict = self._judge(final) if is_new or self._was_held else None
        self._judged = results if verdict is not None else self._judged
        self._was_held = verdict == HELD
        if self._was_held:
            if is_new:
                self.session.facts.absent("best-checkpoint-not-saved")
        elif isinstance(verdict, dict) and not self._may_be_elsewhere(verdict["metric"], verdict["best_step"]):
            self._say(verdict, final)

    def _say(self, verdict: dict[str, Any], final: bool) -> None:
        at_step = self._lost_at(verdict["metric"], verdict["best_step"])
        if at_step is None:
            at_step = self.session.step_now() if final else self.kept.newest_step
        self.session.facts.seen("best-checkpoint-not-saved", at_step=at_step, **verdict)

    def _judge(self, final: bool) -> str | dict[str, Any] | None:
        began = time.perf_counter()
        verdict = self.kept.judge(final)
        now = time.perf_counter()
        self._not_before = now + REST * (now - began)
        return verdict

    def _lost_at(self, metric: str, best_step: int) -> int | None:
        """Where it is said of this result for the first time, the step at which it was lost: this thread comes to it some later."""
        if self._told_of == best_step:
            return None
        self._told_of = best_step
        return self.kept.lost_at(metric, best_step)

    def _note_gone(self) -> None:
        for file in list(self.kept.files.values()):
            if file.deleted or is_remote(file.path):
                continue
            if os.path.lexists(file.path):
                file.was_there = True
            elif file.was_there:
                file.deleted = True
                self.session.emit("checkpoint_deleted", path=file.path, saved_at_step=file.step)
            elif file.holds is not None:
                file.holds = None  # written and renamed at once: its weights lie under another name, or nowhere
                self.session.emit("checkpoint_deleted", path=file.path, saved_at_step=file.step)

    def _may_be_elsewhere(self, metric: str, step: int) -> bool:
        """Whether the weights of `step` may be kept in memory or in a file written by other means; remembered if so."""
        if self._searches >= MOST_SEARCHES:
            return True
        self._searches += 1
        root = self.session.steps.main_root()
        found = (root is not None and copy_in_memory(root)) or self._other_file(metric, step)
        if found:
            self.kept.excuse(step)
        return found

    def _other_file(self, metric: str, step: int) -> bool:
        """A file of about that size, beside the known ones, written between the best result and the next one."""
        series = self.kept.results[metric]
        begin = min(result.began for result in series if result.step == step)
        end = min((result.began for result in series if result.step > step), default=float("inf"))
        begin -= min(COARSEST_CLOCK_S, 0.5 * (end - begin))
        known = [file for file in list(self.kept.files.values()) if file.has_weights and not is_remote(file.path)]
        # The largest each has been: just now it may be in the middle of being written.
        there = {file.path for file in known if os.path.isfile(file.path)}
        self._sizes = {path: max(self._sizes.get(path, 0), os.path.getsize(path)) for path in there}
        sizes = list(self._sizes.values())
        for folder in {os.path.dirname(file.path) for file in known}:
            if not os.path.isdir(folder):
                continue
            with os.scandir(folder) as entries:
                for _, entry in zip(range(MOST_ENTRIES), entries, strict=False):
                    if not entry.is_file() or entry.path in self.kept.files:
                        continue
                    found = entry.stat()
                    if begin <= found.st_mtime <= end and 2 * found.st_size >= min(sizes, default=0):
                        return True
        return False


def _own_measure(path: str, event: dict[str, Any], saved: Any) -> bool:
    """Whether the loop seems to choose by another measure than the validation loss."""
    names = list(event["scalars"])
    if any("loss" in name.lower() for name in names):
        return False
    callbacks = saved.get("callbacks") if type(saved) is dict else None
    monitors = [str(key) for key in callbacks] if type(callbacks) is dict else []
    if any("'monitor': '" in key and "loss" not in key for key in monitors):
        return True
    return bool(_BEST.search(os.path.basename(path))) or any(_MEASURE.search(name) for name in names)
