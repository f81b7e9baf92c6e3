"""A GPT, written plainly: token and position embeddings, pre-norm blocks, the output tied to the token embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Causal self-attention, then a layer-wise MLP, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        texts, length, width = seen.shape
        split = self.queries_keys_values(self.before_attention(seen)).view(texts, length, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        seen = seen + self.attention_out(attended.transpose(1, 2).reshape(texts, length, width))
        thought: torch.Tensor = self.mlp(self.before_mlp(seen))
        return seen + thought


class GPT(nn.Module):
    """With vocabulary 50257, length 1024, width 768, 12 heads and 12 layers: 124,439,808 parameters, as GPT-2's smallest."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        seen = self.tokens(text) + self.positions.weight[: text.shape[1]]
        return F.linear(self.norm(self.blocks(seen)), self.tokens.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
