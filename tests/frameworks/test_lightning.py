"""A Lightning Trainer, unmodified: it calls backward() inside optimizer.step(closure), and saves through a buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frameworks.both import Runs, run_all
from tests.probes.watched import column, events

SOURCE = """
import logging, warnings
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
import torch
import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
lightning.seed_everything(0, verbose=False)
x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
train_loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=12)
measured = {"loss": [], "norms": [], "val": []}

class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))

    def training_step(self, batch, index):
        loss = cross_entropy(self.net(batch[0]), batch[1])
        measured["loss"].append(loss.item())
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", cross_entropy(self.net(batch[0]), batch[1]))

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            measured["val"].append(self.trainer.callback_metrics["val_loss"].item())

    def configure_gradient_clipping(self, *arguments, **more):
        super().configure_gradient_clipping(*arguments, **more)
        measured["norms"].append([p.grad.norm().item() for p in self.parameters()])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

checkpoints = ModelCheckpoint(dirpath="kept", monitor="val_loss", save_top_k=1, save_last=True)
trainer = lightning.Trainer(
    max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
    gradient_clip_val=0.5, callbacks=[checkpoints],
)
model = Classifier()
trainer.fit(model, train_loader, val_loader)
trainer.save_checkpoint("end.ckpt")
json.dump(measured, open("measured.json", "w"))
print(digest(model.state_dict()), measured)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_all(SOURCE, tmp_path_factory.mktemp("lightning"))


def test_the_run_is_the_same_watched_or_not(runs: Runs) -> None:
    assert runs.printed[0] == runs.printed[1] == runs.printed[2] != ""


def test_steps_have_the_loss_and_the_clipped_gradients_of_their_own_closure(runs: Runs) -> None:
    chunk = runs.chunk
    assert column(chunk, "step").tolist() == list(range(1, 13))
    assert column(chunk, "loss") == pytest.approx(runs.own["loss"], rel=1e-6)
    (gradients,) = chunk.gradients
    assert gradients.table.names == ("net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias")
    assert gradients.rows["norm"] == pytest.approx(np.array(runs.own["norms"]), rel=1e-5)
    assert (column(chunk, "gradient_norm_before_clip") >= column(chunk, "gradient_norm") - 1e-6).all()
    assert (column(chunk, "batch_size") == 16).all() and (column(chunk, "micro_batches") == 1).all()
    assert (column(chunk, "training") == 1).all() and (column(chunk, "gradients_reused")[1:] == 0).all()


def test_validation_modes_and_epochs(runs: Runs) -> None:
    evaluations = [e for e in runs.events("evaluation") if e["step"]]
    assert [e["step"] for e in evaluations] == [4, 8, 12]
    assert [e["value"] for e in evaluations] == pytest.approx(runs.own["val"], rel=1e-5)
    assert all(e["training"] is False and e["grad_enabled"] is False and e["samples"] == 32 for e in evaluations)
    assert {e["where"]["line"] for e in evaluations} == {runs.line('self.log("val_loss"')}
    assert {e["where"]["line"] for e in runs.events("mode")} == {runs.line("trainer.fit(")}
    assert [e["epoch"] for e in runs.events("epoch")] == [1, 2]
    assert runs.events("fact") == []


def test_checkpoints(runs: Runs) -> None:
    saved = runs.events("checkpoint")
    assert {e["path"] for e in saved if e["step"] == 4} == {
        str(runs.folder / "kept" / name) for name in ("epoch=0-step=4.ckpt", "last.ckpt")
    }
    assert all(e["has_weights"] and e["has_optimizer"] and e["holds_step"] == e["step"] for e in saved)
    assert saved[0]["scalars"] == {"epoch": 0, "global_step": 4} and saved[-1]["bytes"] > 1000
    assert [(Path(e["path"]).name, e["where"]["line"]) for e in saved][-1] == ("end.ckpt", runs.line("trainer.save_checkpoint"))
    assert saved[0]["where"]["line"] == runs.line("trainer.fit(")
    assert saved[0]["value"] == pytest.approx(runs.own["val"][0], rel=1e-5)


def test_with_the_default_budget(runs: Runs) -> None:
    steps, losses = column(runs.default, "step"), column(runs.default, "loss")
    seen = np.isfinite(losses)
    assert seen.any() and losses[seen] == pytest.approx(np.array(runs.own["loss"])[steps[seen] - 1], rel=1e-6)
    (gradients,) = runs.default.gradients
    assert gradients.rows["norm"] == pytest.approx(np.array(runs.own["norms"])[gradients.rows["step"] - 1], rel=1e-5)
    assert [e["step"] for e in events(runs.default, "checkpoint")] == [e["step"] for e in runs.events("checkpoint")]


def test_results_that_the_module_logs_have_its_names(runs: Runs) -> None:
    (said,) = [e for e in runs.events("metric") if e["source"] == "lightning"]
    assert (said["name"], said["better"]) == ("val_loss", "lower")
    logged = runs.chunk.metrics["val_loss"]
    assert logged["step"].tolist() == [4, 8, 12] and logged["value"] == pytest.approx(runs.own["val"], rel=1e-6)
