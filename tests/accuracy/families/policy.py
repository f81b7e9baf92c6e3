"""Reinforcement learning: a policy gradient on a task of one decision, with or without a learned baseline."""

from __future__ import annotations

from tests.accuracy.families.classifiers import module
from tests.accuracy.loop_parts import optimizer_parts
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting


def policy(setting: Setting) -> Script:
    init = ["super().__init__()", "self.body = nn.Sequential(nn.Linear(6, 48), nn.Tanh())"]
    init += ["self.action, self.value = nn.Linear(48, 4), nn.Linear(48, 1)"]
    forward = ["x = self.body(x)", "return self.action(x), self.value(x)[:, 0]"]
    learned = setting.loss != "hand"
    advantage = "reward - value.detach()" if learned else "reward - reward.mean()"
    value_loss = " + 0.5 * F.mse_loss(value, reward)" if learned else " + 0.0 * value.sum()"
    parts = {
        "data": ["best_action = torch.randn(6, 4)"],
        "model": module("Policy", init, "x", forward),
        "batches": ["for step_index in range(STEPS):", "x = torch.randn(BATCH, 6)"],
        "forward": [
            "logits, value = model(x)",
            "choice = torch.distributions.Categorical(logits=logits)",
            "action = choice.sample()",
            "reward = (action == (x @ best_action).argmax(1)).float() + 0.1 * torch.randn(BATCH)",
            f"loss = -(choice.log_prob(action) * ({advantage})).mean(){value_loss} - 0.01 * choice.entropy().mean()",
        ],
        "report": ["print('score', -reward.mean().item())"],
    }
    return Script(setting, {**optimizer_parts(setting), **parts})
