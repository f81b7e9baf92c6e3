"""The run directory, format 1: every file name, column and event the probes write and forgemon reads. Stdlib only.

    RUN/run.json                  one object, written once by rename (RUN_FIELDS)
    RUN/machine.npy               machine_columns(gpus), about one row a second, by the sidecar
    RUN/machine.jsonl             sidecar events: started, stalled, resumed, ended
    RUN/output.log                what the command printed (forgemon run with the dashboard)
    RUN/rank-R/steps.npy          STEP_COLUMNS, one row per observed optimizer step; between them rows with the loss alone
    RUN/rank-R/parameters-T.json  {"table": T, "first_step": n, "parameters": [{name, shape, dtype, optimizer, group}]}
    RUN/rank-R/gradients-T.npy    gradient_columns(P): step and one norm per parameter of table T, in its order
    RUN/rank-R/updates-T.npy      update_columns(P): step, weight and update norm of each parameter of table T, more rarely
    RUN/rank-R/memory.npy         memory_columns(devices), at most one row a second; only where torch holds memory of a CUDA device
    RUN/rank-R/metrics/NAME.npy   METRIC_COLUMNS, one row per value
    RUN/rank-R/events.jsonl       one JSON object a line: time, step, kind and the fields in EVENT_FIELDS
    RUN/rank-R/detach             empty; whoever creates it asks the probe to leave

A table is an ordinary .npy file of a structured dtype that grows: whole rows are appended in one write and the row count in
the (fixed-size) header is patched after. A reader trusts the file's size, not the count. A missing number is NaN in a table
and null in JSON; a number that *is* not finite is the string "nan", "inf" or "-inf" in JSON, so that jq can read it.
Time is Unix time in seconds.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = 1

OPEN_FLAGS = os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
"""For every file of a run directory: its owner may be another user than its writer, and could plant a link there."""

Column = tuple[str, str] | tuple[str, str, int]
"""Name, numpy type code ('i8', 'f8', 'f4') and, for a column that holds a vector, its length."""

STEP_COLUMNS: tuple[Column, ...] = (
    ("step", "i8"),  # optimizer step, counted by the optimizer itself where it counts (Adam), else from attach on
    ("time", "f8"),  # end of the step
    ("optimizer", "i4"),  # index in the `optimizer` events
    ("loss", "f8"),  # mean over the micro-batches, without loss scale and accumulation divisor where those are visible
    ("learning_rate", "f8"),  # of the first parameter group
    ("loss_scale", "f8"),
    ("gradient_norm", "f8"),  # total 2-norm as the optimizer used it
    (
        "gradient_norm_before_clip",
        "f8",
    ),  # 2-norm of what was clipped; only where a step has a single clip, and that by the 2-norm
    ("batch_size", "f4"),  # samples over all micro-batches
    ("micro_batches", "f4"),  # backward calls since the previous step
    ("training", "f4"),  # 1 the root module was in training mode, 0 in evaluation mode
    ("losses", "f4"),  # values behind `loss`; where there are some, a NaN in `loss` is the loss's own
    ("gradients", "f4"),  # parameters whose norm was measured; where there are some, a NaN in `gradient_norm` is its own
    ("gradients_reused", "f4"),  # share of checked parameters whose gradient this optimizer had already used; 0 when none
    ("skipped_steps", "f4"),  # that a GradScaler skipped since the previous row
    ("ribbon", "f4"),  # index of the `ribbon` event that has the order of calls
    ("step_s", "f4"),  # since the previous step's end, evaluation time left out
    ("data_s", "f4"),  # waiting for the loader
    ("forward_s", "f4"),
    ("backward_s", "f4"),
    ("optimizer_s", "f4"),
    ("probe_s", "f4"),  # spent in our callbacks, mean over the steps since the previous row
)

METRIC_COLUMNS: tuple[Column, ...] = (("step", "i8"), ("time", "f8"), ("value", "f8"))

MOST_TABLES = 64
"""Tables of parameters of one rank. In a loop that makes ever new optimizers, those that come later have a total norm alone."""


def gradient_columns(parameter_count: int) -> tuple[Column, ...]:
    """Columns of gradients-T.npy for a table of `parameter_count` parameters; a parameter without gradient is NaN."""
    return (("step", "i8"), ("norm", "f4", parameter_count))


def update_columns(parameter_count: int) -> tuple[Column, ...]:
    """Columns of updates-T.npy: 2-norm of the weights before a step, and of what it changed in them, both estimated from a sample
    of the entries; NaN for a parameter that had no gradient at that step or cannot be sampled."""
    return (("step", "i8"), ("weight_norm", "f4", parameter_count), ("update_norm", "f4", parameter_count))


def memory_columns(devices: Sequence[int]) -> tuple[Column, ...]:
    """Columns of memory.npy: what torch's allocator holds on the CUDA `devices` that it used when the first row was written."""
    columns: list[Column] = [("step", "i8"), ("time", "f8")]
    for i in devices:
        columns += [
            (f"cuda{i}_allocated_bytes", "f8"),  # in tensors
            (f"cuda{i}_reserved_bytes", "f8"),  # taken from the device
            (f"cuda{i}_peak_bytes", "f8"),  # most in tensors so far, or since the program reset the count
        ]
    return tuple(columns)


def machine_columns(gpu_count: int) -> tuple[Column, ...]:
    """Columns of machine.npy on a host with `gpu_count` NVIDIA GPUs; `process_*` covers the watched processes."""
    columns: list[Column] = [
        ("time", "f8"),
        ("process_rss_bytes", "f8"),
        ("process_cpu_percent", "f4"),
        ("host_used_bytes", "f8"),
        ("host_total_bytes", "f8"),
        ("host_cpu_percent", "f4"),
    ]
    for i in range(gpu_count):
        columns += [
            (f"gpu{i}_used_bytes", "f8"),
            (f"gpu{i}_total_bytes", "f8"),
            (f"gpu{i}_process_bytes", "f8"),
            (f"gpu{i}_utilisation_percent", "f4"),
            (f"gpu{i}_power_w", "f4"),
            (f"gpu{i}_temperature_c", "f4"),
        ]
    return tuple(columns)


RUN_FIELDS = {
    "format": "1",
    "run": "name of the run directory",
    "mode": "attach, run or api",
    "created": "Unix time",
    "host": "host name",
    "user": "user name",
    "pid": "of rank 0, as the tool sees it",
    "process_started": "Unix time",
    "argv": "list of strings",
    "script": "absolute path of the main script, null for an interactive session",
    "cwd": "string",
    "python": "3.11.7",
    "torch": "2.13.0",
    "devices": "list of names such as cpu, cuda:0",
    "world_size": "integer",
    "git": "{commit, clean} of the script's checkout or null",
    "models": "list of {name, class, parameters: count, modules: count}",
    "optimizers": "list of {class, learning_rate, hyperparameters}",
    "forgemon": "version",
}

EVENT_FIELDS = {
    # kinds of RUN/rank-R/events.jsonl
    "waiting": "for: torch | step; message. Before attached",
    "refused": "message, run_dir. The process is already watched or the probe cannot work there",
    "attached": "pid, mode, python, torch, rank, world_size, thread, scan_s, signals: {signal: seen | not visible}",
    "optimizer": "index, class, learning_rate, hyperparameters, parameters: count, new_weights: bool (something was trained before it "
    "first stepped, and none of that is what it holds), counted_from",
    "table": "table, parameters: count. parameters-T.json was written",
    "signals": "signals: {signal: seen | not visible}. Written again whenever it changes",
    "mode": "training: bool, where. The root module's train() or eval() changed it",
    "evaluation": "metric, value, model (number of the model that it judges: another one where optimizers of new weights took the place "
    "of those before, as in the folds of a cross-validation), batches, samples, training: bool, grad_enabled: bool, duration_s, "
    "epoch (or null), train_loss (mean since the evaluation before), where. Of a pass that no criterion showed, by the name under which "
    "the loop logs or keeps its loss; batches to duration_s are null where nothing but that number was seen of it. A metric that ends with "
    "` (part of the loss)` is a criterion beside others of which the loop makes its loss, or to which more is added by hand: no checkpoint "
    "is judged by it, but by the number that the loop itself logs or keeps of the whole; so too with ` (share of this rank)`, of several",
    "metric": "name, source: tensorboard | wandb | mlflow | transformers | lightning | local | criterion, better: lower | higher | null, "
    "where (of a local variable its function). Once for each name in metrics/",
    "loop_count": "name, value. A variable of the loop's that rises as our step does, and where it stands at this step",
    "checkpoint": "path, function, keys (list or null), has_weights and has_optimizer: bool or null, scalars: {key: number} of the top "
    "level, metric, value (what stood then), evaluation_step, holds_step (whose weights: step, of an earlier copy too, or null where "
    "it is not known), overwrites: step of the save before to that path, or null, bytes, where",
    "checkpoint_deleted": "path, saved_at_step. It was there after that save and is gone",
    "loader": "index, role: training | validation | null (its use did not show; both: two events), batch_size, workers, shuffled: bool "
    "or null, sampler, drop_last, pin_memory, persistent_workers, prefetch_factor, dataset, length (or null), where. Once a role",
    "loss": "index, name, where: a line that calls backward(). With two of them each has its series metrics/NAME",
    "epoch": "epoch: int. The training loader was started again",
    "fact": "fact (an id of section B), times, key (which optimizer, loader or line, where there are several), where, and the numbers "
    "of its evidence. Written at the 1st, 2nd, 4th, 8th … time",
    "fact_gone": "fact, key, times, last_step. It could have shown several times in a row and did not",
    "skipped": "optimizer, times_in_a_row, loss_scale (that of the skipped step). GradScaler found a non-finite gradient; written at the "
    "1st, 2nd, 4th, 8th … in a row",
    "ribbon": "index, calls: list such as [(fetch forward backward)×4, clip, step]. The order of calls from one step to the next, when "
    "it is new",
    "nonfinite": "first_seen_step, looked_at_step, last_finite_step (the row before, or null), first: {stage, name, dtype} or "
    "null, order: [{stage: input | layer | loss | gradient | weight, name, finite, …}], where. An input has batch, micro_batch and "
    "sample (from 0 on), a gradient or weight how many (nonfinite, of); after_step: weights as the step left them; seen_later: in a "
    "later forward. Written at once, and again for the same first_seen_step where a layer's output was found",
    "progress": "batches. Written while no step ends, in a long evaluation for example",
    "exception": "type, message (of a long one its beginning and end), where (the line that raised it, also in a loader's worker), "
    "traceback: list of lines. What ended the program",
    "exiting": "The interpreter is shutting down in order",
    "probe_error": "where_in_probe, error. Ours; recorded once per place",
    "dropped": "rows. Rows lost to a slow or full disk since the last such event",
    "detached": "reason",
}

MACHINE_EVENT_FIELDS = {
    # kinds of RUN/machine.jsonl; each has `time`
    "started": "pid (the sidecar's), watches: [pid], gpus: [names], nvml: message when there is no GPU",
    "stalled": "since (Unix time), usual_s, seconds, stack: [{thread, frames: [{function, file, line}]}], pid, message",
    "resumed": "stalled_s",
    "ended": "how: finished | exception | killed | exited | gone, exit_code, signal (name or null), message",
}


def rank_directory(run: str, rank: int) -> str:
    return os.path.join(run, f"rank-{rank}")


def metric_file_name(name: str) -> str:
    """A file name that holds any metric name: everything but letters, digits, `-`, `_` and `.` becomes %XX."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "".join(f"%{b:02X}" for b in c.encode()) for c in name)
    return ("%2E" + safe[1:] if safe.startswith(".") else safe)[:200] + ".npy"


def encode_json(value: Any) -> Any:
    """`value` with non-finite floats as "nan", "inf", "-inf" and unknown objects as their repr, ready for json.dumps."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): encode_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode_json(v) for v in value]
    return repr(value)[:200]


def event_line(event: Mapping[str, Any]) -> bytes:
    return (json.dumps(encode_json(event), ensure_ascii=False) + "\n").encode("utf-8", "replace")


def decode_number(value: object) -> float:
    """The float that `encode_json` wrote: NaN for null or anything that is no number."""
    if isinstance(value, bool):
        return float("nan")
    if isinstance(value, (int, float)):
        return float(value)
    if value in ("nan", "inf", "-inf"):
        return float(str(value))
    return float("nan")


def write_json_once(path: str, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` by rename, so that a reader sees all of it or nothing."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8", errors="replace") as file:
        json.dump(encode_json(value), file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(temporary, path)
