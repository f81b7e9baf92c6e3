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
    d_loss, g_loss = _losses(setting)
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
    _twist(script)
    return script


def _losses(setting: Setting) -> tuple[str, str]:
    """Of the critic, and of the generator."""
    if setting.twist == "hinge loss":
        return "F.relu(1 - model(x)).mean() + F.relu(1 + model(fake.detach())).mean()", "-model(fake).mean()"
    if setting.loss == "hand":
        return "F.softplus(-model(x)).mean() + F.softplus(model(fake.detach())).mean()", "F.softplus(-model(fake)).mean()"
    real = "torch.full((BATCH, 1), 0.9)" if setting.twist == "soft labels" else "torch.ones(BATCH, 1)"
    d_loss = f"bce(model(x), {real}) + bce(model(fake.detach()), torch.zeros(BATCH, 1))"
    return d_loss, "bce(model(fake), torch.ones(BATCH, 1))"


def _twist(script: Script) -> None:
    """What is usual with two networks alone."""
    parts, twist = script.parts, script.setting.twist
    if twist == "more critic":
        parts["generator"] = ["if step % 3 == 2:", *("    " + line for line in parts["generator"])]
    elif twist == "gradient penalty":  # R1: of the critic's gradient at the real samples
        parts["prepare"] = ["x.requires_grad_(True)"]
        slope = "slope, = torch.autograd.grad(model(x).sum(), x, create_graph=True)"
        parts["backward"] = [slope, "loss = loss + 0.5 * slope.square().sum(1).mean()", *parts["backward"]]
    elif twist == "spectral norm":
        lines = "model = nn.Sequential(*(nn.utils.parametrizations.spectral_norm(m) if isinstance(m, nn.Linear) else m for m in model))"
        parts["model"] = [*parts["model"], lines]
    elif twist == "moving average":
        parts["pretrained"] = ["average = copy.deepcopy(generator).requires_grad_(False)"]
        follow = "for a, p in zip(average.parameters(), generator.parameters()): a.lerp_(p.detach(), 0.05)"
        parts["count"] = [*parts["count"], follow]
