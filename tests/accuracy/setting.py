"""One healthy loop in a few words: what is trained, how, and in which style the loop is written."""

from __future__ import annotations

from dataclasses import dataclass, fields

STEPS = 400
"""Optimizer steps of a run, about: whole epochs."""


@dataclass(frozen=True)
class Setting:
    """Everything but the seed. Two settings that differ in one word are two configurations."""

    family: str
    "mlp, cnn, transformer, lstm, regression, vae, gan or policy."
    optimizer: str
    "sgd, momentum, adam, adamw or rmsprop."
    batch: int = 32
    "Samples of a batch; 0 for all of them."
    schedule: str = "constant"
    "constant, warmup, cosine, restarts, decay, onecycle or byhand."
    norm: bool = False
    "BatchNorm or LayerNorm in the model."
    dropout: bool = False
    clip: bool = False
    accumulate: int = 1
    amp: str = ""
    "bf16, or scaler for float16 with a GradScaler."
    style: str = "module"
    "module, fit, functions or trainer: where the loop stands."
    data: str = "loader"
    "loader, permutation, sampled or fresh: where a batch comes from."
    zero: str = "optimizer"
    "optimizer, model, none or last: who clears the gradients, and when."
    loss: str = "functional"
    "functional, criterion or hand: how the loss is written."
    keep: str = "best"
    "best, both, memory or nothing: what is saved of a run."
    twist: str = ""
    "What makes this loop look like a faulty one, or unusual in another way."

    @property
    def name(self) -> str:
        """The words that differ from the plainest setting."""
        words = [f"{self.optimizer}-b{self.batch or 'full'}"]
        for field in fields(self)[3:]:
            value = getattr(self, field.name)
            if value != field.default:
                words.append(field.name if value is True else f"{field.name}{value}" if isinstance(value, int) else value)
        return f"{self.family}/{'-'.join(words)}"

    @property
    def validates(self) -> bool:
        return self.family not in ("gan", "policy")

    @property
    def by_steps(self) -> bool:
        """Whether the loop counts steps and not epochs."""
        return self.data in ("sampled", "fresh") or not self.validates

    @property
    def samples(self) -> int:
        """Of the training set."""
        # As many as it takes for 400 steps of full batches not to overfit; where a step is slow, as many as time allows.
        full = {"mlp": 10240, "regression": 6144, "vae": 6144}.get(self.family, 1536)
        return {0: full, 1: 160, 8: 1600, 32: 3200, 128: 10240}[self.batch]

    @property
    def epochs(self) -> int:
        batches = -(-self.samples // (self.batch or self.samples)) // self.accumulate
        return max(2, round(STEPS / batches))

    @property
    def evaluated_every(self) -> int:
        """Epochs, or steps in a loop that counts those."""
        return (40 if self.validates else 20) if self.by_steps else max(1, self.epochs // 12)


LEARNING_RATES: dict[str, dict[str, float]] = {
    "mlp": {"sgd": 0.1, "momentum": 0.02, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 1e-3},
    "cnn": {"sgd": 0.1, "momentum": 0.02, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 7e-4},
    "transformer": {"sgd": 0.2, "momentum": 0.03, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 7e-4},
    "lstm": {"sgd": 0.05, "momentum": 0.02, "adam": 4e-3, "adamw": 4e-3, "rmsprop": 1.5e-3},
    "regression": {"sgd": 0.05, "momentum": 0.01, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3},
    "vae": {"sgd": 0.03, "momentum": 0.005, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 7e-4},
    "gan": {"sgd": 0.1, "momentum": 0.05, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3},
    "policy": {"sgd": 0.3, "momentum": 0.05, "adam": 5e-3, "adamw": 5e-3, "rmsprop": 2e-3},
}
"""Peak learning rates at which the family learns well with a batch of 32."""


def learning_rate(setting: Setting) -> float:
    """What a person who knows the trade would take."""
    rate = LEARNING_RATES[setting.family][setting.optimizer]
    if setting.batch == 1:
        rate *= 0.15
    elif setting.batch == 8:
        rate *= 0.5
    elif setting.batch == 0 and setting.family == "transformer" and setting.optimizer in ("adam", "adamw", "rmsprop"):
        rate *= 0.25  # or 400 passes over so few samples overfit
    if setting.twist == "fine-tuning":
        rate *= 0.2
    if setting.twist == "class-sorted":
        rate *= 0.3
    if setting.twist == "edge of stability":
        rate *= 3.0
    return rate
