"""What a metric's name says: which direction is better, and whether it was taken on validation data. Words, never parts of words."""

from __future__ import annotations

import functools
import re

LOWER = frozenset(
    (
        "loss losses error errors err nll mse rmse mae mape smape rmsle msle bce ce xent crossentropy perplexity ppl wer cer ter eer "
        "fid kid lpips bpc bpb bpd brier ece hinge regret cost"
    ).split()
)
HIGHER = frozenset(
    (
        "acc accuracy f1 f1score fbeta auc auroc auprc aucpr ap map bleu rouge meteor chrf r2 reward rewards return returns score scores "
        "iou miou dice jaccard precision recall sensitivity specificity psnr ssim ndcg mrr spearman pearson kappa mcc likelihood "
        "success winrate em"
    ).split()
)
PAIRS = {("cross", "entropy"): "lower", ("kl", "div"): "lower", ("exact", "match"): "higher", ("win", "rate"): "higher"}
ABOUT = frozenset(
    (
        "scale scaler scaling weight weights coef coeff coefficient factor lambda fn func function steps iters threshold thresh limit "
        "patience ratio count delta window interval freq frequency every eps tol tolerance grad grads norm type name time"
    ).split()
)
"""After the name of a measure these make another thing of it: a loss scale is no loss."""
NEGATED = frozenset({"neg", "negative", "minus"})
VALIDATION = frozenset({"val", "valid", "validation", "eval", "evaluation", "test"})
TRAINING = frozenset({"train", "training", "trn"})
HELD_OUT = VALIDATION | {"dev", "heldout", "holdout", "testing"}
KEPT = frozenset(
    "best min max lowest highest prev previous last old total sum running batch step ema patience delta target limit".split()
)
"""With one of these a number is not the result of a validation pass, but the best so far, a sum under way and the like."""
PLAIN = VALIDATION | {"loss", "losses", "avg", "average", "mean", "epoch", "overall"}
"""Of a loss: no word that says which part of it the number is."""

_SEGMENT = re.compile(r"[A-Za-z0-9]+")
_HUMP = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_BEFORE = re.compile(r"(?:train|val|valid|test|eval)(?=[a-z])")


def words(name: str) -> list[str]:
    """`val/topOne_acc` -> val, top, one, acc. A word that is known as a whole is not divided (mAP, AUROC, F1)."""
    found: list[str] = []
    for segment in _SEGMENT.findall(name):
        whole = segment.lower()
        if _measure(whole) is not None:
            found.append(whole)
            continue
        for hump in _HUMP.findall(segment):
            word = hump.lower()
            before = _BEFORE.match(word)
            if before is not None and _measure(word[before.end() :]) is not None:  # valloss, testacc
                found += [before.group(), word[before.end() :]]
            else:
                found.append(word)
    return found


@functools.lru_cache(maxsize=1024)
def better(name: str) -> str | None:
    """ "lower" for losses and errors, "higher" for accuracies, scores and rewards; None where the name does not say."""
    all_words = words(name)
    found: str | None = None
    for index, word in enumerate(all_words):
        following = all_words[index + 1] if index + 1 < len(all_words) else ""
        pair = PAIRS.get((word, following))
        if pair is not None:
            found = pair
        elif word in ABOUT:
            found = None
        else:
            found = _measure(word) or found  # the last one counts: a dice loss is a loss
    if found is not None and not NEGATED.isdisjoint(all_words):
        return "higher" if found == "lower" else "lower"
    return found


@functools.lru_cache(maxsize=1024)
def is_validation(name: str) -> bool:
    return not VALIDATION.isdisjoint(words(name))


@functools.lru_cache(maxsize=1024)
def is_validation_loss(name: str) -> bool:
    """Whether the number is what a validation pass yields, and lower is better."""
    return better(name) == "lower" and is_validation(name) and KEPT.isdisjoint(words(name))


@functools.lru_cache(maxsize=1024)
def is_whole_validation_loss(name: str) -> bool:
    """Whether it is that loss by its name, and not one of its parts."""
    return is_validation_loss(name) and PLAIN.issuperset(words(name))


@functools.lru_cache(maxsize=1024)
def side(name: str) -> str | None:
    """ "training" or "held out" by what the name says of the data; None where it says neither, both, or that it is not one result."""
    found = set(words(name))
    is_training = not TRAINING.isdisjoint(found)
    if is_training != HELD_OUT.isdisjoint(found) or not KEPT.isdisjoint(found):
        return None
    return "training" if is_training else "held out"


@functools.lru_cache(maxsize=1024)
def is_split(text: str) -> bool:
    """Whether a variable that holds `text` names a split of the data by it."""
    return text.replace("_", "").replace("-", "").isalnum() and side(text) is not None


def _measure(word: str) -> str | None:
    for form in (word, word.rstrip("0123456789")):  # acc1, loss2
        if form in LOWER:
            return "lower"
        if form in HIGHER:
            return "higher"
    return None
