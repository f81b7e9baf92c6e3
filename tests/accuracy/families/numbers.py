"""A function with noise to fit, and a variational autoencoder of binary patterns."""

from __future__ import annotations

from tests.accuracy.families.classifiers import module
from tests.accuracy.families.supervised import SQUARED, supervised
from tests.accuracy.loop_parts import arranged, common_parts, under_autocast
from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting


def regression(setting: Setting) -> Script:
    noise = "1.0" if setting.twist == "label noise" else "0.2"
    draw = [
        "truth = torch.randn(8, 3)",
        "def draw(count):",
        "    x = torch.randn(count, 8)",
        "    z = x @ truth / 3",
        f"    return x, torch.sin(z[:, :1]) + z[:, 1:2] + 0.3 * z[:, 2:] ** 2 + {noise} * torch.randn(count, 1)",
    ]
    layers: Lines = []
    for size in ("8, 48", "48, 48"):
        layers += [f"nn.Linear({size})", *(["nn.BatchNorm1d(48)"] if setting.norm else []), "nn.Tanh()"]
        layers += ["nn.Dropout(0.1)"] if setting.dropout else []
    model = [f"model = nn.Sequential({', '.join([*layers, 'nn.Linear(48, 1)'])})"]
    return supervised(setting, draw, model, SQUARED)


def vae(setting: Setting) -> Script:
    draw = [
        "mixing = 2 * torch.randn(4, 24)",
        "def draw(count):",
        "    x = torch.bernoulli(torch.sigmoid(torch.randn(count, 4) @ mixing))",
        "    return x, x",
    ]
    norm = "nn.BatchNorm1d(48), " if setting.norm else ""
    drop = ", nn.Dropout(0.1)" if setting.dropout else ""
    init = ["super().__init__()", f"self.encoder = nn.Sequential(nn.Linear(24, 48), {norm}nn.ReLU(){drop}, nn.Linear(48, 8))"]
    init += ["self.decoder = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 24))"]
    forward = [
        "mean, log_variance = self.encoder(x).chunk(2, -1)",
        "z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)",
        "return self.decoder(z), mean, log_variance",
    ]
    match = "F.binary_cross_entropy_with_logits(output, y, reduction='sum')"
    if setting.loss == "hand":
        match = "(F.softplus(output) - y * output).sum()"
    lines = [
        "output, mean, log_variance = model(x)",
        "divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()",
        f"loss = ({match} + divergence) / len(x)",
    ]
    parts = common_parts(setting)
    evaluated = [*lines[:2], lines[2].replace("loss = ", "elbo = "), "total += elbo.item() * len(x)", "count += len(x)"]
    data = [*draw, "train_x, train_y = draw(SAMPLES)", "val_x, val_y = draw(512)"]
    model = module("Autoencoder", init, "x", forward)
    parts |= {"data": data, "model": model, "forward": under_autocast(setting, lines), "eval_step": evaluated}
    return arranged(Script(setting, parts))
