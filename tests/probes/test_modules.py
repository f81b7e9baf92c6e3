"""The probes read a model's parts as torch does, and call nothing that the model has overridden."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from probes import modules
from tests.probes.watched import column, events, read, run_fresh


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.register_parameter("absent", None)
        self.register_module("nothing", None)
        self.register_buffer("none", None)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))])
        self.named = nn.ParameterDict({"b": nn.Parameter(torch.ones(1)), "a": nn.Parameter(torch.ones(1))})
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.zeros(1))
        self.again = nn.BatchNorm1d(4)
        self.again.running_var = self.again.running_mean


def shared() -> nn.Module:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer, nn.Linear(2, 2)), layer)


def a_ring() -> nn.Module:
    outer, inner = nn.Sequential(nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))
    outer.add_module("inner", inner)
    inner.add_module("outer", outer)
    return outer


def parametrized() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    torch.nn.utils.parametrizations.weight_norm(model[0])
    torch.nn.utils.parametrizations.spectral_norm(model[1])
    return model


def reordered() -> nn.Module:
    """As some libraries keep them, whose dictionaries know an order of their own."""
    model = nn.Sequential()
    kept = OrderedDict[str, nn.Module](a=nn.Linear(1, 1), b=nn.Linear(2, 2))
    kept.move_to_end("a")
    model._modules = kept
    return model


def compiled() -> nn.Module:
    return cast(nn.Module, torch.compile(Tied(), backend="eager"))


MODELS: list[Callable[[], nn.Module]] = [
    Tied,
    shared,
    a_ring,
    parametrized,
    reordered,
    nn.Identity,
    lambda: nn.Transformer(8, 2, 2, 2, 16),
    lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    lambda: nn.ModuleDict({"x": nn.ModuleList([Tied(), Tied()]), "y": shared()}),
    lambda: nn.LazyLinear(3),
    lambda: nn.DataParallel(Tied()),
    compiled,
]


def same(one: list[tuple[str, object]], other: list[tuple[str, object]]) -> bool:
    return [(name, id(thing)) for name, thing in one] == [(name, id(thing)) for name, thing in other]


@pytest.mark.parametrize("build", MODELS)
def test_a_models_parts_are_those_that_torch_names(build: Callable[[], nn.Module]) -> None:
    model = build()
    assert same([*modules.named_modules(model)], [*model.named_modules()])
    assert same([*modules.named_parameters(model)], [*model.named_parameters()])
    assert [*map(id, modules.parameters(model))] == [*map(id, model.parameters())]
    assert [*map(id, modules.buffers(model))] == [*map(id, model.buffers())]
    assert {id(child) for _, child in modules.children(model)} == {*map(id, model.children())}


def test_a_scripted_models_parts_are_those_that_torch_names() -> None:
    with pytest.warns(DeprecationWarning):
        model = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    assert same([*modules.named_modules(model)], [*model.named_modules()])
    assert same([*modules.named_parameters(model)], [*model.named_parameters()])
    assert len([*modules.buffers(model)]) == 3


def test_a_module_that_is_only_being_built_has_no_parts() -> None:
    half_built = nn.Module.__new__(nn.Module)
    assert [*modules.named_modules(half_built)] == [("", half_built)]
    assert [*modules.parameters(half_built)] == []


class Proud(nn.Linear):
    """Says no to whoever asks."""

    def _refuse(self, *_: object, **__: object) -> None:
        raise AssertionError("asked")

    parameters = named_parameters = modules = named_modules = buffers = named_buffers = _refuse  # type: ignore[assignment]
    children = named_children = state_dict = __hash__ = __eq__ = __len__ = __bool__ = _refuse  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(name)


def test_nothing_of_a_models_own_is_asked() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    proud = Proud.__new__(Proud)
    object.__setattr__(proud, "__dict__", nn.Linear(2, 1).__dict__)
    model._modules["proud"] = proud
    model._modules["again"] = proud
    assert [name for name, _ in modules.named_modules(model)] == ["", "0", "proud"]
    assert [name for name, _ in modules.named_parameters(model)] == ["0.weight", "0.bias", "proud.weight", "proud.bias"]


OVERRIDDEN = """
import torch, torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
METHODS = ("parameters named_parameters modules named_modules buffers named_buffers children named_children state_dict "
    "_named_members get_parameter get_submodule").split()
def counting(kind):
    calls = dict.fromkeys(METHODS, 0)
    def override(name):
        def method(self, *args, **kwargs):
            calls[name] += 1
            print(kind.__name__, name, calls[name])
            return getattr(kind, name)(self, *args, **kwargs)
        return method
    def __getattr__(self, name):
        print(kind.__name__, "lacks", name)
        return kind.__getattr__(self, name)
    members = {name: override(name) for name in METHODS if hasattr(kind, name)}
    return type("Counting" + kind.__name__, (kind,), {**members, "__getattr__": __getattr__})
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = counting(torch.nn.Linear)(4, 8)
        self.norm = counting(torch.nn.BatchNorm1d)(8)
        self.drop = torch.nn.Dropout(0.1)
        self.head = counting(torch.nn.Linear)(8, 3)
        self.soft = torch.nn.Softmax(1)
    def forward(self, x):
        return self.soft(self.head(self.drop(self.norm(self.body(x)).relu())))
Counting = counting(Net)
torch.manual_seed(0)
x, y = torch.randn(96, 4), torch.randint(0, 3, (96,))
train, val = DataLoader(TensorDataset(x[:64], y[:64]), 16), DataLoader(TensorDataset(x[64:], y[64:]), 16)
model, other = Counting(), Counting()
optimizer = torch.optim.SGD(list(torch.nn.Module.parameters(model)), lr=0.1)
for epoch in range(4):
    model.train()
    for step, (a, b) in enumerate(train):
        torch.nn.Module.zero_grad(model)
        loss = F.cross_entropy(model(a * (float("nan") if epoch == 3 and step > 2 else 1)), b)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        total = sum(F.cross_entropy(model(a), b).item() for a, b in val)
    print("epoch", epoch, total)
    torch.save({"model": dict(model.body._parameters), "epoch": epoch}, "weights.pt")
    torch.save({"whole": torch.nn.Linear(2, 2), "epoch": epoch}, "whole.pt")
"""


def test_what_a_model_overrides_is_called_no_more_often_than_unwatched(tmp_path: Path) -> None:
    plain = run_fresh(OVERRIDDEN, tmp_path, watched=False)
    watched = run_fresh(OVERRIDDEN, tmp_path)
    assert watched.stdout == plain.stdout and watched.stderr == plain.stderr
    assert "CountingNet" not in plain.stdout and "Net named_modules" in plain.stdout  # torch's own zero_grad asks
    chunk = read(tmp_path)
    assert list(column(chunk, "step")) == list(range(1, 17))
    assert chunk.gradients[0].table.names[0] == "CountingNet.body.weight"  # found and named all the same
    assert {event["fact"] for event in events(chunk, "fact")} >= {"softmax-before-cross-entropy"}
    assert events(chunk, "nonfinite")
