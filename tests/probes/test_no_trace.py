"""After detach every function, hook, thread, file and module is as we found it, and nothing of ours is left alive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.watched import ATTACH, attach_argument, events, read, run_fresh

HERE = Path(__file__).parent
LOOPS = (HERE / "loops_of_all_kinds.py").read_text().partition('if __name__ == "__main__"')[0]
LEAVES = (
    (HERE / "as_found.py").read_text()
    + LOOPS
    + ATTACH
    + """
import multiprocessing, weakref

def not_finite():
    model = new_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(12):
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) * (float("nan") if number == 10 else 1.0)).backward()
        optimizer.step()
    return [model], [optimizer], []

mlp(), workers()
gc.collect()
while threading.active_count() > 1 or multiprocessing.active_children():
    os.sched_yield()  # the loader's threads end a moment after it
before, functions_before = settings(), functions()
session = attach()
watched = [watched.function for watched in session.attention._watched.values()]
if sys.version_info < (3, 12):
    assert all(function.__code__ is not functions_before[function] for function in watched if function in functions_before)
ends = [loop() for loop in (mlp, cnn, transformer, mixed_precision, accumulation, lbfgs, gan, workers, not_finite)]
LEAVE
session.writer._ended.acquire()
still_there = weakref.ref(session)
count = len(watched)
del session, watched
gc.collect()
print("still there", still_there())
print("not as found", not_as_found(before, functions_before, *[model for models, _, _ in ends for model in models]))
mlp()
print("watched", count)
"""
)
WAYS = {
    "in order": 'session.leave("test")',
    "by another thread": 'threading.Thread(target=session.request_detach, args=("test",)).start()\nwhile session.active: pass',
    "inside a step": 'ends[0][1][0].register_step_pre_hook(lambda *_: session.leave("test"))\nends[0][1][0].step()\n'
    "ends[0][1][0]._optimizer_step_pre_hooks.clear()",
}


@pytest.mark.parametrize("way", WAYS)
def test_detach_leaves_no_trace(tmp_path: Path, way: str) -> None:
    done = run_fresh(LEAVES.replace("LEAVE", WAYS[way], 1), tmp_path, attach_argument(tmp_path), watched=False)
    *_, still_there, not_as_found, _, _, _, _, _, _, watched = done.stdout.splitlines()
    assert still_there == "still there None"
    assert not_as_found == "not as found []"
    assert int(watched.split()[-1]) >= 30
    assert done.stderr == ""
    chunk = read(tmp_path)
    assert [event["reason"] for event in events(chunk, "detached")] == ["test"]
    assert not events(chunk, "exiting")


KEEPS = (
    ATTACH
    + """
import gc, torch, weakref
torch.optim.SGD([torch.ones(1)])  # the first imports much of torch, and that holds whoever made it
gc.collect()
gc.disable()  # so that only what nobody holds is gone
class Big: ...
def epoch(act):
    model, big = torch.nn.Linear(2, 1), Big()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    WHEN
    optimizer.step()
    return weakref.ref(model), weakref.ref(big)
def leave():
    sys.modules["_forgemon_probe"].session.leave("test")
for act in (attach, leave, attach, leave):
    print([reference() for reference in epoch(act)])
"""
)


@pytest.mark.parametrize("when", ["act()", "gc.freeze(); act(); gc.unfreeze()"])
def test_what_a_function_holds_is_gone_with_it_though_we_came_or_left_within(tmp_path: Path, when: str) -> None:
    done = run_fresh(KEEPS.replace("WHEN", when), tmp_path, attach_argument(tmp_path), watched=False)
    assert (done.stdout, done.stderr) == ("[None, None]\n" * 4, "")
