"""Section B, the order of calls: when gradients are made, cleared, clipped and used, and in which mode the model is."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.explanations.explanation import Explanation

CALLS: Mapping[str, Explanation] = {
    "missing-zero-grad": Explanation(
        "At the first backward() after a step, the gradient that arrives is compared with what .grad holds afterwards: where it was "
        "added onto the gradient of the step before, the two differ.",
        "An alarm after two steps in a row, on at least half of the parameters.",
        "Accumulation: several backward() calls to one step are meant to add up, and are cleared after it. Every way to clear counts: "
        "zero_grad(), grad = None, grad.zero_().",
        """
  for x, y in train_loader:
+     optimizer.zero_grad()
      loss = cross_entropy(model(x), y)
      loss.backward()
      optimizer.step()
""",
    ),
    "gradients-discarded": Explanation(
        "Each gradient is followed from backward() to step(); it is gone, or zero, when the step comes for which it was made.",
        "An alarm after three steps in a row.",
        "A step that is left out on purpose (a GradScaler skips it, a batch is bad) and is cleared afterwards: there is no step that "
        "misses its gradients.",
        """
  for x, y in train_loader:
+     optimizer.zero_grad()
      loss = cross_entropy(model(x), y)
      loss.backward()
-     optimizer.zero_grad()
      optimizer.step()
""",
    ),
    "optimizer-mismatch": Explanation(
        "The tensors that backward() gives gradients to are compared with those that the optimizers of the process hold, and their "
        "values are looked at twice: they stand still.",
        "An alarm after three steps in a row.",
        "Parameters that somebody updates by hand, and those of a second optimizer that has not stepped yet.",
        """
- optimizer = SGD(model.parameters(), lr=0.1)
  model.head = nn.Linear(512, 10)
+ optimizer = SGD(model.parameters(), lr=0.1)
""",
    ),
    "frozen-parameters": Explanation(
        "Which parameters of an optimizer have ever had a gradient, while others of the same optimizer had theirs: at 3 steps where a "
        "detach() or no_grad() was seen that cuts them off, whose line is shown, else at 20.",
        "An alarm if such a cut was seen, or the first layer or most parameters are among them, else a watch (a branch may rarely be "
        "used). An info where requires_grad=False says that it is meant.",
        "Layers frozen with requires_grad_(False), and branches that get their gradient later.",
        """
  def forward(self, x):
-     features = self.encoder(x).detach()
+     features = self.encoder(x)
      return self.head(features)
""",
    ),
    "clip-before-backward": Explanation(
        "The order of calls between two steps: a clip came before any backward(), when all gradients were None or zero, and none came "
        "after it.",
        "An alarm after two steps in a row.",
        "A clip for which max_norm is inf: it asks for the norm and changes nothing.",
        """
  optimizer.zero_grad()
  loss = cross_entropy(model(x), y)
- clip_grad_norm_(model.parameters(), 1.0)
  loss.backward()
+ clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()
""",
    ),
    "clip-after-step": Explanation(
        "The order of calls between two steps: a clip came after step() and before anything of the next batch, and none came before it.",
        "An alarm after two steps in a row.",
        "A second clip, or one of another model's parameters, beside one in its right place.",
        """
  loss.backward()
+ clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()
- clip_grad_norm_(model.parameters(), 1.0)
""",
    ),
    "clip-scaled-gradients": Explanation(
        "backward() began at what scaler.scale() had returned, unscale_() was not called, and nothing else had written the gradients "
        "when they were clipped.",
        "An alarm after two steps in a row; a watch while the limit is not reached, or where it may have been multiplied by the scale.",
        "A GradScaler that is switched off, gradients that were divided by hand, and a limit that is multiplied by the loss scale.",
        """
  scaler.scale(loss).backward()
+ scaler.unscale_(optimizer)
  clip_grad_norm_(model.parameters(), 1.0)
  scaler.step(optimizer)
  scaler.update()
""",
    ),
    "accumulation-not-scaled": Explanation(
        "Each backward() of a step began at the mean loss of a batch of its own, at the same line, and its graph shows no division.",
        "An alarm after three steps in a row with SGD, or where gradients are clipped; a watch for optimizers like Adam, which hardly "
        "mind the scale.",
        "Losses that are summed on purpose: reduction='sum', several losses of one batch, or a division of the gradients themselves.",
        """
  for i, (x, y) in enumerate(train_loader):
      loss = cross_entropy(model(x), y)
-     loss.backward()
+     (loss / 4).backward()
      if i % 4 == 3:
          optimizer.step()
          optimizer.zero_grad()
""",
    ),
    "eval-in-train-mode": Explanation(
        "The mode of each Dropout and BatchNorm as the model is called on batches that no backward() follows; of BatchNorm also whether "
        "its running statistics took in the validation data.",
        "An alarm after a few batches of a pass, a watch for a single one.",
        "Dropout put into training mode by itself under a model that is in evaluation mode (Monte Carlo dropout), and another number "
        "taken from the training batch.",
        """
+ model.eval()
  with torch.no_grad():
      for x, y in val_loader:
          val_loss += cross_entropy(model(x), y).item()
+ model.train()
""",
    ),
    "train-in-eval-mode": Explanation(
        "model.training at each step, and the line of the eval() that came last. The model has Dropout or BatchNorm, for which it matters.",
        "An alarm after two steps in a row if it trained in training mode before, else a watch: it may be meant.",
        "BatchNorm or Dropout modules put into evaluation mode one by one, under a model in training mode (fine-tuning).",
        """
- model.train()
  for epoch in range(epochs):
+     model.train()
      train_one_epoch(model, train_loader)
      model.eval()
      validate(model, val_loader)
""",
    ),
    "eval-with-grad": Explanation(
        "Every loss of a validation pass has a graph, and neither backward() nor torch.autograd.grad() goes back through one.",
        "An alarm after a pass of at least three batches.",
        "Adversarial evaluation and meta-learning, which use the gradients.",
        """
  model.eval()
- for x, y in val_loader:
-     val_loss += cross_entropy(model(x), y).item()
+ with torch.no_grad():
+     for x, y in val_loader:
+         val_loss += cross_entropy(model(x), y).item()
""",
    ),
}
