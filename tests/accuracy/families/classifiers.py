"""Points and small images in classes that overlap."""

from __future__ import annotations

from tests.accuracy.families.supervised import CROSS_ENTROPY, supervised
from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting

NOISY_LABELS = "y = torch.where(torch.rand(count) < 0.4, torch.randint(8, (count,)), y)"


def mlp(setting: Setting) -> Script:
    noisy = [f"    {NOISY_LABELS}"] if setting.twist == "label noise" else []
    draw = [
        "centres = 0.8 * torch.randn(8, 16)",
        "def draw(count):",
        "    y = torch.randint(8, (count,))",
        "    x = centres[y] + torch.randn(count, 16)",
        *noisy,
        "    return x, y",
    ]
    layers: Lines = []
    for size in ("16, 64", "64, 64"):
        layers += [f"nn.Linear({size})", *(["nn.BatchNorm1d(64)"] if setting.norm else []), "nn.ReLU()"]
        layers += ["nn.Dropout(0.2)"] if setting.dropout else []
    model = ["model = nn.Sequential(", *(f"    {layer}," for layer in layers), "    nn.Linear(64, 8),", ")"]
    return supervised(setting, draw, model, CROSS_ENTROPY)


def cnn(setting: Setting) -> Script:
    noisy = [f"    {NOISY_LABELS}"] if setting.twist == "label noise" else []
    draw = [
        "templates = F.avg_pool2d(torch.randn(8, 1, 12, 12), 3, stride=1)",
        "def draw(count):",
        "    y = torch.randint(8, (count,))",
        "    x = 3 * templates[y] + torch.randn(count, 1, 10, 10)",
        *noisy,
        "    return x, y",
    ]
    norm = [[f"self.norm{i} = nn.BatchNorm2d({8 * i})"] if setting.norm else [] for i in (1, 2)]
    normed = [f"self.norm{i}(self.conv{i}(%s))" if setting.norm else f"self.conv{i}(%s)" for i in (1, 2)]
    drop = ["self.drop = nn.Dropout(0.2)"] if setting.dropout else []
    init = ["super().__init__()", "self.conv1 = nn.Conv2d(1, 8, 3, padding=1)", *norm[0]]
    init += ["self.conv2 = nn.Conv2d(8, 16, 3, padding=1)", *norm[1], *drop, "self.head = nn.Linear(16 * 4, 8)"]
    forward = [
        f"x = F.max_pool2d(F.relu({normed[0] % 'x'}), 2)",
        f"x = F.max_pool2d(F.relu({normed[1] % 'x'}), 2).flatten(1)",
        "return self.head(self.drop(x))" if setting.dropout else "return self.head(x)",
    ]
    return supervised(setting, draw, module("Net", init, "x", forward), CROSS_ENTROPY)


def module(name: str, init: Lines, arguments: str, forward: Lines, last: str | None = None) -> Lines:
    """The lines of a class and of the model made of it."""
    return [
        f"class {name}(nn.Module):",
        "    def __init__(self):",
        *("        " + line for line in init),
        f"    def forward(self, {arguments}):",
        *("        " + line for line in forward),
        last or f"model = {name}()",
    ]
