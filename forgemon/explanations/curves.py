"""Section A: what the curves and gradients say."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.explanations.explanation import Explanation

CURVES: Mapping[str, Explanation] = {
    "loss-nonfinite": Explanation(
        "The loss of each observed step; at the first nan or inf also inputs, layers, gradients and weights, which say where it began, "
        "and the curve before it, which says whether the steps overshot.",
        "An alarm at once; a watch where later losses are finite again.",
        "Steps that a GradScaler skips, until many come in a row.",
        """
- optimizer = SGD(model.parameters(), lr=1.0)
+ optimizer = SGD(model.parameters(), lr=0.1)
  loss.backward()
+ clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()
""",
    ),
    "gradient-nonfinite": Explanation(
        "The norm of each parameter's gradient, read from the loss back towards the input, at steps whose loss is finite.",
        "An alarm at once; a watch where later gradients are finite again.",
        "Steps that a GradScaler skips, until many come in a row.",
        """
- distance = (a - b).square().sum(1).sqrt()
+ distance = ((a - b).square().sum(1) + 1e-12).sqrt()
""",
    ),
    "loss-stuck": Explanation(
        "How far the loss has come from its first level, together with what explains it: updates that are tiny beside the weights, first "
        "layers without gradient, units that died after a jump, or parameters that no step reaches.",
        "An alarm with such a cause. Where gradients and updates cannot be seen, a watch after a thousand steps; where they are of a "
        "usual size, nothing.",
        "Labels that are mostly noise, and a fine-tuning that begins where it can get: the updates are of a usual size.",
        """
- optimizer = SGD(model.parameters(), lr=1e-6)
+ optimizer = SGD(model.parameters(), lr=1e-2)
""",
    ),
    "loss-oscillates": Explanation(
        "Medians of blocks of the loss against its best block, and whether they go up and down; confirmed by a gradient norm that grew "
        "with it, or by gradients that died. Never the zig-zag of single batches: that is noise.",
        "An alarm with the second line of evidence, a watch once the loss has returned.",
        "Warm restarts (the loss follows the learning rate and returns), harder data, and runs with several optimizers.",
        """
- optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9)
+ optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
""",
    ),
    "loss-climbs": Explanation(
        "Medians of blocks of the loss against its best block, beyond the spread of both; confirmed by a gradient norm that grew with "
        "it, or by gradients that died.",
        "An alarm with the second line of evidence, a watch without. Where it jumped from one step to the next, with ordinary gradients "
        "before, the data have changed: a watch, and an info once it falls and is below the loss of a guess.",
        "Warm restarts, a curriculum that gets harder, and runs with several optimizers.",
        """
- schedule = ExponentialLR(optimizer, gamma=1.1)
+ schedule = ExponentialLR(optimizer, gamma=0.9)
""",
    ),
    "train-val-divergence": Explanation(
        "The slope of the training loss since the best validation result, and validation results after it that all lie above it by more "
        "than their noise.",
        "An alarm where training falls and validation has risen clearly, else a watch.",
        "A training loss that is higher than the validation loss: Dropout and augmentation make it so.",
        """
- optimizer = Adam(model.parameters())
+ optimizer = AdamW(model.parameters(), weight_decay=0.05)
+ patience = 5
  for epoch in range(epochs):
      val_loss = validate(model)
+     patience = 5 if val_loss < best else patience - 1
+     if patience == 0:
+         break
""",
    ),
    "val-at-chance": Explanation(
        "The validation results against the loss with which training began, while training has left it far behind.",
        "An alarm where the loss began at that of a guess, the logarithm of the number of classes; else a watch.",
        "Overfitting: there validation gets better first, and then worse.",
        """
- val_classes = sorted(set(val_names))
- y = torch.tensor([val_classes.index(name) for name in val_names])
+ y = torch.tensor([train_classes.index(name) for name in val_names])
""",
    ),
    "vanishing-gradients": Explanation(
        "The gradients of the first third of the layers against the largest: less than a ten-thousandth, 20 steps in a row, with those in "
        "between on their way down, while the loss stands still.",
        "An alarm while the loss stands still with it, a watch once it moves.",
        "Small gradients of a loss that has come down, and layers that are frozen on purpose.",
        """
- block = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid())
+ block = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
""",
    ),
    "exploding-gradients": Explanation(
        "Medians of ten steps of the gradient norm before clipping: three in a row a hundred times as large as the level before, while the "
        "loss is not at its best.",
        "An alarm where the loss rises above where it began, or the updates are as large as the weights; else a watch.",
        "A norm that is large all the time, one that rises while the loss falls, and losses below zero (densities).",
        """
  loss.backward()
+ clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()
""",
    ),
    "gradient-spike": Explanation(
        "The gradient norm of a step against the median and spread of those just before it.",
        "A watch; an alarm where the loss rises after it.",
        "Heavy tails: where large norms are usual, the spread is large.",
        """
+ keep = target.abs() < 10
+ x, target = x[keep], target[keep]
  loss = mse_loss(model(x), target)
  loss.backward()
+ clip_grad_norm_(model.parameters(), 1.0)
""",
    ),
    "weights-growing": Explanation(
        "The norm of all weights together: three times what it was at first, and still growing in the later half of the steps.",
        "Always a watch; part of the evidence where gradients are not zeroed.",
        "Weights that grow at first and settle, and zero-initialised ones.",
        """
- optimizer = Adam(model.parameters(), lr=1e-3)
+ optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
""",
    ),
}
