"""Facts of section B as the probes write them, one of each."""

from __future__ import annotations

from typing import Any

from forgemon.chunk import Chunk, Event
from forgemon.detectors import DETECTORS
from forgemon.detectors.candidate import Candidate
from tests.detectors.runs import chunk, event

WHERE = {"file": "/home/ada/train.py", "line": 42, "function": "main", "source": ["a()", "b()"], "source_first_line": 41}

EVIDENCE: dict[str, dict[str, Any]] = {
    "gradients-discarded": {"key": 0, "optimizer": "SGD", "parameters": 4, "gradient_norm_discarded": 0.25, "at_step": 4},
    "optimizer-mismatch": {
        "key": 0,
        "at_step": 4,
        "holds_other_tensors": True,
        "optimizer": "SGD",
        "parameters_of_optimizer": 4,
        "parameters_in_no_optimizer": 5,
        "names": ["fc1.weight", "fc1.bias"],
    },
    "frozen-parameters": {
        "key": 0,
        "optimizer": "AdamW",
        "parameters": 1,
        "of_parameters": 3,
        "names": ["a.weight"],
        "steps_observed": 20,
    },
    "clip-before-backward": {"key": 0, "at_step": 4, "norm": 0.0, "limit": 0.5},
    "clip-after-step": {"key": 0, "at_step": 4, "norm": 3.0, "limit": 0.5},
    "clip-scaled-gradients": {"key": 0, "at_step": 4, "norm": 3000.0, "limit": 0.5, "loss_scale": 1024.0},
    "accumulation-not-scaled": {
        "key": 0,
        "micro_batches": 4,
        "criterion": "cross_entropy",
        "optimizer": "SGD",
        "clipped": False,
        "scale_free": False,
    },
    "eval-in-train-mode": {
        "key": "cross_entropy",
        "metric": "cross_entropy",
        "at_step": 4,
        "batches": 3,
        "dropouts": 1,
        "batch_norms": 2,
        "modules": ["bn1", "bn2", "drop"],
        "model_training": True,
        "num_batches_tracked_advanced": True,
    },
    "train-in-eval-mode": {
        "key": 0,
        "at_step": 6,
        "optimizer": 0,
        "model": "Net",
        "mode_dependent_modules": 2,
        "first_step": 5,
        "eval_called_at_step": 4,
        "since_evaluation": 4,
        "metric": "cross_entropy",
        "from_the_start": False,
    },
    "eval-with-grad": {"key": "cross_entropy", "at_step": 4, "metric": "cross_entropy", "batches": 3, "samples": 32},
    "loss-graph-retained": {
        "alive": 147,
        "oldest_step": 0,
        "oldest_age_steps": 152,
        "kept_share": 1.0,
        "held_by": "list",
        "held": 25,
    },
    "softmax-before-cross-entropy": {
        "key": 0,
        "at_step": 5,
        "classes": 10,
        "loss_floor": 1.461,
        "made_by": "SoftmaxBackward0",
        "modules": ["out"],
    },
    "val-loader-shuffled": {
        "key": 1,
        "at_step": 4,
        "loader": 1,
        "shuffled": True,
        "sampler": "RandomSampler",
        "drop_last": True,
        "samples_dropped": 8,
    },
    "val-uses-train-data": {
        "key": 1,
        "at_step": 4,
        "loader": 1,
        "how": "the same storage",
        "samples_in_common": 50,
        "samples_checked": 100,
        "share": 0.5,
        "examples": [0, 1],
        "training_loader": 0,
        "on_purpose": False,
    },
    "best-checkpoint-not-saved": {
        "metric": "cross_entropy",
        "best_value": 0.5,
        "best_step": 200,
        "saved_step": 400,
        "saved_value": 0.9,
        "path": "/out/last.pt",
        "overwritten": True,
    },
    "checkpoint-incomplete": {"path": "/out/last.pt", "has_optimizer": False, "has_progress": True, "checkpoints": 2},
    "cpu-fallback": {
        "parameter_devices": {"cpu": 4},
        "device_files": 1,
        "driver_gpus": 1,
        "torch_has_cuda": True,
        "cuda_visible_devices": None,
        "on_purpose": False,
    },
    "shm-too-small": {
        "key": 0,
        "loader": 0,
        "free_bytes": 1 << 20,
        "total_bytes": 64 << 20,
        "needed_bytes": 12 << 20,
        "batch_bytes": 2 << 20,
        "workers": 2,
        "prefetch_factor": 2,
    },
}
"""As the probes write them; each field's name is checked against them by the loops of test_section_b_loops.py."""


def fact(name: str, step: int = 10, times: int = 1, **changes: Any) -> Event:
    fields = {**EVIDENCE[name], **changes}
    return event("fact", step, fact=name, times=times, where=WHERE, **fields)


def gone(name: str, step: int = 90, last_step: int = 30) -> Event:
    key = {"key": EVIDENCE[name]["key"]} if "key" in EVIDENCE[name] else {}
    return event("fact_gone", step, fact=name, times=9, last_step=last_step, **key)


def found_in(whole: Chunk) -> list[Candidate]:
    detectors = [detector() for detector in DETECTORS]
    for detector in detectors:
        detector.feed(whole)
    return [c for detector in detectors for c in detector.candidates() if c.symptom != "ended"]


def only(*events: Event, **more: Any) -> Candidate:
    (found,) = found_in(chunk(events=events, **more))
    return found
