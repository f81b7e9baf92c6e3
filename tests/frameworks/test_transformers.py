"""A Trainer of transformers, unmodified: a small BERT from a configuration, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frameworks.both import Runs, run_all
from tests.probes.watched import column, events

SOURCE = """
import os
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, logging
logging.set_verbosity_error()
torch.manual_seed(0)
ids, labels = torch.randint(0, 50, (48, 12)), torch.randint(0, 3, (48,))
measured = {"norms": [], "val": [], "loss": []}

class Sentences(torch.utils.data.Dataset):
    def __init__(self, first, last):
        self.first, self.last = first, last
    def __len__(self):
        return self.last - self.first
    def __getitem__(self, index):
        return {"input_ids": ids[self.first + index], "labels": labels[self.first + index]}

class Notes(TrainerCallback):
    def on_pre_optimizer_step(self, arguments, state, control, model, **more):
        measured["norms"].append([p.grad.norm().item() for p in model.parameters()])
    def on_evaluate(self, arguments, state, control, metrics, **more):
        measured["val"].append(metrics["eval_loss"])
    def on_log(self, arguments, state, control, logs, **more):
        if "loss" in logs:
            measured["loss"].append(logs["loss"])

model = BertForSequenceClassification(BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16,
    num_labels=3,
))
arguments = TrainingArguments(
    "kept", num_train_epochs=3, per_device_train_batch_size=8, per_device_eval_batch_size=8, weight_decay=0.01,
    learning_rate=1e-3, max_grad_norm=0.2, eval_strategy="epoch", save_strategy="epoch", logging_steps=1, use_cpu=True,
    report_to=[], seed=0, disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=Sentences(0, 32), eval_dataset=Sentences(32, 48), callbacks=[Notes()])
names = [name for name, _ in model.named_parameters()]
trainer.train()
json.dump({**measured, "names": names}, open("measured.json", "w"))
print("measured:", digest(model.state_dict()), measured)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_all(SOURCE, tmp_path_factory.mktemp("transformers"))


def test_the_run_is_the_same_watched_or_not(runs: Runs) -> None:
    # What the Trainer prints by itself has run times in it.
    plain, every, default = [[line for line in text.splitlines() if "measured:" in line] for text in runs.printed]
    assert plain == every == default != []


def test_steps(runs: Runs) -> None:
    chunk = runs.chunk
    assert column(chunk, "step").tolist() == list(range(1, 13))
    assert column(chunk, "loss") == pytest.approx(runs.own["loss"], abs=1e-4)  # the Trainer rounds what it logs
    assert (column(chunk, "micro_batches") == 1).all()
    (gradients,) = chunk.gradients
    assert sorted(gradients.table.names) == sorted(runs.own["names"])
    order = [gradients.table.names.index(name) for name in runs.own["names"]]
    assert gradients.rows["norm"][:, order] == pytest.approx(np.array(runs.own["norms"]), rel=1e-4, abs=1e-9)
    assert np.isfinite(column(chunk, "gradient_norm_before_clip")).all()
    assert (column(chunk, "training") == 1).all() and (column(chunk, "gradients_reused")[1:] == 0).all()


def test_modes_and_epochs(runs: Runs) -> None:
    train = runs.line("trainer.train()")
    assert {e["where"]["line"] for e in runs.events("mode")} == {train}
    assert [e["training"] for e in runs.events("mode")][:2] == [False, True]
    assert [e["epoch"] for e in runs.events("epoch")] == [1, 2]
    assert runs.events("fact") == []


def test_validation_and_batch_size(runs: Runs) -> None:
    evaluations = runs.events("evaluation")
    assert [e["step"] for e in evaluations] == [4, 8, 12]
    assert [e["value"] for e in evaluations] == pytest.approx(runs.own["val"], rel=1e-5)
    assert all(e["training"] is False and e["grad_enabled"] is False and e["samples"] == 16 for e in evaluations)
    assert (column(runs.chunk, "batch_size") == 8).all()


def test_checkpoints_of_several_files(runs: Runs) -> None:
    saved = [e for e in runs.events("checkpoint") if e["step"] == 4]
    assert {Path(e["path"]).parent for e in saved} == {runs.folder / "kept" / "checkpoint-4"}
    found = {Path(e["path"]).name: (e["has_weights"], e["has_optimizer"]) for e in saved}
    assert found["model.safetensors"] == (True, False) and found["optimizer.pt"] == (False, True)
    (state,) = [e for e in saved if e["path"].endswith("trainer_state.json")]
    assert state["scalars"]["global_step"] == 4 and state["scalars"]["epoch"] == 1
    assert {e["where"]["line"] for e in saved} == {runs.line("trainer.train()")}
    assert {e["step"] for e in runs.events("checkpoint")} == {4, 8, 12}


def test_with_the_default_budget(runs: Runs) -> None:
    steps, losses = column(runs.default, "step"), column(runs.default, "loss")
    seen = np.isfinite(losses)
    assert seen.any() and losses[seen] == pytest.approx(np.array(runs.own["loss"])[steps[seen] - 1], abs=1e-4)
    assert len(events(runs.default, "checkpoint")) == len(runs.events("checkpoint"))


SIZES = "n_embd=16, n_layer=2, n_head=2, n_positions=16,"
LABELS = """torch.manual_seed(0)
ids_and_labels = torch.randint(0, 50, (48, 12))
ids_and_labels = ids_and_labels, ids_and_labels.where(torch.arange(12) < 6 + torch.arange(48)[:, None] % 7, -100)"""
ACCUMULATES = (
    SOURCE.replace("BertForSequenceClassification(BertConfig(", "GPT2LMHeadModel(GPT2Config(")
    .replace("import BertConfig, BertForSequenceClassification", "import GPT2Config, GPT2LMHeadModel")
    .replace(
        "hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16,", SIZES
    )
    .replace("num_labels=3,", "")
    .replace("labels = torch.randint(0, 50, (48, 12)), torch.randint(0, 3, (48,))", "labels = ids_and_labels")
    .replace("torch.manual_seed(0)", LABELS)
    .replace("per_device_train_batch_size=8", "per_device_train_batch_size=4, gradient_accumulation_steps=3")
)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_all(ACCUMULATES, tmp_path_factory.mktemp("language"))


def test_the_loss_of_a_language_model_that_accumulates_is_what_the_trainer_logs(language: Runs) -> None:
    assert set(column(language.chunk, "micro_batches")) == {2.0, 3.0}
    assert column(language.chunk, "loss") == pytest.approx(language.own["loss"], abs=1e-4)
    assert column(language.default, "loss") == pytest.approx(
        np.array(language.own["loss"])[column(language.default, "step") - 1], abs=1e-4
    )


SMOOTH = SOURCE.replace("seed=0, disable", "label_smoothing_factor=0.1, seed=0, disable").replace(
    "callbacks=[Notes()]", "callbacks=[Notes()], compute_metrics=lambda found: {'accuracy': 0.25}"
)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_all(SMOOTH, tmp_path_factory.mktemp("smooth"))


def test_a_loss_that_no_criterion_shows_is_known_by_what_the_trainer_logs(smooth: Runs) -> None:
    evaluations = smooth.events("evaluation")
    assert [(e["step"], e["metric"], e["batches"], e["training"]) for e in evaluations] == [
        (step, "eval_loss", 2, False) for step in (4, 8, 12)
    ]
    assert [e["value"] for e in evaluations] == pytest.approx(smooth.own["val"], rel=1e-6)
    assert {e["metric"] for e in smooth.events("checkpoint")} == {"eval_loss"}
    assert smooth.chunk.metrics["eval_accuracy"]["value"].tolist() == [0.25] * 3
    said = {e["name"]: (e["source"], e["better"]) for e in smooth.events("metric")}
    assert said == {"eval_loss": ("transformers", "lower"), "eval_accuracy": ("transformers", "higher")}
