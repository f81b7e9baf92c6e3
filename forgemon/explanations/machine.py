"""Section C: what the machine and the ranks say. There is mostly no line to mend, so most have no example."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.explanations.explanation import Explanation

MACHINE: Mapping[str, Explanation] = {
    "memory-growing": Explanation(
        "The memory of the processes and of the tensors on each GPU, once a second: the lowest reading of each tenth of the run rises from "
        "one to the next, by half a gigabyte and more, and does not level off.",
        "An alarm where old losses are kept with their graphs as well, or the machine is nearly full; else a watch.",
        "Memory that grows while caches and workers fill up in the first two epochs, and then stays.",
        """
  output = model(x)
- outputs.append(output)
+ outputs.append(output.detach().cpu())
""",
    ),
    "input-bound": Explanation(
        "The time each step waits for its batch: more than half of it in most of the newest blocks of 25 steps, and 20 s in all.",
        "A watch; an info once it is over.",
        "The first batch of an epoch, for which workers have to start.",
        """
- loader = DataLoader(data, 64)
+ loader = DataLoader(data, 64, num_workers=4, pin_memory=True)
""",
    ),
    "stalled": Explanation(
        "A process beside the run knows the usual time between steps. When many times that has gone by without a step, batch or sign of "
        "life, it takes the stack of every thread.",
        "An alarm while it lasts; a watch once steps come again.",
        "Long validation passes, checkpoints and compilations that report progress or end within the usual.",
    ),
    "ended": Explanation(
        "The exception and its line, the exit code, or the signal; and for a run that is gone without a word, that nobody saw its end.",
        "An alarm for an exception or a kill, a watch for another exit code, an info for a good end.",
        "A run that was detached from goes on, and says so.",
    ),
    "ranks-diverged": Explanation(
        "Gradient norms and norms of the weights of the ranks at the same step, four in a row, where all ranks hold the whole model.",
        "An alarm while they are apart, a watch afterwards; an info where the model may be divided.",
        "Ranks whose losses differ: each has its own batches. Sharded models, whose ranks hold different parts.",
        """
- model = Classifier().to(rank)
+ model = DistributedDataParallel(Classifier().to(rank))
  loss = cross_entropy(model(x), y)
  loss.backward()
""",
    ),
    "straggler": Explanation(
        "The time each rank needs for its own part of a step, before it waits for the others.",
        "Always a watch.",
        "Ranks that take turns at being the slowest.",
    ),
}
