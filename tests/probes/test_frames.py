"""Variables of a running frame are read by name, and reading leaves no trace in it. FORGEMON_TEST_PYTHONS names more interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FRAMES = Path(__file__).resolve().parents[2] / "probes" / "frames.py"
PYTHONS = [sys.executable, *(path for path in os.environ.get("FORGEMON_TEST_PYTHONS", "").split(os.pathsep) if path)]

PRELUDE = """
import importlib.util, sys, types, weakref
found = importlib.util.spec_from_file_location("frames", sys.argv[1])
frames = importlib.util.module_from_spec(found)
found.loader.exec_module(frames)
class Thing: pass
def read(depth=1, names=None):
    return frames.variables(sys._getframe(depth), names)
"""

CASES = {
    "every kind of variable": """
        def loop(argument, taken, *rest, option=3, **more):
            loss, epoch = 1.5, 4
            if argument > 100:
                unbound = 1
            gone = 1
            del gone
            def closure():
                return taken, epoch, later
            values = read()
            later = 1
            return values, closure
        values, closure = loop(1, 2.5, 7, option=4, key=5)
        assert values.pop("closure") is closure
        expected = {"argument": 1, "taken": 2.5, "rest": (7,), "option": 4, "more": {"key": 5}, "loss": 1.5, "epoch": 4}
        assert values == expected, values
    """,
    "free variables of an inner function": """
        def outer():
            best, hidden = 0.5, 1
            def inner():
                own = best + 1
                return read()
            return inner()
        assert outer() == {"best": 0.5, "own": 1.5}
    """,
    "those asked for alone": """
        def loop():
            epoch, step, loss = 3, 7, 0.5
            return read(names=["epoch", "loss", "absent"])
        assert loop() == {"epoch": 3, "loss": 0.5}
    """,
    "a generator's": """
        def batches():
            for index in range(3):
                yield read()
        assert [values["index"] for values in batches()] == [0, 1, 2]
    """,
    "a method's, and of code that is deep in other calls": """
        class Trainer:
            def fit(self):
                rate = 0.25
                return list(map(lambda depth: read(depth), [2]))[0]
        trainer = Trainer()
        values = trainer.fit()
        assert values["rate"] == 0.25 and values["self"] is trainer
    """,
    "as they change": """
        def loop():
            seen = []
            for loss in (3.0, 2.0, 1.0):
                seen.append(read(names=["loss"])["loss"])
            return seen
        assert loop() == [3.0, 2.0, 1.0]
    """,
    "the module's": """
        learning_rate = 0.5
        values = read()
        assert values["learning_rate"] == 0.5 and values is not globals()
        values["learning_rate"] = 1.0
        assert learning_rate == 0.5
    """,
    "of code run with names of its own": """
        names = {"read": read}
        exec("loss = 2.0; values = read()", {}, names)
        assert names["values"]["loss"] == 2.0
        class Mapping(dict):
            def __getitem__(self, key):
                if asked is not None:
                    asked.append(key)
                return dict.__getitem__(self, key)
        asked, mapping = None, Mapping(read=read, frames=frames, sys=sys)
        exec("frame = sys._getframe()", {}, mapping)
        frame, asked = mapping["frame"], []
        assert frames.variables(frame) == {}
        assert asked == [], "code of the program's ran"
    """,
    "nothing is kept alive": """
        def loop():
            thing = Thing()
            alive = weakref.ref(thing)
            read()
            del thing
            return alive() is None
        assert loop()
        def rebinds():
            thing = Thing()
            alive = weakref.ref(thing)
            read(names=["thing"])
            thing = None
            return alive() is None
        assert rebinds()
    """,
    "the program's own locals() are as without us": """
        def watched(argument):
            first = 1
            snapshot = locals()
            later = 2
            read()
            return sorted(snapshot), sorted(snapshot.items(), key=str)[0]
        def plain(argument):
            first = 1
            snapshot = locals()
            later = 2
            return sorted(snapshot), sorted(snapshot.items(), key=str)[0]
        assert watched(5) == plain(5)
    """,
    "a module within its comprehension": """
        split = "val"
        found = [read() for number in [5]][0]
        assert found["number"] == 5
        assert sys.version_info < (3, 12) or found["split"] == "val"
        assert sys.version_info < (3, 12) or [frames.variables(sys._getframe(), ("split", "number")) for number in [5]] == [
            {"split": "val", "number": 5}
        ]
    """,
    "a module whose comprehension has a cell": """
        split = "val"
        calls = [lambda: number for number in (1, 2)]
        before = sorted(globals())
        assert read()["split"] == "val"
        within = [(lambda: (number, frames.variables(sys._getframe(1))))() for number in (1, 2)]
        assert sys.version_info < (3, 12) or within[1][1]["split"] == "val"
        assert sorted(set(globals()) - set(before)) == ["before", "within"]
    """,
    "a class body and exec() with variables of their own, within a comprehension": """
        split = "of the module"
        class Settings:
            split = "of the class"
            found = [read() for number in [5]][0]
        names = {"read": read}
        exec("split = 'of exec'\\nfound = [read() for number in [5]][0]", names, mine := {})
        for found in (Settings.found, mine["found"]):
            assert found.get("split") != "of the module"
    """,
    "a frame that lies another way is not read": """
        frames._CODE_3_10 = frames._CODE_3_11 = 40
        def loop():
            loss = 1.0
            return read()
        assert loop() == {} or sys.version_info >= (3, 12)
    """,
    "slots elsewhere are found out before the first use": """
        right, frames._SLOTS_3_10, frames._SLOTS_3_11 = frames._slots, frames._SLOTS_3_10, frames._SLOTS_3_11
        frames._slots = lambda code: right(code)[1:] + right(code)[:1]
        def loop():
            first, second = 1.0, 2.0
            return read()
        assert loop() == {} or sys.version_info >= (3, 12)
    """,
}


def run(python: str, program: str) -> str:
    done = subprocess.run([python, "-c", PRELUDE + program, str(FRAMES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("python", PYTHONS)
def test_variables(python: str, case: str) -> None:
    run(python, textwrap.dedent(CASES[case]))


@pytest.mark.parametrize("python", PYTHONS)
def test_this_interpreter_is_read(python: str) -> None:
    reader = run(
        python, "def loop():\n    loss = 1.0\n    return read()\nassert loop() == {'loss': 1.0}\nprint(frames._reader.__name__)"
    )
    assert reader in ("_by_slot", "_by_name", "_by_view")
