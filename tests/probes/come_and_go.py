"""Put before a script, attaches to it, detaches and attaches again at random moments, as the injector does it: by pending calls.

`sys.argv`: the script, then a configuration as JSON. Without one nothing happens.
"""

import ctypes
import json
import random
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

over = threading.Event()


def on_main_thread(action: Callable[[], Any]) -> None:
    """Between two instructions of the main thread; returns when it is done."""
    done = threading.Event()

    def call(_: Any) -> int:
        try:
            action()
        except Exception as error:  # which the injector reports; here it shows in what the program printed
            print(f"attach failed: {error!r}", *traceback.format_exception(error), flush=True)
        done.set()
        return 0

    pending = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(call)
    ctypes.pythonapi.Py_AddPendingCall(pending, None)
    done.wait()


def come_and_go(config: dict[str, Any]) -> None:
    bootstrap, runs = config["bootstrap"], Path(config["runs"])
    moments = random.Random(config["seed"])
    namespace: dict[str, Any] = {"__name__": "_forgemon_bootstrap", "__file__": bootstrap}
    exec(compile(Path(bootstrap).read_text(), bootstrap, "exec"), namespace)
    number = 0
    while not over.wait(moments.uniform(0, 0.1)):  # not to wait for something: the moments are to be random
        budget = 0.01 * (number % 2)
        run = {"run_dir": str(runs / str(number)), "mode": "attach", "forgemon": "test", "budget": budget}
        on_main_thread(lambda run=run: namespace["start"](run))  # type: ignore[misc]
        session = sys.modules["_forgemon_probe"].session
        over.wait(moments.uniform(0, 0.5))
        session.request_detach("asked to")
        session.writer._ended.acquire()
        number += 1


def stay_away(thread: threading.Thread) -> None:
    over.set()
    while thread.is_alive():
        thread.join(0.01)  # between which the main thread runs what is pending


if len(sys.argv) > 1:
    _thread = threading.Thread(target=come_and_go, args=(json.loads(sys.argv[1]),))
    _thread.start()
    threading._register_atexit(stay_away, _thread)  # type: ignore[attr-defined]
