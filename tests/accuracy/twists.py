"""Healthy loops that look like faulty ones, or are unusual in another way."""

from __future__ import annotations

from collections.abc import Callable

from tests.accuracy.script import Script


def fine_tuning(script: Script) -> None:
    """From weights that another run has brought to a low loss, on other samples of the same kind."""
    script.parts["data"] = [*script.parts["data"], "train_x, train_y = draw(SAMPLES)"]
    script.parts["pretrained"] = ['model.load_state_dict(torch.load("pretrained.pt"))']


def curriculum(script: Script) -> None:
    """Harder samples from a certain step on."""
    script.parts["prepare"] = ["if step >= 200:", "    x = x + 0.7 * torch.randn_like(x)"]


def frozen_norm(script: Script) -> None:
    """BatchNorm stays in evaluation mode while the rest trains, on purpose."""
    frozen = "for m in model.modules(): m.eval() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) else None"
    for part in ("train_mode", "train_mode_again"):
        script.parts[part] = [*script.parts[part], frozen]


def frozen_layer(script: Script) -> None:
    """A part of the model is left as it is on purpose."""
    script.parts["pretrained"] = ["next(iter(model.parameters())).requires_grad_(False)"]


def monte_carlo_dropout(script: Script) -> None:
    """Dropout stays on in validation, on purpose."""
    again = "for m in model.modules(): m.train() if isinstance(m, nn.Dropout) else None"
    script.parts["eval_mode"] = [*script.parts["eval_mode"], again]


def adversarial_evaluation(script: Script) -> None:
    """Validation on inputs moved along their gradient."""
    attack = ["x = x.clone().requires_grad_(True)", *script.parts["eval_step"][:1]]
    attack += ["x = (x + 0.05 * torch.autograd.grad(F.cross_entropy(output, y), x)[0].sign()).detach()"]
    script.parts["no_grad"] = []
    script.parts["eval_step"] = [*attack, "with torch.no_grad():", *("    " + line for line in script.parts["eval_step"])]


def loss_window(script: Script) -> None:
    """The newest losses are kept with their graphs, a bounded number of them."""
    script.parts["before"] = ["recent = collections.deque(maxlen=20)"]
    script.parts["count"] = [*script.parts["count"], "recent.append(loss)"]


def log_softmax(script: Script) -> None:
    """Log-probabilities into cross_entropy: harmless."""
    script.replace("forward", "output = model(x)", "output = F.log_softmax(model(x), 1)")
    script.replace("eval_step", "output = model(x)", "output = F.log_softmax(model(x), 1)")


def train_accuracy(script: Script) -> None:
    """The training data are gone through once more in evaluation mode, beside a validation set of its own."""
    script.parts["eval_mode"] = [
        *script.parts["eval_mode"],
        "with torch.no_grad():",
        '    print("train", sum(F.cross_entropy(model(a), b).item() for a, b in zip(train_x.split(256), train_y.split(256))))',
    ]


def penalty(script: Script) -> None:
    """A penalty beside the loss."""
    added = "loss = loss + 1e-4 * sum(p.square().sum() for p in model.parameters())"
    script.parts["backward"] = [added, *script.parts["backward"]]


def moving_average(script: Script) -> None:
    """A copy of the model follows it and is what counts."""
    script.parts["pretrained"] = ["average = copy.deepcopy(model).requires_grad_(False)"]
    script.parts["count"] = [
        *script.parts["count"],
        "for a, p in zip(average.parameters(), model.parameters()): a.lerp_(p.detach(), 0.05)",
    ]


def nothing(script: Script) -> None:
    """Only the setting differs."""


TWISTS: dict[str, Callable[[Script], None]] = {
    "": nothing,
    "label noise": nothing,
    "class-sorted": nothing,
    "edge of stability": nothing,
    "fine-tuning": fine_tuning,
    "curriculum": curriculum,
    "frozen norm": frozen_norm,
    "frozen layer": frozen_layer,
    "mc-dropout": monte_carlo_dropout,
    "adversarial evaluation": adversarial_evaluation,
    "loss window": loss_window,
    "log_softmax": log_softmax,
    "train accuracy": train_accuracy,
    "penalty": penalty,
    "moving average": moving_average,
}


def twisted(script: Script) -> Script:
    """Those of two networks against each other are that family's own."""
    if script.setting.family != "gan" or script.setting.twist == "loss window":
        TWISTS[script.setting.twist](script)
    return script
