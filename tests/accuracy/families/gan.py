"""Two networks against each other: points on a ring, with one optimizer each."""

from __future__ import annotations

from tests.accuracy.loop_parts import OPTIMIZERS, under_autocast
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting, learning_rate

NETWORKS = [
    "def network(inputs, outputs):",
    "    return nn.Sequential(nn.Linear(inputs, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, outputs))",
    "model, generator = network(2, 1), network(4, 2)",
]


def gan(setting: Setting) -> Script:
    rate = learning_rate(setting)
    # Two players turn around each other with the usual momentum.
    made = OPTIMIZERS[setting.optimizer].replace("momentum=0.9", "momentum=0.5")
    if setting.optimizer.startswith("adam"):
        made = made.replace("lr={lr}", "lr={lr}, betas=(0.5, 0.9)")
    optimizers = [
        "optimizer = " + made.format(parameters="model.parameters()", lr=rate),
        "g_optimizer = " + made.format(parameters="generator.parameters()", lr=rate),
    ]
    if setting.loss == "hand":
        d_loss = "F.softplus(-model(x)).mean() + F.softplus(model(fake.detach())).mean()"
        g_loss = "F.softplus(-model(fake)).mean()"
    else:
        d_loss = "bce(model(x), torch.ones(BATCH, 1)) + bce(model(fake.detach()), torch.zeros(BATCH, 1))"
        g_loss = "bce(model(fake), torch.ones(BATCH, 1))"
    clip = ["torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"] if setting.clip else []
    parts = {
        "data": [
            "def draw(count):",
            "    angle = 6.28 * torch.rand(count)",
            "    return torch.stack([angle.cos() + 2, angle.sin()], 1) + 0.05 * torch.randn(count, 2)",
            "bce = F.binary_cross_entropy_with_logits",
        ],
        "model": NETWORKS,
        "optimizer": optimizers,
        "batches": ["for step_index in range(STEPS):", "x = draw(BATCH)", "fake = generator(torch.randn(BATCH, 4))"],
        "zero": ["optimizer.zero_grad()"],
        "forward": under_autocast(setting, [f"loss = {d_loss}"]),
        "backward": ["loss.backward()"],
        "clip": clip,
        "step": ["optimizer.step()"],
        "generator": ["g_optimizer.zero_grad()", f"g_loss = {g_loss}", "g_loss.backward()", "g_optimizer.step()"],
        "count": ["step += 1"],
        "criterion": [
            "def score(points):",
            "    return (points.detach() - torch.tensor([2.0, 0.0])).norm(dim=1).sub(1).abs().mean().item()",
            "print('score', score(generator(torch.randn(200, 4))))",
        ],
        "report": ["print('score', score(fake))"],
    }
    script = Script(setting, parts)
    script.step.insert(script.step.index("count"), "generator")
    return script
