"""Loads the probes into a process started under `forgemon run` as soon as it has imported torch. Stdlib only, any Python 3.10+."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # importing typing, or json before it is needed, would cost every process under us milliseconds
if TYPE_CHECKING:
    from typing import Any

VARIABLE = "FORGEMON_RUN"
NAMESPACE = "_forgemon_bootstrap"


def prepare() -> None:
    """Put the hook that waits for torch in place, where `forgemon run` asked for it."""
    text = os.environ.get(VARIABLE)
    if text:
        sys.meta_path.insert(0, TorchWaiter(text))


class TorchWaiter:
    """A finder that finds nothing itself: it lets the other finders find torch and notices when it has been executed."""

    def __init__(self, config: str) -> None:
        self.config = config

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "torch":
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Any) -> None:
        """Shadow the loader's exec_module for one call: afterwards torch.__loader__ is as it would be without us."""
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            loader.__dict__.pop("exec_module", None)
            execute(module)  # when this fails the hook stays: programs try again, or another way
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                # The import system would say so next. The probes take a torch that still initializes for an unfinished one.
                module.__spec__._initializing = False
                start(self.config)

        try:
            loader.exec_module = exec_module
        except AttributeError as error:
            record_failure(self.config, error)


def start(text: str) -> None:
    """Load probes/bootstrap.py from its folder and start it; a failure is recorded and the program goes on unwatched.

    `text` is the JSON object that `forgemon run` put into the environment.
    """
    import json

    try:
        config: dict[str, Any] = json.loads(text)
        path = os.path.join(config["probes"], "bootstrap.py")
        with open(path, encoding="utf-8") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        namespace: dict[str, Any] = {"__name__": NAMESPACE, "__file__": path}
        exec(code, namespace)
        namespace["start"]({**config, "host_pid": os.getpid()})
    except Exception as error:
        record_failure(text, error)


def record_failure(text: str, error: Exception) -> None:
    """One line in the rank's events, as the probes write their own failures."""
    import json

    event = {
        "time": time.time(),
        "step": -1,
        "kind": "probe_error",
        "where_in_probe": "launch",
        "error": f"{type(error).__name__}: {error}"[:1000],
    }
    try:
        folder = os.path.join(json.loads(text)["run_dir"], "rank-" + os.environ.get("RANK", "0"))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "events.jsonl"), "a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(event) + "\n")
    except (OSError, ValueError, KeyError):
        return  # a run directory nobody can name or write to: there is no place to say it
