"""Section A: a learning rate, a model or data that make the curves go wrong."""

from __future__ import annotations

from dataclasses import replace

from tests.accuracy.faults.fault import Fault, dynamic, plain
from tests.accuracy.faults.structure import few_samples, take_few_samples
from tests.accuracy.loop_parts import optimizer_parts
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting, learning_rate

BLOWN_UP = "loss-nonfinite gradient-nonfinite loss-climbs loss-oscillates exploding-gradients vanishing-gradients loss-stuck"


def _rate(script: Script, times: float) -> None:
    script.parts |= optimizer_parts(script.setting, learning_rate(script.setting) * times)


def _diverging(setting: Setting) -> Setting | None:
    if setting.family not in ("regression", "vae", "lstm"):
        return None
    optimizer = setting.optimizer if setting.optimizer in ("sgd", "momentum") else "sgd"
    return replace(plain(setting), optimizer=optimizer, norm=False, clip=False, schedule="constant")


def _steady(setting: Setting) -> Setting | None:
    """A loop whose rate a jump in mid-run can spoil."""
    fits = setting.validates and setting.batch != 1
    return replace(plain(setting), schedule="constant", clip=False, norm=False, amp="") if fits else None


def _rate_jumps(script: Script) -> None:
    script.parts["schedule"] = ["schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0 if s < 150 else 100.0)"]
    script.parts["schedule_step"] = ["schedule.step()"]


def _rectified(setting: Setting) -> Setting | None:
    fits = setting.family in ("mlp", "cnn")
    return replace(plain(setting), schedule="constant", norm=False, clip=False, amp="") if fits else None


def _units_die(script: Script) -> None:
    _rate(script, 500.0 if script.setting.optimizer.startswith(("adam", "rms")) else 60.0)


def _unscheduled(setting: Setting) -> Setting | None:
    return replace(plain(setting), schedule="constant", amp="") if setting.validates else None


def _rate_too_low(script: Script) -> None:
    _rate(script, 1e-5)


def _deep(setting: Setting) -> Setting | None:
    fits = setting.family in ("mlp", "regression")
    return replace(plain(setting), norm=False, dropout=False, amp="") if fits else None


def _deep_sigmoid(script: Script) -> None:
    inputs, outputs = (16, 8) if script.setting.family == "mlp" else (8, 1)
    layers = f"nn.Linear({inputs}, 48), nn.Sigmoid(), *(m for _ in range(10) for m in (nn.Linear(48, 48), nn.Sigmoid()))"
    script.parts["model"] = [f"model = nn.Sequential({layers}, nn.Linear(48, {outputs}))"]


def _recurrent(setting: Setting) -> Setting | None:
    if setting.family != "lstm":
        return None
    optimizer = setting.optimizer if setting.optimizer in ("sgd", "momentum") else "momentum"
    return replace(plain(setting), optimizer=optimizer, norm=False, clip=False, schedule="constant")


def _exploding(script: Script) -> None:
    script.replace("model", "nn.LSTM(1, 24, batch_first=True)", 'nn.RNN(1, 24, batch_first=True, nonlinearity="relu")')
    script.parts["model"] += ["nn.init.eye_(model.lstm.weight_hh_l0); model.lstm.weight_hh_l0.data *= 1.15"]


def _with_floats(setting: Setting) -> Setting | None:
    fits = setting.family in ("mlp", "cnn", "regression", "lstm") and setting.amp != "scaler" and setting.data != "fresh"
    return plain(setting) if fits else None


def _bad_sample(script: Script) -> None:
    script.parts["data"] = [*script.parts["data"], 'train_x[SAMPLES // 3] = float("nan")']


def _hand_written(setting: Setting) -> Setting | None:
    fits = setting.family == "mlp" and setting.data != "fresh"
    return replace(plain(setting), loss="hand", amp="", norm=False, batch=setting.batch or 32) if fits else None


def _logarithm_of_zero(script: Script) -> None:
    """Without an eps it takes a few samples far out, on which the softmax is exactly zero somewhere."""
    script.parts["data"] = [*script.parts["data"], "train_x[:: SAMPLES // 16] *= 1000"]
    loss = "loss = -torch.softmax(output, 1).gather(1, y[:, None]).log().mean()"
    script.parts["forward"] = ["output = model(x)", loss]
    script.parts["eval_step"] = ["output = model(x)", loss, "total += loss.item() * len(x)", "count += len(x)"]


def _variational(setting: Setting) -> Setting | None:
    fits = setting.family == "vae" and setting.data != "fresh"
    return replace(plain(setting), norm=False, clip=False) if fits else None


def _exponential(script: Script) -> None:
    script.parts["data"] = [*script.parts["data"], "train_x = train_x.clone(); train_x[SAMPLES // 3] *= 1e5"]


def _fitting(setting: Setting) -> Setting | None:
    return replace(plain(setting), loss="hand") if setting.family == "regression" else None


def _half_precision(script: Script) -> None:
    script.parts["forward"] = ["output = model(x)", "loss = (150 * (output - y)).half().square().mean().float() / 150**2"]


def _labelled(setting: Setting) -> Setting | None:
    return plain(setting) if setting.family in ("mlp", "cnn") and setting.batch != 1 else None


def _labels_misaligned(script: Script) -> None:
    script.parts["data"] = [*script.parts["data"], "val_y = val_y[torch.randperm(len(val_y))]"]


def _unclipped(setting: Setting) -> Setting | None:
    fits = setting.family in ("mlp", "cnn", "regression", "lstm") and setting.batch != 1
    return replace(plain(setting), clip=False, norm=False, amp="") if fits else None


def _bad_batch(script: Script) -> None:
    script.parts["prepare"] = ["if step == 200:", "    x = x * 100"]


def _unnormalised(setting: Setting) -> Setting | None:
    fits = setting.family in ("mlp", "regression", "cnn") and setting.optimizer != "adamw"
    return replace(plain(setting), norm=False, clip=False, amp="", schedule="constant") if fits else None


def _wrong_sign(script: Script) -> None:
    times = "0.2" if script.setting.optimizer in ("sgd", "momentum") else "0.05"
    penalty = f"loss = loss - {times} * sum(p.square().sum() for p in model.parameters())"
    script.parts["backward"] = [penalty, *script.parts["backward"]]


DYNAMICS: tuple[Fault, ...] = (
    dynamic("lr-too-high/diverges", BLOWN_UP, "learning-rate-too-high", _diverging, lambda s: _rate(s, 100.0), "diverged"),
    dynamic(
        "lr-too-high/later", BLOWN_UP + " gradient-spike", "learning-rate-too-high", _steady, _rate_jumps, "left its level"
    ),
    dynamic("lr-too-high/dead", BLOWN_UP, "learning-rate-too-high", _rectified, _units_die),
    dynamic("lr-too-low", "loss-stuck", "learning-rate-too-low", _unscheduled, _rate_too_low),
    dynamic("vanishing", "loss-stuck vanishing-gradients", "vanishing-gradients depth-or-activation", _deep, _deep_sigmoid),
    dynamic("exploding", BLOWN_UP, "no-clipping learning-rate-too-high", _recurrent, _exploding, "blown up"),
    dynamic("bad-sample", "loss-nonfinite gradient-nonfinite", "nonfinite-input", _with_floats, _bad_sample, "not finite"),
    dynamic(
        "overflow/log", "loss-nonfinite gradient-nonfinite", "numeric-overflow", _hand_written, _logarithm_of_zero, "not finite"
    ),
    dynamic("overflow/exp", "loss-nonfinite gradient-nonfinite", "numeric-overflow", _variational, _exponential, "not finite"),
    dynamic("overflow/half", "loss-nonfinite gradient-nonfinite", "numeric-overflow", _fitting, _half_precision, "not finite"),
    dynamic("overfitting", "train-val-divergence", "overfitting", few_samples, take_few_samples, "overfits"),
    dynamic(
        "labels-misaligned",
        "val-at-chance train-val-divergence",
        "labels-misaligned",
        _labelled,
        _labels_misaligned,
        "validation",
    ),
    dynamic("bad-batch", "gradient-spike", "bad-batch", _unclipped, _bad_batch, "spoilt", "watch"),
    dynamic("weights-growing", "weights-growing", "no-regularisation", _unnormalised, _wrong_sign, "weights grown", "watch"),
)
