"""Section B, the tensors: what is kept, what the criterion is given, what validation reads, what is saved, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.explanations.explanation import Explanation

TENSORS: Mapping[str, Explanation] = {
    "loss-graph-retained": Explanation(
        "A mark in the graph of each loss lives as long as that graph does. Of the last 20 losses that are older than 5 steps, 18 or "
        "more are alive. What holds them is looked for and named.",
        "An alarm once they are older than any window, a watch before that.",
        "The last losses in a deque of bounded length, each of which pushes the oldest out, and truncated backpropagation through time.",
        """
  loss.backward()
  optimizer.step()
- losses.append(loss)
+ losses.append(loss.item())
""",
    ),
    "softmax-before-cross-entropy": Explanation(
        "The tensor that cross_entropy is given: all of it lies in [0, 1] and every row sums to 1, in five calls in a row.",
        "An alarm.",
        "Log-probabilities, on which another softmax changes nothing, and softmax before a loss that wants probabilities.",
        """
  model = nn.Sequential(
      nn.Linear(64, 10),
-     nn.Softmax(dim=1),
  )
  loss = cross_entropy(model(x), y)
""",
    ),
    "val-loader-shuffled": Explanation(
        "The sampler and drop_last of a loader whose batches no backward() follows.",
        "Always a watch: the mean of a pass changes little by it.",
        "A loader that trains as well, and one that judges the model on training data beside other validation.",
        """
- val_loader = DataLoader(val_data, 64, shuffle=True, drop_last=True)
+ val_loader = DataLoader(val_data, 64)
""",
    ),
    "val-uses-train-data": Explanation(
        "Whether both loaders read the same rows of the same storage or dataset, told by index; else hashes of sampled rows: at least "
        "20 equal ones, five times as many as by chance.",
        "An alarm; a watch below 1 % of the samples; an info where another validation on other data is seen too.",
        "Repeated or constant rows, and a pass over training data beside a true validation.",
        """
  train_data, val_data = random_split(data, [0.8, 0.2])
- train_loader = DataLoader(data, 64, shuffle=True)
+ train_loader = DataLoader(train_data, 64, shuffle=True)
  val_loader = DataLoader(val_data, 64)
""",
    ),
    "best-checkpoint-not-saved": Explanation(
        "Which weights each saved file holds, told by the step at which it was written, against the validation results. Results as near "
        "as their own noise are equally good.",
        "An alarm when the run has finished, a watch before: a better one may come and be saved.",
        "A copy of the best weights kept in memory or written by other means, and a best one chosen by another measure (accuracy).",
        """
- torch.save(checkpoint, "model.pt")
+ if val_loss < best_val_loss:
+     best_val_loss = val_loss
+     torch.save(checkpoint, "best.pt")
""",
    ),
    "checkpoint-incomplete": Explanation(
        "The names of what torch.save() is given, over all files of one step: weights without an optimizer's state, or without a step, "
        "epoch or metric.",
        "Always an info.",
        "Weights alone beside a file of the same run that has all.",
        """
- torch.save(model.state_dict(), "best.pt")
+ checkpoint = {
+     "model": model.state_dict(),
+     "optimizer": optimizer.state_dict(),
+     "epoch": epoch,
+     "val_loss": val_loss,
+ }
+ torch.save(checkpoint, "best.pt")
""",
    ),
    "cpu-fallback": Explanation(
        "All parameters of the first step are on the CPU, nothing of the process is on a GPU, and there are NVIDIA device files or a "
        "driver that knows a GPU.",
        "An alarm where the process could open the GPU and a step takes 20 ms of work or more, a watch where only the driver knows it, "
        "an info where steps are short or CUDA_VISIBLE_DEVICES hides the GPU on purpose.",
        "A machine without a GPU, and parameters that are kept on the CPU beside others on the GPU.",
        """
+ device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
- model = Classifier()
+ model = Classifier().to(device)
  for x, y in train_loader:
-     loss = cross_entropy(model(x), y)
+     loss = cross_entropy(model(x.to(device)), y.to(device))
""",
    ),
    "shm-too-small": Explanation(
        "The bytes of the first batch, times workers, times prefetch_factor, times 1.5 to be safe, against what was free in /dev/shm "
        "when the loader began.",
        "An alarm where the batches need more than there is, a watch where only the margin is missing.",
        "A loader without workers, and the sharing strategy file_system.",
        """
- loader = DataLoader(pictures, 64, num_workers=8, prefetch_factor=4)
+ loader = DataLoader(pictures, 64, num_workers=2, prefetch_factor=2)
""",
    ),
}
