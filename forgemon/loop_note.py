"""The loop note: four answers on a run as a whole. The best checkpoint, what the curves imply, what failed first, whether to trust."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from forgemon.chunk import Chunk
from forgemon.detectors.blocks import ROWS, Block, Blocks
from forgemon.detectors.candidate import figure
from forgemon.evaluations import ON_TRAINING_DATA, Evaluations
from forgemon.findings import Finding, NoteAnswer
from forgemon.journal import text
from forgemon.loop_trust import first_failure, trust
from forgemon.snapshot import BestCheckpoint, Evaluation

Facts = Mapping[str, float | int | str | None]

CERTAIN = 3.0
"""Standard errors by which two medians must differ to be called different."""

ENDS = {
    "exception": "the program ended with an exception",
    "killed": "the process was killed",
    "exited": "the program left",
    "gone": "the process was gone without a word",
    "detached": "forgemon was detached",
}


class LoopNote:
    """Feed it every chunk; `answers` says what was seen so far."""

    def __init__(self) -> None:
        self._evaluations = Evaluations()
        self._blocks = Blocks()
        self._first: Block | None = None
        self._last: Block | None = None
        self._rows = self._losses = self._last_step = 0
        self._first_step: int | None = None
        self._attached = False
        "To a process that was running already: what it did before is not visible."

    def feed(self, chunk: Chunk) -> None:
        rows = chunk.steps
        self._rows += len(rows)
        if len(rows):
            lowest = int(rows["step"].min())
            self._first_step = lowest if self._first_step is None else min(lowest, self._first_step)
            self._last_step = max(self._last_step, int(rows["step"].max()))
            self._losses += int((rows["losses"] > 0).sum())
        for block in self._blocks.feed(rows):
            self._first = self._first or block
            self._last = block
        for event in chunk.events:
            self._last_step = max(self._last_step, int(event["step"]))
            if event["kind"] in ("checkpoint", "checkpoint_deleted"):
                self._evaluations.add_checkpoint(event)
            elif event["kind"] == "evaluation" and not text(event, "metric").endswith(ON_TRAINING_DATA):
                self._evaluations.add_evaluation(event)
            elif event["kind"] == "attached":
                self._attached = self._attached or text(event, "mode") == "attach"

    def answers(self, findings: Sequence[Finding]) -> tuple[NoteAnswer, ...]:
        """The four, in the order of their reading; none before the first step."""
        if not self._rows:
            return ()
        enough = self._first is not self._last
        before = "What came before it was attached to is not visible." if self._attached else ""
        failed, trusted = first_failure(findings, before), trust(findings, enough, self._rows)
        return self._checkpoint(), self._curves(findings), failed, trusted

    def _checkpoint(self) -> NoteAnswer:
        best = self._evaluations.best()
        if best is None:
            saved = [c for c in self._evaluations.checkpoints() if c.is_there and c.has_weights is not False]
            newest = f" The newest one saved is {saved[-1].path}, of step {saved[-1].step}." if saved else ""
            why = self._evaluations.why_no_best
            said = f"{why[0].upper()}{why[1:]}, so no checkpoint can be called the best.{newest}"
            return NoteAnswer("best_checkpoint", "best checkpoint", said, {})
        said = f"Best {best.metric}{_of_models(best)}: {figure(best.value)} at step {best.step}"
        if self._attached:
            said += " of those seen since it was attached to"
        if best.path is not None:
            said += f", saved in {best.path}."
        elif best.lost is not None:
            said += f"; {best.lost} held that state and was overwritten or deleted."
        else:
            said += "; no file is known to hold that state." if self._evaluations.checkpoints() else "; no checkpoint was seen."
        facts: Facts = {"metric": best.metric, "value": best.value, "step": best.step, "path": best.path}
        return NoteAnswer("best_checkpoint", "best checkpoint", said, facts)

    def _curves(self, findings: Sequence[Finding]) -> NoteAnswer:
        held_out = [e for e in self._held_out() if math.isfinite(e.value)]
        training, facts = self._training(findings)
        validation, more = _validation(held_out)
        implied = self._implied(held_out, findings)
        said = [f"{training}; {validation}.", implied, self._until(findings)]
        return NoteAnswer("curves", "curves", " ".join(part for part in said if part), {**facts, **more})

    def _training(self, findings: Sequence[Finding]) -> tuple[str, Facts]:
        first, last = self._first, self._last
        broken = next((f.first_step for f in findings if "loss-nonfinite" in (f.symptom, *f.evidence)), None)
        until = f", and is not finite since step {broken}" if broken is not None else ""
        if first is None or last is None or first is last:
            count = f"only {self._losses} values were" if self._losses > 1 else "only one was" if self._losses else "none was"
            return f"Of the training loss {count} seen{', too few for a curve' * bool(self._losses)}{until}", {}
        since = f"Since it was attached to (step {self._first_step}) the" if self._attached else "The"
        said = f"{since} training loss went from {figure(first.loss)} to {figure(last.loss)} (medians of the first and last {ROWS})"
        return said + until, {"training_first": first.loss, "training_last": last.loss}

    def _implied(self, held_out: Sequence[Evaluation], findings: Sequence[Finding]) -> str:
        """What follows from both curves; nothing where one of them is not visible or says nothing."""
        apart = next((f for f in findings if f.symptom == "train-val-divergence"), None)
        if apart is not None:
            return f"They part at step {apart.first_step}: what was learned after it does not hold for other data."
        if held_out and held_out[-1].model:
            return f"They are those of {held_out[-1].model + 1} models one after the other, and validation that of the newest."
        first, last = self._first, self._last
        if first is None or last is None or first is last:
            return ""
        fell, error = first.loss - last.loss, CERTAIN * math.hypot(first.error, last.error)
        if fell < -error:
            return "The training loss ends above where it began."
        if fell <= error:
            return "The training loss has not moved by more than its noise."
        if len(held_out) < 2:
            return "It learns its training data; whether that holds for other data is not visible."
        best = min(range(len(held_out)), key=lambda i: held_out[i].value)
        since = len(held_out) - 1 - best
        if since == 0:
            return "Both fall: it still learns."
        passes = f"for {since} validation passes" if since > 1 else "at the last validation pass"
        return f"Training falls; validation has not improved {passes}."

    def _until(self, findings: Sequence[Finding]) -> str:
        ended = next((f for f in findings if f.symptom == "ended"), None)
        if ended is None:
            return f"The run goes on; this is as of step {self._last_step}."
        if "asked_by" in ended.evidence:
            return f"They end at step {self._last_step}, where it was stopped on request."
        why = ENDS.get(ended.cause)
        return f"They end at step {self._last_step}, where {why}." if why else ""

    def _held_out(self) -> list[Evaluation]:
        newest = self._evaluations.newest()
        return [e for e in self._evaluations.evaluations() if newest and (e.model, e.metric) == (newest.model, newest.metric)]


def _of_models(best: BestCheckpoint) -> str:
    if best.models == 1:
        return ""
    if best.model == best.models - 1:
        return f" of the newest of {best.models} models"
    return f" of {best.models} models, of the one that is number {best.model + 1}"


def _validation(passes: Sequence[Evaluation]) -> tuple[str, Facts]:
    if not passes:
        return "no validation loss was seen", {}
    best = min(passes, key=lambda e: e.value)
    facts: Facts = {
        "validation_metric": best.metric,
        "validation_first": passes[0].value,
        "validation_last": passes[-1].value,
        "validation_best": best.value,
        "validation_best_step": best.step,
    }
    if len(passes) == 1:
        return f"validation was seen once, {figure(best.value)} at step {best.step}", facts
    tail = "its best yet" if best is passes[-1] else f"best {figure(best.value)} at step {best.step}"
    return f"validation from {figure(passes[0].value)} to {figure(passes[-1].value)} ({tail})", facts
