"""A small causal transformer on a Markov chain, and an LSTM that says how a noisy wave goes on."""

from __future__ import annotations

from tests.accuracy.families.classifiers import module
from tests.accuracy.families.supervised import SQUARED, Loss, supervised
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting

TOKENS = Loss(
    "F.cross_entropy",
    "nn.CrossEntropyLoss()",
    "-F.log_softmax(output, -1).gather(-1, y[..., None]).mean()",
    "output.flatten(0, 1)",
    "y.flatten()",
)


def transformer(setting: Setting) -> Script:
    noisy = ["    tokens = torch.where(torch.rand(count, 17) < 0.3, torch.randint(12, (count, 17)), tokens)"]
    draw = [
        "chain = torch.softmax(3 * torch.randn(12, 12), 1)",
        "def draw(count):",
        "    tokens = torch.randint(12, (count, 17))",
        "    for i in range(16):",
        "        tokens[:, i + 1] = torch.multinomial(chain[tokens[:, i]], 1)[:, 0]",
        *(noisy if setting.twist == "label noise" else []),
        "    return tokens[:, :-1], tokens[:, 1:]",
    ]
    drop = ["self.drop = nn.Dropout(0.1)"] if setting.dropout else []
    dropped = "self.drop(%s)" if setting.dropout else "%s"
    init = ["super().__init__()", "self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)"]
    init += ["self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)"]
    init += ["self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))", *drop]
    forward = [
        "q, k, v = (part.view(*x.shape[:2], 2, 16).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))",
        "seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)",
        f"x = x + {dropped % 'self.out(seen)'}",
        f"return x + {dropped % 'self.mlp(self.norm2(x))'}",
    ]
    block = module("Block", init, "x", forward)[:-1]
    init = ["super().__init__()", "self.token, self.place = nn.Embedding(12, 32), nn.Embedding(16, 32)"]
    init += ["self.blocks = nn.Sequential(Block(), Block())", "self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 12)"]
    forward = ["x = self.token(x) + self.place(torch.arange(x.shape[1]))", "return self.head(self.norm(self.blocks(x)))"]
    return supervised(setting, draw, [*block, *module("LanguageModel", init, "x", forward)], TOKENS)


def lstm(setting: Setting) -> Script:
    noise = "0.5" if setting.twist == "label noise" else "0.1"
    draw = [
        "def draw(count):",
        "    rate, phase = 0.2 + 0.5 * torch.rand(count, 1), 6.28 * torch.rand(count, 1)",
        f"    wave = torch.sin(rate * torch.arange(17) + phase) + {noise} * torch.randn(count, 17)",
        "    return wave[:, :-1, None], wave[:, 1:, None]",
    ]
    drop = ["self.drop = nn.Dropout(0.1)"] if setting.dropout else []
    norm = ["self.norm = nn.LayerNorm(24)"] if setting.norm else []
    init = ["super().__init__()", "self.lstm = nn.LSTM(1, 24, batch_first=True)", *norm, *drop, "self.head = nn.Linear(24, 1)"]
    state = "self.norm(states)" if setting.norm else "states"
    forward = ["states, _ = self.lstm(x)"]
    forward += [f"return self.head(self.drop({state}))" if setting.dropout else f"return self.head({state})"]
    return supervised(setting, draw, module("Forecaster", init, "x", forward), SQUARED)
