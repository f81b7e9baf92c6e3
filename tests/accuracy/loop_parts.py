"""The parts of a loop that do not depend on what is trained: batches, optimizer, schedule, the step, validation, saving."""

from __future__ import annotations

from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting, learning_rate

OPTIMIZERS = {
    "sgd": "torch.optim.SGD({parameters}, lr={lr})",
    "momentum": "torch.optim.SGD({parameters}, lr={lr}, momentum=0.9)",
    "adam": "torch.optim.Adam({parameters}, lr={lr})",
    "adamw": "torch.optim.AdamW({parameters}, lr={lr}, weight_decay=0.05)",
    "rmsprop": "torch.optim.RMSprop({parameters}, lr={lr})",
}
TOTAL = "(STEPS if {by_steps} else EPOCHS * (SAMPLES // BATCH // ACCUMULATE))"
SCHEDULES = {
    "constant": "",
    "warmup": "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 60))",
    "cosine": "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max={total})",
    "restarts": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=100)",
    "decay": "torch.optim.lr_scheduler.StepLR(optimizer, step_size=150, gamma=0.3)",
    "onecycle": "torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr={lr}, total_steps={total} + 5)",
}
SAVE = 'torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "val_loss": val_loss}, "%s.pt")'


def common_parts(setting: Setting) -> dict[str, Lines]:
    """Everything but data, model, forward and eval_step, for a loop with one model and one optimizer."""
    return {
        **_data_parts(setting),
        **optimizer_parts(setting),
        "train_mode": ["model.train()"],
        "train_mode_again": ["model.train()"],
        "eval_mode": ["model.eval()"],
        "no_grad": ["with torch.no_grad():"],
        "eval_end": ['print("epoch" if EPOCHS else "", step, "val loss", val_loss, flush=True)'],
        "keep": _keep(setting),
        "end": ['torch.save(best_state, "best.pt")'] if setting.keep == "memory" else [],
    }


def _data_parts(setting: Setting) -> dict[str, Lines]:
    loaders = ["train_set, val_set = TensorDataset(train_x, train_y), TensorDataset(val_x, val_y)"]
    loaders += ["train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True, drop_last=True)"]
    if setting.twist == "class-sorted":
        loaders[-1] = loaders[-1].replace("shuffle=True", "shuffle=False")
    loaders += ["val_loader = DataLoader(val_set, batch_size=128)"]
    index = "for index, (x, y) in enumerate({}):" if setting.accumulate > 1 else "for x, y in {}:"
    if setting.data == "loader":
        batches = [index.format("train_loader")]
    elif setting.data == "permutation":
        chosen = "((train_x[i], train_y[i]) for i in torch.randperm(SAMPLES).split(BATCH) if len(i) == BATCH)"
        batches = [index.format(chosen)]
    elif setting.data == "sampled":
        batches = ["for step_index in range(STEPS):", "i = torch.randint(SAMPLES, (BATCH,))", "x, y = train_x[i], train_y[i]"]
    else:
        batches = ["for step_index in range(STEPS):", "x, y = draw(BATCH)"]
    if setting.data != "loader":
        loaders = []
    by_loader = setting.data == "loader"
    val = "for x, y in val_loader:" if by_loader else "for x, y in zip(val_x.split(128), val_y.split(128)):"
    return {"loaders": loaders, "batches": batches, "val_batches": [val]}


def optimizer_parts(setting: Setting, lr: float | None = None) -> dict[str, Lines]:
    """Optimizer, schedule, zero, backward, clip and step."""
    rate = learning_rate(setting) if lr is None else lr
    parts = {"optimizer": ["optimizer = " + OPTIMIZERS[setting.optimizer].format(parameters="model.parameters()", lr=rate)]}
    total = TOTAL.format(by_steps=setting.by_steps)
    schedule = SCHEDULES.get(setting.schedule, "").format(total=total, lr=rate)
    parts["schedule"] = [f"schedule = {schedule}"] if schedule else []
    parts["schedule_step"] = ["schedule.step()"] if schedule else []
    if setting.schedule == "byhand":
        cosine = "0.5 * (1 + math.cos(math.pi * min(1.0, step / STEPS)))"
        parts["schedule_step"] = [f'for group in optimizer.param_groups: group["lr"] = {rate!r} * {cosine}']
    if setting.amp == "scaler":
        parts["criterion"] = ['scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)']
    return {**parts, **_step_parts(setting)}


def _step_parts(setting: Setting) -> dict[str, Lines]:
    scaled = setting.amp == "scaler"
    loss = "(loss / ACCUMULATE)" if setting.accumulate > 1 else "loss"
    zero = {
        "model": "model.zero_grad()",
        "none": "for p in model.parameters(): p.grad = None",
    }.get(setting.zero, "optimizer.zero_grad()")
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"
    return {
        "zero": [zero],
        "backward": [f"scaler.scale({loss}).backward()" if scaled else f"{loss}.backward()"],
        "unscale": ["scaler.unscale_(optimizer)"] if scaled and setting.clip else [],
        "clip": [clip] if setting.clip else [],
        "step": ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"],
        "count": ["step += 1"],
    }


def _keep(setting: Setting) -> Lines:
    if setting.keep == "nothing":
        return []
    best = "best_state = copy.deepcopy(model.state_dict())" if setting.keep == "memory" else SAVE % "best"
    lines = ["if val_loss < best_val_loss:", "    best_val_loss = val_loss", f"    {best}"]
    return [*lines, SAVE % "last"] if setting.keep == "both" else lines


def arranged(script: Script) -> Script:
    """The order in which this setting clears: before each batch, or after each step."""
    setting = script.setting
    if setting.accumulate > 1 or setting.zero == "last":
        script.batch.remove("zero")
        script.step.insert(script.step.index("count"), "zero")
    return script


def under_autocast(setting: Setting, lines: Lines) -> Lines:
    if not setting.amp:
        return lines
    dtype = "float16" if setting.amp == "scaler" else "bfloat16"
    return [f'with torch.autocast("cpu", dtype=torch.{dtype}):', *("    " + line for line in lines)]
