"""What the diagnosis must say of each demo loop: its symptom and the line that is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Of one demo, run with `arguments`, which are as few steps as show it."""

    line: str = ""
    "What stands in the line that the finding points at; empty where no single line did it."
    arguments: tuple[str, ...] = ("--epochs", "3")


STEP = "        optimizer.step()"
TEN = ("--epochs", "10")

FAULTY: Mapping[str, Expected] = {
    "gradient_nonfinite": Expected(arguments=TEN),
    "loss_stuck": Expected(arguments=TEN),
    "loss_climbs": Expected(arguments=("--epochs", "14")),
    "val_at_chance": Expected(arguments=TEN),
    "vanishing_gradients": Expected(arguments=TEN),
    "exploding_gradients": Expected(arguments=("--epochs", "7")),
    "gradient_spike": Expected(),
    "weights_growing": Expected(arguments=("--epochs", "30")),
    "gradients_discarded": Expected("optimizer.zero_grad()"),
    "optimizer_mismatch": Expected(STEP),
    "frozen_parameters": Expected(".detach()"),
    "clip_before_backward": Expected("clip_grad_norm_"),
    "clip_after_step": Expected("clip_grad_norm_"),
    "clip_scaled_gradients": Expected("clip_grad_norm_"),
    "accumulation_not_scaled": Expected("loss.backward()"),
    "eval_in_train_mode": Expected("val_loss += "),
    "train_in_eval_mode": Expected("model.eval()"),
    "eval_with_grad": Expected("val_loss += "),
    "loss_graph_retained": Expected("losses.append(loss)"),
    "softmax_before_cross_entropy": Expected("loss = cross_entropy("),
    "val_loader_shuffled": Expected("val_loader = DataLoader("),
    "val_uses_train_data": Expected("val_loader = DataLoader("),
    "best_checkpoint_not_saved": Expected("torch.save(", ("--epochs", "11")),
    "checkpoint_incomplete": Expected("torch.save("),
    "cpu_fallback": Expected(STEP),
    "shm_too_small": Expected("train_loader = DataLoader(", ("--epochs", "1")),
}
"""Those whose curves are tested in test_behaviour.py are diagnosed in test_diagnosed.py."""

LONG_ENOUGH: Mapping[str, tuple[str, ...]] = {
    "healthy_classifier": ("--epochs", "6"),
    "goes_nan": ("--steps", "800"),
    "oscillates": ("--steps", "1600"),
    "overfits": ("--epochs", "34"),
    "missing_zero_grad": ("--epochs", "3"),
}
"""Arguments with which each of those shows enough of itself."""

HEALTHY: Mapping[str, Expected] = {
    "healthy_accumulation": Expected(arguments=("--epochs", "6")),
    "healthy_adversarial_evaluation": Expected(),
    "healthy_frozen_batchnorm": Expected(arguments=("--epochs", "6")),
    "healthy_label_noise": Expected(arguments=TEN),
    "healthy_log_softmax": Expected(),
    "healthy_mc_dropout": Expected(),
    "healthy_moving_window": Expected(),
    "healthy_warm_restarts": Expected(arguments=("--epochs", "14")),
}

NOT_ON_EVERY_MACHINE = ("cpu_fallback", "shm_too_small")
"""They show only where there is a GPU, and where /dev/shm is small: tests/probes/ has their facts on machines made up for it."""


def shortened(name: str) -> tuple[str, ...]:
    """Arguments with which a faulty demo shows its symptom."""
    return LONG_ENOUGH[name] if name in LONG_ENOUGH else FAULTY[name].arguments
