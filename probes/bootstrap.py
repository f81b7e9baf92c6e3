"""The first of us to run in a process: waits for torch, loads the other modules under a private name, starts the session.

It is executed from its source text in a namespace of its own, not imported: a module of the program's may be called `probes` too, and
the import system must not be entered while the main thread may be in the middle of an import. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from typing import Any

PACKAGE = "_forgemon_probes"
STATE = "_forgemon_probe"
ORDER = (
    "record own_file table modules "
    "where schedule expected turns writer "
    "bytecode calls_within frames observe "
    "dynamo torch_modes capture threads interrupts guard pending moment transfer graph_marks losses "
    "batch_data directions drivers evaluations listener unnamed passes "
    "discover gradients reuse checkpoints asleep pace attention counters "
    "looks run_info loader_identity training_data undecided attacks window batch_at_hand loop rows known parameters "
    "scalars kept_results result_names validation probe facts series kept logged "
    "updates loss_lines "
    "loader_description modes eval_mode train_mode eval_grad "
    "owners program keeping cuts clearing holders retained clipping scaler accumulation softmax_input discarded "
    "cut_graph frozen mismatch ribbon "
    "loader_roles row_hashes same_samples sample_overlap shared_memory watched_loader loader_facts loaders "
    "devices memory "
    "copies saved_files save_calls fingerprints whole_checkpoints trained_since checkpoint_facts "
    "extremes "
    "batch_inputs "
    "layer_outputs "
    "nonfinite_order "
    "nonfinite "
    "new_models compilers probe_list instruments step_rows optimizers steps step_hooks signals roots uncaught run_folder period "
    "held_names leaving session"
).split()
"""Modules in the order of their imports, so that each finds those it needs."""


def start(config: dict[str, Any]) -> None:
    """Begin to watch this process. `config`: run_dir, mode, forgemon, git, host_pid, budget; probes_dir is where we come from."""
    config = dict(config)
    config.setdefault("probes_dir", os.path.dirname(os.path.abspath(globals()["__file__"])))
    state = sys.modules.get(STATE)
    session = getattr(state, "session", None)
    if session is not None and session.active:
        _tell(config, "refused", message="this process is already watched", run_dir=session.folder.path)
        return
    if torch_is_ready():
        enter(config)
        return
    _tell(config, "waiting", **{"for": "torch"}, message="PyTorch has not finished loading")
    import _thread

    _thread.start_new_thread(_wait_for_torch, (config,))


def torch_is_ready() -> bool:
    """Whether torch and the parts we observe are imported to their end."""
    for name in ("torch", "torch.optim.optimizer", "torch.utils.data.dataloader", "torch.nn.functional"):
        module = sys.modules.get(name)
        if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
            return False
    return True


def enter(config: dict[str, Any]) -> None:
    """Load the package and start the session; on the main thread."""
    try:
        session = load(config["probes_dir"]).Session(config)
        state = types.ModuleType(STATE)
        state.session = session  # type: ignore[attr-defined]
        sys.modules[STATE] = state
        session.enter()
    except Exception as error:
        _tell(config, "refused", message=f"the probes cannot work here: {type(error).__name__}: {error}", run_dir=None)
        raise


def load(directory: str) -> Any:
    """The session module, with the package under its private name in sys.modules."""
    package = types.ModuleType(PACKAGE)
    package.__path__ = []
    package.codes = []  # type: ignore[attr-defined]  # of the modules: a profile under way reads the names in them (held_names.py)
    sys.modules[PACKAGE] = package
    for name in ORDER:
        code = _code(directory, name)
        package.codes.append(code)
        module = types.ModuleType(f"{PACKAGE}.{name}")
        module.__package__ = PACKAGE
        module.__file__ = code.co_filename
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(code, module.__dict__)
    return sys.modules[f"{PACKAGE}.session"]


def _code(directory: str, name: str) -> types.CodeType:
    path = os.path.join(directory, name + ".py")
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), path, "exec")


def _wait_for_torch(config: dict[str, Any]) -> None:
    """On a thread of its own: hand over to the main thread once torch is there. Ends with the request to detach, too."""
    rank_directory = _rank_directory(config)
    while not torch_is_ready():
        if os.path.exists(os.path.join(rank_directory, "detach")):
            return
        time.sleep(0.05)
    namespace: dict[str, Any] = {"__name__": PACKAGE + "_pending"}
    exec(_code(config["probes_dir"], "pending"), namespace)
    while not namespace["post"](lambda: _enter_late(config)):
        time.sleep(0.05)


def _enter_late(config: dict[str, Any]) -> None:
    try:
        enter(config)
    except Exception:
        _tell(config, "refused", message="see boot-error.txt", run_dir=None)


def _rank_directory(config: dict[str, Any]) -> str:
    rank = os.environ.get("RANK", "0")
    return os.path.join(config["run_dir"], f"rank-{rank if rank.isdigit() else 0}")


def _tell(config: dict[str, Any], kind: str, **fields: Any) -> None:
    """One event, written here because the writer is not loaded yet."""
    directory = _rank_directory(config)
    try:
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "events.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), "step": 0, "kind": kind, **fields}) + "\n")
    except OSError:
        return  # nowhere to say it; the tool sees that nothing came
