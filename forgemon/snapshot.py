"""What is known of a run as of some step: frozen data that the dashboard, the check and the replay show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Event, ParameterTable, Rows
from forgemon.findings import Where

State = Literal["waiting", "running", "stalled", "finished", "exception", "killed", "exited", "gone", "detached"]
Mode = Literal["TRAIN", "EVAL", "no_grad", "unknown"]


@dataclass(frozen=True)
class Evaluation:
    """One validation pass."""

    step: int
    time: float
    epoch: int | None
    metric: str
    value: float
    train_loss: float
    "Mean training loss since the evaluation before; NaN where not visible."
    batches: int
    samples: int
    mode_correct: bool | None
    "True when the root module was in evaluation mode, None when not visible."
    grad_enabled: bool | None
    duration_s: float
    is_best: bool
    "Lower than every earlier value of this metric and model; never of one taken over training data."
    checkpoint: str | None
    "Path of a checkpoint with the weights of this evaluation: saved after it, or just before, with no training step between."
    metrics: Mapping[str, float]
    "Other values logged at that step, by name."
    where: Where | None
    model: int = 0
    "Number of the model that it judges: another one where training began anew with new weights, as in the folds of a cross-validation."


@dataclass(frozen=True)
class Checkpoint:
    """One saved file."""

    step: int
    time: float
    path: str
    function: str
    metric: str | None
    value: float
    "Validation value that stood when it was saved; NaN when there was none."
    evaluation_step: int | None
    has_optimizer: bool | None
    overwritten: bool
    "A later save wrote the same path."
    where: Where | None
    has_weights: bool | None = None
    "False for the other files of a checkpoint that has several: the optimizer's, the scheduler's."
    deleted: bool = False
    "Seen to be gone while the run was watched."

    @property
    def is_there(self) -> bool:
        return not (self.overwritten or self.deleted)


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint that holds the best validation value so far, or the fact that none does."""

    metric: str
    value: float
    step: int
    "Step of the evaluation."
    path: str | None
    "None when the best result has no checkpoint, or that was overwritten or deleted."
    lost: str | None = None
    "A file that held it before it was overwritten or deleted, where none holds it now."
    model: int = 0
    "As in Evaluation."
    models: int = 1
    "So many were evaluated one after the other."

    def exists(self) -> bool | None:
        """Whether the file is there now, on this host; None if there never was one. Touches the disk: never on the screen's thread."""
        import os

        if self.path is None:
            return None if self.lost is None else False
        return os.path.exists(self.path)


@dataclass(frozen=True)
class Snapshot:
    """Everything known as of `step`. Arrays are views that later rows never change."""

    info: Mapping[str, Any]
    "run.json, {} before it is written."
    state: State
    state_detail: str
    "One line: the exception's last line, the signal, how long it has stood still and where."
    mode: Mode
    step: int
    time: float
    "Unix time of the newest row or event."
    epoch: int | None
    steps: Rows
    "STEP_COLUMNS, rising in step."
    optimizers: tuple[Event, ...]
    table: ParameterTable | None
    "The newest parameter table."
    gradient_steps: npt.NDArray[np.int64]
    "(K,) steps of the rows of `gradient_norms`; bounded, older rows thinned out evenly."
    gradient_norms: npt.NDArray[np.float32]
    "(K, P) 2-norms in the order of table.names."
    update_table: ParameterTable | None
    "The newest parameter table of which updates were sampled."
    update_steps: npt.NDArray[np.int64]
    "(U,) steps of the rows of `update_ratios`; bounded as above."
    update_ratios: npt.NDArray[np.float32]
    "(U, P) norm of what a step changed in each parameter over the norm of its weights, in the order of update_table.names; NaN "
    "where it had no gradient at that step, cannot be sampled or was zero."
    evaluations: tuple[Evaluation, ...]
    checkpoints: tuple[Checkpoint, ...]
    best: BestCheckpoint | None
    machine: Rows | None
    memory: Rows | None
    "What torch's allocator holds on CUDA devices (memory_columns), rising in step; None where it holds none or that is not visible."
    gpu_names: tuple[str, ...]
    gpu_message: str
    "Why there are no GPU columns: `no NVIDIA GPU`."
    metrics: Mapping[str, Rows]
    signals: Mapping[str, str]
    "signal -> `seen` or `not visible`."
    calls: tuple[str, ...]
    "The order of calls in the newest step whose order was seen: fetch, forward, (forward backward)×4, clip, step; empty when unknown."
    skipped_steps: int
    "Steps that a GradScaler skipped because of a gradient that was not finite."
    steps_per_second: float
    "Over the last ten seconds of the run; NaN when unknown."
    probe_cost: float
    "Share of recent time spent in the probes; NaN when unknown."
    dropped_rows: int
    problems: tuple[str, ...]
    "What the reader had to leave out: torn rows, broken lines."
    events: tuple[Event, ...]
    "Events worth a mark or a line of their own: mode, exception, detached, stalled, resumed, dropped, probe_error."
    stack: tuple[str, ...]
    "Where a stalled process waits, one `function (file:line)` a line, innermost first; empty when not stalled."
