"""What the names of metrics say, by their words."""

from __future__ import annotations

import pytest

from probes.directions import better, is_validation_loss

LOWER = """loss train/loss Loss/train valLoss val_loss train_loss_epoch valloss loss1 l1_loss mse eval/mse RMSE mean_squared_error
error_rate top5_err word_error_rate WER perplexity val/ppl nll neg_log_likelihood cross_entropy kl_div dice_loss iou_loss reward_loss
BCELoss""".split()
HIGHER = """acc accuracy val/acc acc@1 top1_acc testacc valAccuracy F1 f1_score AUROC auc mAP mAP50 r2 R2 BLEU-4 rougeL IoU mIoU reward
episode_return log_likelihood neg_mean_squared_error best_acc exact_match precision score""".split()
UNKNOWN = """lr learning_rate loss_scale lossScale loss_fn loss_weight reward_scale score_threshold acc_steps accumulation_steps grad_norm
epoch step dropout_rate closs glossary lossless scored eval_runtime evaluation val entropy kl accelerate errand mapping temperature
weight_decay""".split()
VALIDATION_LOSSES = (
    "val_loss val/loss valLoss valloss eval_loss test/mse validation.loss valid_ppl Loss/val test_error_rate".split()
)
NO_VALIDATION_LOSSES = """loss train_loss val_acc val evaluation best_val_loss min_val_loss prev_val_loss val_loss_sum total_val_loss
running_val_loss val_loss_step contest_loss interval_loss latest_loss eval_runtime val_loss_weight""".split()


@pytest.mark.parametrize(
    ("name", "direction"), [*((n, "lower") for n in LOWER), *((n, "higher") for n in HIGHER), *((n, None) for n in UNKNOWN)]
)
def test_better(name: str, direction: str | None) -> None:
    assert better(name) == direction


@pytest.mark.parametrize("name", VALIDATION_LOSSES)
def test_validation_losses(name: str) -> None:
    assert is_validation_loss(name)


@pytest.mark.parametrize("name", NO_VALIDATION_LOSSES)
def test_names_that_only_look_like_one(name: str) -> None:
    assert not is_validation_loss(name)
