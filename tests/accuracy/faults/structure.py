"""Section B: the order of calls and what the tensors are."""

from __future__ import annotations

from dataclasses import replace

from forgemon.findings import Level
from tests.accuracy.faults.fault import Fault, plain, structural, supervised
from tests.accuracy.loop_parts import SAVE
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting


def _missing_zero_grad(script: Script) -> None:
    script.parts["zero"] = []
    script.mark("backward", ".backward()")
    if "generator" in script.parts:  # which goes back through the same model, and adds first
        script.mark("generator", ".backward()")


def _discarding(setting: Setting) -> Setting | None:
    return None if setting.amp == "scaler" or setting.accumulate > 1 else plain(setting)


def _gradients_discarded(script: Script) -> None:
    for order in (script.batch, script.step):
        if "zero" in order:
            order.remove("zero")
    script.batch.append("zero")
    script.mark("zero")


def _other_model(script: Script) -> None:
    script.parts["before"] = ["model = copy.deepcopy(model)"]
    script.mark("step", ".step(")


def _half_of_the_model(script: Script) -> None:
    script.replace("optimizer", "(model.parameters()", "(list(model.parameters())[-2:]")
    script.mark("step", ".step(")


def _stepping(setting: Setting) -> Setting | None:
    return None if setting.amp == "scaler" or setting.family == "gan" else plain(setting)


DETACHED = {
    "mlp": ("forward", "model(x)", "model[-1](model[:-1](x).detach())"),
    "regression": ("forward", "model(x)", "model[-1](model[:-1](x).detach())"),
    "cnn": ("model", ".flatten(1)", ".flatten(1).detach()"),
    "transformer": ("model", "self.blocks(x)", "self.blocks(x).detach()"),
    "lstm": ("model", "states, _ = self.lstm(x)", "states = self.lstm(x)[0].detach()"),
    "policy": ("model", "self.body(x)", "self.body(x).detach()"),
}


def _detachable(setting: Setting) -> Setting | None:
    return plain(setting) if setting.family in DETACHED else None


def _frozen(script: Script) -> None:
    part, before, after = DETACHED[script.setting.family]
    script.replace(part, before, after)
    script.mark(part, ".detach()")


def _clipping(setting: Setting) -> Setting | None:
    return None if setting.amp == "scaler" or setting.accumulate > 1 else replace(plain(setting), clip=True)


def _clip_before_backward(script: Script) -> None:
    script.step.remove("clip")
    script.batch.insert(script.batch.index("backward"), "clip")
    script.mark("clip")


def _clip_after_step(script: Script) -> None:
    script.step.remove("clip")
    script.step.insert(script.step.index("step") + 1, "clip")
    script.mark("clip")


def _scaled(setting: Setting) -> Setting | None:
    fits = setting.family == "mlp" or (setting.family in ("cnn", "transformer") and setting.batch in (1, 8))
    return replace(plain(setting), amp="scaler", clip=True, accumulate=1) if fits else None


def _clip_scaled(script: Script) -> None:
    script.parts["unscale"] = []
    script.mark("clip")


def _accumulating(setting: Setting) -> Setting | None:
    if not setting.validates:
        return None
    batch = setting.batch if setting.batch in (8, 32) else 8
    return replace(plain(setting), accumulate=4, batch=batch, data="loader", amp="")


def _not_divided(script: Script) -> None:
    script.replace("backward", "(loss / ACCUMULATE)", "loss")
    script.mark("backward", ".backward()")


def _of_accumulation(setting: Setting) -> Level:
    return "alarm" if setting.clip or setting.optimizer in ("sgd", "momentum") else "watch"


def _depends_on_mode(setting: Setting) -> Setting | None:
    if not setting.validates:
        return None
    # A LayerNorm, which the LSTM and the transformer have, is the same in both modes.
    has_batch_norm = setting.norm and setting.family not in ("lstm", "transformer")
    return replace(plain(setting), dropout=setting.dropout or not has_batch_norm)


def _no_eval(script: Script) -> None:
    script.parts["eval_mode"] = []
    script.mark("eval_step", "model(x)")


def _no_train(script: Script) -> None:
    script.parts |= {"train_mode": [], "train_mode_again": [], "train_mode_once": ["model.train()"]}
    script.mark("eval_mode")


def _no_no_grad(script: Script) -> None:
    script.parts["no_grad"] = []
    script.mark("eval_step", "model(x)")  # where the graph begins, and where it would have been used
    script.mark("eval_step", "elbo =" if script.setting.family == "vae" else "total +=")


def _kept_in_list(script: Script) -> None:
    script.parts["before"] = ["history = []"]
    script.parts["count"] = [*script.parts["count"], "history.append(loss)"]
    script.mark("count", "history.append(loss)")


def _summable(setting: Setting) -> Setting | None:
    return plain(setting) if setting.validates and setting.batch in (1, 8, 32) and setting.accumulate == 1 else None


def _summed(script: Script) -> None:
    script.parts["epoch_start"] = ["running_loss = 0.0"]
    script.parts["count"] = [*script.parts["count"], "running_loss += loss"]
    script.mark("count", "running_loss += loss")


def _classifying(setting: Setting) -> Setting | None:
    if setting.family not in ("mlp", "cnn"):
        return None
    return replace(plain(setting), loss="functional" if setting.loss == "hand" else setting.loss)


def _softmax(script: Script) -> None:
    for part in ("forward", "eval_step"):
        script.replace(part, "output = model(x)", "output = torch.softmax(model(x), 1)")
    script.mark("forward", "loss =")


def _with_loader(setting: Setting) -> Setting | None:
    return replace(plain(setting), data="loader") if setting.validates else None


def _val_shuffled(script: Script) -> None:
    script.replace("loaders", "DataLoader(val_set, batch_size=128", "DataLoader(val_set, batch_size=128, shuffle=True")
    script.mark("loaders", "val_loader =")


def _val_is_train(script: Script) -> None:
    script.replace("loaders", "TensorDataset(val_x, val_y)", "TensorDataset(train_x[:512], train_y[:512])")
    script.mark("loaders", "val_loader =")


def _val_on_train_set(script: Script) -> None:
    script.replace("loaders", "DataLoader(val_set", "DataLoader(train_set")
    script.mark("loaders", "val_loader =")


def few_samples(setting: Setting) -> Setting | None:
    """A setting that overfits when it has but few samples."""
    if setting.family not in ("mlp", "cnn", "regression", "transformer") or setting.schedule in ("restarts", "decay"):
        return None
    optimizer = "adam" if setting.optimizer in ("sgd", "momentum") else setting.optimizer
    data = "permutation" if setting.data == "permutation" else "loader"
    s = replace(plain(setting), optimizer=optimizer, batch=8 if setting.batch in (1, 8) else 32, data=data, dropout=False)
    return replace(s, accumulate=1, amp="", keep="best")


def take_few_samples(script: Script) -> None:
    """Few, and not all of them right."""
    family, data = script.setting.family, script.parts["data"]
    if family in ("mlp", "cnn"):
        data = [*data, "train_y = torch.where(torch.rand(SAMPLES) < 0.3, torch.randint(8, (SAMPLES,)), train_y)"]
    elif family == "regression":
        data = [*data, "train_y = train_y + torch.randn_like(train_y)"]
    script.parts["data"] = data
    epochs = 50 if script.setting.batch == 8 else 200
    script.settings |= {"SAMPLES": "64", "EPOCHS": str(epochs), "EVERY": str(epochs // 20)}


def _last_saved_only(script: Script) -> None:
    take_few_samples(script)
    script.parts["keep"] = [SAVE % "checkpoint"]
    script.mark("keep", "torch.save(")


def _saving(setting: Setting) -> Setting | None:
    return replace(plain(setting), keep="best") if setting.validates else None


def _weights_only(script: Script) -> None:
    script.parts["keep"] = [*script.parts["keep"][:-1], '    torch.save(model.state_dict(), "best.pt")']
    script.mark("keep", "torch.save(")


STRUCTURE: tuple[Fault, ...] = (
    structural("missing-zero-grad", plain, _missing_zero_grad),
    structural("gradients-discarded", _discarding, _gradients_discarded),
    structural("optimizer-mismatch", _stepping, _other_model, variant="/copy"),
    structural("optimizer-mismatch", _stepping, _half_of_the_model, variant="/part"),
    structural("frozen-parameters", _detachable, _frozen),
    structural("clip-before-backward", _clipping, _clip_before_backward),
    structural("clip-after-step", _clipping, _clip_after_step),
    structural("clip-scaled-gradients", _scaled, _clip_scaled),
    structural("accumulation-not-scaled", _accumulating, _not_divided, level=_of_accumulation),
    structural("eval-in-train-mode", _depends_on_mode, _no_eval, "validation"),
    structural("train-in-eval-mode", _depends_on_mode, _no_train, "validation"),
    structural("eval-with-grad", supervised, _no_no_grad, "validation"),
    structural("loss-graph-retained", plain, _kept_in_list, variant="/list"),
    structural("loss-graph-retained", _summable, _summed, variant="/sum"),
    structural("softmax-before-cross-entropy", _classifying, _softmax),
    structural("val-loader-shuffled", _with_loader, _val_shuffled, "validation", "watch"),
    structural("val-uses-train-data", _with_loader, _val_is_train, "validation", variant="/slice"),
    structural("val-uses-train-data", _with_loader, _val_on_train_set, "validation", variant="/same"),
    structural(
        "best-checkpoint-not-saved", few_samples, _last_saved_only, "overwritten", beside=frozenset({"train-val-divergence"})
    ),
    structural("checkpoint-incomplete", _saving, _weights_only, "saved", "info"),
)
