"""Evaluations of several splits, data sets or criteria between two training steps: each has its own right number, or none is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forgemon.chunk import Chunk
from probes.drivers import Driver, Site
from probes.evaluations import Batch, BatchLoss, EvaluationPass
from probes.kept_results import KeptResult
from probes.passes import MOST_OPEN, Passes
from probes.result_names import ResultNames
from probes.transfer import Transfer
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import events, line_of, read, run_script

NANO_GPT = (
    COMMON
    + """
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model
    def forward(self, inputs, targets):
        logits = self.inner(inputs)
        return logits, F.cross_entropy(logits, targets)
whole = Model()
optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
data = {"train": (x[:64], y[:64]), "val": (x[64:], y[64:])}
measured.update(train=[], epochs=[])
split = "test"  # is left over and says nothing of the training
def get_batch(split):
    inputs, targets = data[split]
    chosen = torch.randint(len(inputs), (8,))
    return inputs[chosen], targets[chosen]
@torch.no_grad()
def estimate_loss():
    out = {}
    whole.eval()
    for split in SPLITS:
        losses = torch.zeros(5)
        for k in range(5):
            X, Y = get_batch(split)
            logits, loss = whole(X, Y)
            losses[k] = loss.item()
        out[split] = losses.mean()
    whole.train()
    for name in out:
        measured[name].append(out[name].item())
    return out
for step in range(25):
    if step % 8 == 0:
        losses = estimate_loss()
        print(f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        torch.save(whole.state_dict(), "ckpt.pt")
    X, Y = get_batch("train")
    logits, loss = whole(X, Y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
save()
"""
)


def results(chunk: Chunk) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events(chunk, "evaluation"):
        found.setdefault(event["metric"], []).append(event)
    return found


def values(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {metric: pytest.approx([event["value"] for event in passes], rel=1e-6) for metric, passes in found.items()}


@pytest.mark.parametrize("splits", ["['train', 'val']", "['val', 'train']"])
def test_the_splits_of_nanogpt(tmp_path: Path, splits: str) -> None:
    run_script(NANO_GPT.replace("SPLITS", splits), tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    found = results(chunk)
    assert {"cross_entropy (training data)": own["train"].tolist(), "cross_entropy (val)": own["val"].tolist()} == values(found)
    for passes in found.values():
        assert [(e["step"], e["batches"], e["samples"]) for e in passes] == [(step, 5, 40) for step in (0, 8, 16, 24)]
    saved = [(e["metric"], e["value"], e["evaluation_step"]) for e in events(chunk, "checkpoint")]
    assert saved == [("cross_entropy (val)", e["value"], e["step"]) for e in found["cross_entropy (val)"]]


START = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train_x, train_y, val_x, val_y = x[:64], y[:64], x[64:], y[64:]
measured.update(first=[], second=[])
def step():
    model.train()
    chosen = torch.randint(64, (16,))
    optimizer.zero_grad()
    cross_entropy(model(train_x[chosen]), train_y[chosen]).backward()
    optimizer.step()
def evaluate(inputs, targets):
    SWITCH
    with torch.no_grad():
        total = 0.0
        for begin in range(0, len(inputs), 8):
            total += cross_entropy(model(inputs[begin : begin + 8]), targets[begin : begin + 8]).item() * 8
    BACK
    return total / len(inputs)
def note(first, second):
    measured["first"].append(first); measured["second"].append(second)
"""
)
LOOP = """
for round in range(4):
    for _ in range(3):
        step()
    model.eval()
    EVALUATE
save()
"""
KEPT = """one = evaluate(train_x, train_y)
    two = evaluate(val_x, val_y)
    note(one, two)"""
WRITTEN_IN_PLACE = """with torch.no_grad():
        one = cross_entropy(model(train_x + 0), train_y).item()
        two = cross_entropy(model(val_x + 0), val_y).item()
    note(one, two)"""
AT_ONCE = "note(evaluate(train_x, train_y), evaluate(val_x, val_y))"
APPENDED = "note(evaluate(train_x, train_y), evaluate(val_x, val_y)); history = {'val_losses': measured['second']}"


def script(evaluate: str, switch: bool = False) -> str:
    start = START.replace("SWITCH", "model.eval()" if switch else "pass").replace("BACK", "model.train()" if switch else "pass")
    return start + LOOP.replace("EVALUATE", evaluate)


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize("evaluate", [KEPT, WRITTEN_IN_PLACE])
def test_two_lines_have_a_result_each_and_none_is_taken_for_the_validation_loss(
    tmp_path: Path, evaluate: str, switch: bool
) -> None:
    source = script(evaluate + "\n    torch.save(model.state_dict(), 'last.pt')", switch)
    run_script(source, tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    names = [f"cross_entropy (train.py:{line_of(source, text)})" for text in ("one = ", "two = ")]
    assert {names[0]: own["first"].tolist(), names[1]: own["second"].tolist()} == values(results(chunk))
    assert [e["metric"] for e in events(chunk, "checkpoint")] == [None] * 4


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize("names", ["train_loss val_loss", "losses['train'] losses['val']"])
def test_results_bear_the_names_under_which_the_loop_keeps_them(tmp_path: Path, names: str, switch: bool) -> None:
    one, two = names.split()
    evaluate = "losses = {}\n    " + KEPT.replace("one", one).replace("two", two)
    run_script(script(evaluate + "\n    torch.save(model.state_dict(), 'last.pt')", switch), tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    held_out = f"cross_entropy ({'val' if '[' in two else two})"
    assert {"cross_entropy (training data)": own["first"].tolist(), held_out: own["second"].tolist()} == values(results(chunk))
    assert [e["metric"] for e in events(chunk, "checkpoint")] == [held_out] * 4


def test_two_calls_on_one_line_are_told_apart(tmp_path: Path) -> None:
    source = script(AT_ONCE)
    run_script(source, tmp_path)
    own, name = measured(tmp_path), f"cross_entropy (train.py:{line_of(source, 'note(evaluate')})"
    assert {name: own["first"].tolist(), f"{name} #2": own["second"].tolist()} == values(results(read(tmp_path)))


def test_a_list_that_grows_names_a_result(tmp_path: Path) -> None:
    run_script(script(APPENDED), tmp_path)
    own, found = measured(tmp_path), values(results(read(tmp_path)))
    assert found["cross_entropy (val_losses)"] == own["second"].tolist()


def test_a_split_that_is_evaluated_more_rarely_leaves_the_others_their_name(tmp_path: Path) -> None:
    evaluate = """two = evaluate(val_x, val_y)
    measured["second"].append(two)
    if round == 2:
        measured["first"].append(evaluate(train_x, train_y))"""
    source = script(evaluate)
    run_script(source, tmp_path)
    own, name = measured(tmp_path), f"cross_entropy (train.py:{line_of(source, 'append(evaluate')})"
    assert {"cross_entropy": own["second"].tolist(), name: own["first"].tolist()} == values(results(read(tmp_path)))


@pytest.mark.parametrize("source", ["val_loader", "[(val_x[i : i + 12], val_y[i : i + 12]) for i in (0, 12, 24)]"])
def test_two_criteria_of_a_batch(tmp_path: Path, source: str) -> None:
    body = """with torch.no_grad():
        one = two = three = 0.0
        for inputs, targets in SOURCE:
            outputs = model(inputs)
            one += cross_entropy(outputs, targets).item() * len(targets) / 32
            two += F.mse_loss(outputs[:4], F.one_hot(targets[:4], 3).float()).item() / 3
    note(one, two)""".replace("SOURCE", source)
    run_script(script(body), tmp_path)
    own, found = measured(tmp_path), results(read(tmp_path))
    assert {"cross_entropy": own["first"].tolist(), "mse_loss": own["second"].tolist()} == values(found)
    assert [(e["batches"], e["samples"]) for e in found["cross_entropy"]] == [(3, 32)] * 4
    assert [(e["batches"], e["samples"]) for e in found["mse_loss"]] == [(3, 12)] * 4


@pytest.mark.parametrize("source", ["val_loader", "[(val_x[i : i + 12], val_y[i : i + 12]) for i in (0, 12, 24)]"])
def test_one_criterion_on_two_lines_of_a_batch(tmp_path: Path, source: str) -> None:
    body = """with torch.no_grad():
        one = two = 0.0
        for inputs, targets in SOURCE:
            outputs = model(inputs)
            one += cross_entropy(outputs, targets).item() * len(targets) / 32
            two += cross_entropy(outputs.flip(1), targets).item() * len(targets) / 32
    note(one, two)""".replace("SOURCE", source)
    text = script(body)
    run_script(text, tmp_path)
    own, found = measured(tmp_path), results(read(tmp_path))
    names = [f"cross_entropy (train.py:{line_of(text, part)})" for part in ("one += ", "two += ")]
    assert {names[0]: own["first"].tolist(), names[1]: own["second"].tolist()} == values(found)
    assert [(e["batches"], e["samples"]) for passes in found.values() for e in passes] == [(3, 32)] * 8


def test_one_criterion_on_the_lines_of_two_branches_is_one_result(tmp_path: Path) -> None:
    body = """with torch.no_grad():
        one = 0.0
        for inputs, targets in val_loader:
            if len(inputs) == 12:
                one += cross_entropy(model(inputs), targets).item() * len(targets) / 32
            else:
                one += cross_entropy(model(inputs), targets).item() * len(targets) / 32
    note(one, one)"""
    run_script(script(body), tmp_path)
    assert {"cross_entropy": measured(tmp_path)["first"].tolist()} == values(results(read(tmp_path)))


def test_what_is_summed_is_let_go_of_without_a_collection(tmp_path: Path) -> None:
    body = """with torch.no_grad():
        for inputs, targets in [(val_x, val_y), (val_x + 0, val_y)]:
            outputs = model(inputs)
            cross_entropy(outputs, targets); F.mse_loss(outputs, outputs)"""
    start = "import gc\nprobes = sys.modules['_forgemon_probes.evaluations']\n"
    end = """
step()
gc.collect()
gc.disable()
for round in range(4):
    model.eval()
    EVALUATE
    step()
step()
left = [one for one in gc.get_objects() if type(one) in (probes.EvaluationPass, probes.Batch)]
assert len(left) <= 2, left
""".replace("EVALUATE", body)
    run_script(script(body) + start + end, tmp_path)


def _batch(loader: int | None, instruction: int = 0) -> Batch:
    batch = Batch(0.0)
    batch.loader, batch.is_fetched = loader, loader is not None
    driver = Driver((Site(("train.py", "evaluate", 1), instruction, 2),))
    batch.losses.append(BatchLoss("mse_loss", torch.tensor(1.0), "mean", 4, driver))
    return batch


class _Told:
    def __init__(self) -> None:
        self.results = 0

    def evaluations_ended(self, results: list[EvaluationPass]) -> None:
        self.results += len(results)

    def evaluated(self, finished: EvaluationPass, value: float) -> None: ...

    def evaluation_batch(self, batch: Batch) -> None: ...

    def step_now(self) -> int:
        return 0


def test_a_program_that_evaluates_and_never_trains_is_told_of_its_results() -> None:
    listener: Any = _Told()
    passes = Passes(listener, Transfer())
    for loader in range(5 * MOST_OPEN):
        passes.add(_batch(loader))
        passes.finish()
    assert listener.results >= 4 * MOST_OPEN


def test_what_the_loop_kept_is_forgotten_with_its_step_though_no_value_came() -> None:
    names = ResultNames()
    results = [EvaluationPass(_batch(None, instruction), 0) for instruction in (0, 2)]
    sizes = []
    for _ in range(3):
        names.tell_apart(results, lambda result: False, lambda: [KeptResult("val_loss", 1.0)])
        sizes.append(len(names._group.kept))
        names.stepped()
    assert sizes == [1, 1, 1]
