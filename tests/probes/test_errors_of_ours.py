"""An exception thrown inside our code, at any place, reaches nobody, is recorded once a place, and after several of them we leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.probes.watched import PROBES, run_script

HERE = Path(__file__).parent
PARTS = (HERE / "everything.py").read_text() + (HERE / "faults.py").read_text()

EVERY_PLACE = """
import gc
shown = sys.excepthook
sys.excepthook = lambda kind, *rest: None if kind is EOFError else shown(kind, *rest)
ours = load()
ours["writer"].PERIOD_S = 0.002
make_places(ours)
expected = train()
assert expected == train()
functions = {found: found.__code__ for found in gc.get_objects() if type(found) is types.FunctionType}
gc.collect()
gc.freeze()  # so that a look for optimizers goes through what comes now alone
new = Net()

def watched_loop(name):
    session = attach(ours, name)
    result = train()
    for _ in range(9):
        sys.excepthook(EOFError, EOFError("of the loop's own"), None)
        session._moment.on_main_thread(session.steps.wake_blind)
        while session._moment._actions:
            pass
    if session.active:
        session._leaving.exiting()
    gone(session)
    return session, result

session, result = watched_loop("none")
assert result == expected and not events(session, "probe_error")
places = sorted(visited)
heard = {hear.__qualname__ for hears in session.probes._heard.values() for hear in hears}
unheard = sorted(heard - set(places))

answers = {}
for place in places[config["shard"] :: config["shards"]]:
    visited.clear()
    armed = {place}
    session, result = watched_loop(place)
    armed = set()
    answers[place] = {
        "same": result == expected,
        "times": visited[place],
        "errors": [(event["where_in_probe"], event["error"]) for event in events(session, "probe_error")],
        "left": [event["reason"] for event in events(session, "detached")],
        "unsaid": session.guard.unsaid,
        "still_in": [str(f) for f, code in functions.items() if f.__code__ is not code],
        "hooks": len(sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks) + len(torch.nn.modules.module._global_forward_hooks),
    }
print(json.dumps({"answers": answers, "unheard": unheard}))
"""
NOT_ABLE_TO_SAY = {"Writer._write_line"}
"""Without it no event is written."""
SHARDS = 3
FEWEST_LINES = 2000 if sys.version_info < (3, 12) else 1500
"""From 3.12 on nothing of ours writes calls into code."""


def run(source: str, folder: Path, **more: Any) -> Any:
    config = {"bootstrap": str(PROBES / "bootstrap.py"), "runs": str(folder / "runs"), **more}
    done = run_script(PARTS + source, folder, json.dumps(config), watched=False, timeout_s=280)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_at_every_place(tmp_path: Path, shard: int) -> None:
    found = run(EVERY_PLACE, tmp_path, shard=shard, shards=SHARDS)
    assert found["unheard"] == []  # the loop comes by all that a probe hears
    assert len(found["answers"]) >= 150 // SHARDS
    often_enough = [answer for answer in found["answers"].values() if answer["times"] >= 8]
    assert len(often_enough) > 0.75 * len(found["answers"])
    for place, answer in found["answers"].items():
        assert answer["same"] and answer["times"] and not answer["still_in"] and not answer["hooks"], (place, answer)
        if place in NOT_ABLE_TO_SAY:
            continue
        assert answer["errors"] and not answer["unsaid"], (place, answer)
        assert len({where for where, _ in answer["errors"]}) == len(answer["errors"]), (place, answer)
        assert {error for _, error in answer["errors"]} == {f"ZeroDivisionError: {place}"}, (place, answer)
        if answer["times"] >= 8:
            assert answer["left"] == ["too many errors of its own"], (place, answer)


AT_ANY_LINE = """
import dis, gc, linecache, random
FOLDER = os.path.dirname(config["bootstrap"]) + os.sep
GUARD_ITSELF = {"guarded", "protected", "swallow", "swallow_ours", "is_the_programs", "before", "after", "call", "undisturbed", "_gone"}
GUARD_ITSELF.add("_in_a_capture")  # asked in builds for CUDA
class Fault(Exception):
    __module__ = "builtins"  # an error of ours, and not one that the program sends
ours = load()
ours["guard"].Guard.calibrate = ours["steps"].Steps.calibrate = lambda self, *_: None
gc_objects = [found for found in gc.get_objects() if type(found) is types.FunctionType]
functions = {found: found.__code__ for found in gc_objects}
gc.collect()
gc.freeze()
new = Net()

class Lines:
    # Raises `kind` at some lines of ours, each when it is come by for the n-th time; without any, counts how often it is.
    def __init__(self, kind=None, targets={}):
        self.kind, self.left, self.seen, self.raised = kind, dict(targets), collections.Counter(), []
        self.wanted, self.idle = {}, {}
    def __call__(self, frame, event, argument):
        code = frame.f_code
        if code not in self.wanted:
            self.wanted[code] = self.wants(code)
        return self.line if self.wanted[code] else None
    @property
    def more(self):
        return not self.left or len(self.raised) < len(self.left)
    def wants(self, code):
        if not code.co_filename.startswith(FOLDER) or code.co_name in GUARD_ITSELF:
            return False
        name = code.co_filename[len(FOLDER):]
        return not self.left or any((name, line) in self.left for _, _, line in code.co_lines())
    def nothing_runs(self, code):
        # Where a line shows at which nothing of ours runs that could raise: `try:`, and that of a `with` again, before its __exit__.
        if code not in self.idle:
            entries, self.idle[code] = set(), set()
            for one in dis.get_instructions(code):
                begun = one.starts_line and getattr(one, "line_number", one.starts_line)  # a bool and a number from 3.13 on
                text = linecache.getline(code.co_filename, begun).strip() if begun else ""
                if text == "try:" or (text.startswith("with ") and begun in entries):
                    self.idle[code].add(one.offset)
                entries.add(begun)
        return self.idle[code]
    def line(self, frame, event, argument):
        if event == "line" and frame.f_lasti not in self.nothing_runs(frame.f_code):
            place = (frame.f_code.co_filename[len(FOLDER):], frame.f_lineno)
            self.seen[place] += 1
            if self.left.get(place) == self.seen[place]:
                self.raised.append(place)
                raise self.kind("%s:%d" % place)
        return self.line

unraised = []
sys.unraisablehook = lambda found: unraised.append(type(found.exc_value).__name__)
lines = None
forward = Net.forward
def forward_again_traced(self, inputs):
    sys.settrace(lines if lines is None or lines.more else None)  # an exception in it has switched it off
    return forward(self, inputs)
Net.forward = forward_again_traced

def loop(session):
    # Until it comes to its end; how often it was interrupted.
    interrupts = 0
    while True:
        try:
            sys.settrace(lines if lines is None or lines.more else None)
            return train(), interrupts
        except KeyboardInterrupt:
            interrupts += 1
        finally:
            sys.settrace(None)

expected, _ = loop(None)
lines = Lines()
session = attach(ours, "none")
assert loop(session)[0] == expected
gone(session)
places = sorted(lines.seen.items())
chance = random.Random(config["seed"])
know = {("optimizers.py", line) for _, _, line in ours["optimizers"].Optimizers.know.__code__.co_lines()}
another = {("threads.py", line) for _, _, line in ours["threads"].TrainingThread.is_another.__code__.co_lines()}

def some_places():
    for _ in range(config["rounds"]):
        yield chance.sample(places, config["faults"])
    # Each line: of `know`, or two optimizers with one number write into one table; of `is_another`, which comes before every callback.
    for place in places if config["know"] else []:
        if place[0] in know | another:
            yield [place]

rounds = []
for number, chosen in enumerate(some_places()):
    targets = {place: chance.choice([1, 1, 2, chance.randint(1, times)]) for place, times in chosen}
    lines = Lines({"Fault": Fault, "KeyboardInterrupt": KeyboardInterrupt}[config["kind"]], targets)
    session = attach(ours, str(number))
    result, interrupts = loop(session)
    lines_raised, lines = lines.raised, None
    gone(session)
    rounds.append({
        "same": result == expected,
        "raised": ["%s:%d" % place for place in lines_raised],
        "interrupts": interrupts,
        "unraised": unraised.copy(),
        "counted": sum(session.guard._errors.values()) + session.guard.unsaid,
        "errors": [event["error"] for event in events(session, "probe_error")],
        "left": [event["reason"] for event in events(session, "detached")],
        "still_in": [str(f) for f, code in functions.items() if f.__code__ is not code],
        "hooks": len(sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks)
        + len(torch.nn.modules.module._global_forward_hooks),
    })
    unraised.clear()
print(json.dumps({"lines": len(places), "rounds": rounds}))
"""


@pytest.mark.parametrize(("kind", "rounds", "faults"), [("Fault", 14, 6), ("KeyboardInterrupt", 5, 3)])
def test_at_any_line(tmp_path: Path, kind: str, rounds: int, faults: int) -> None:
    found = run(AT_ANY_LINE, tmp_path, kind=kind, rounds=rounds, faults=faults, seed=0, know=kind == "Fault")
    assert found["lines"] > FEWEST_LINES
    assert len(found["rounds"]) == rounds if kind == "KeyboardInterrupt" else len(found["rounds"]) > rounds + 10
    raised = 0
    for one in found["rounds"]:
        assert one["same"] and not one["still_in"] and not one["hooks"], one
        raised += len(one["raised"])
        assert one["interrupts"] == (len(one["raised"]) if kind == "KeyboardInterrupt" else 0), one
        assert one["unraised"] == [], one
        if kind == "Fault":
            ours = {error.removeprefix("Fault: ") for error in one["errors"] if error.startswith("Fault: ")}
            assert ours <= set(one["raised"]) and one["counted"] >= len(one["raised"]), one
            assert len(one["errors"]) - len(ours) <= 2, one  # what came of a callback that was not done to its end
            assert one["left"] == ["asked to"], one
    assert raised > rounds * faults / 2
