"""Runs inside the target, once, within a pending call of its main thread. Its source is what is injected; see boot.py.

An exception that left it would end the user's loop, and it may interrupt an import of any module. So it raises nothing and
imports nothing on its way but `sys` and `os`, which are never being imported at that time.
"""

from __future__ import annotations

import os
import sys


def boot(config: dict[str, object], bootstrap: str) -> None:
    """Load the probes' bootstrap from its file and start it. What goes wrong is written to RUN/boot-error.txt."""
    try:
        _start(config, bootstrap)
    except BaseException as error:
        number = _signal_whose_handler_raised(error)
        if number is None:
            _record(error, str(config["run_dir"]))
        else:
            _deliver_again(number)


def _start(config: dict[str, object], bootstrap: str) -> None:
    rank = os.environ.get("RANK", "0")
    if os.path.exists(f"{config['run_dir']}/rank-{rank if rank.isdigit() else 0}/detach"):
        return  # the user gave up before the main thread came back to Python
    with open(bootstrap, encoding="utf-8") as file:
        source = file.read()
    module = type(sys)("_forgemon_bootstrap")
    module.__file__ = bootstrap
    exec(compile(source, bootstrap, "exec", dont_inherit=True), module.__dict__)
    module.__dict__["start"](config)


def _record(error: BaseException, run: str) -> None:
    try:
        import traceback

        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # its file cannot be read any more, or its import is what we interrupted
        text = f"{type(error).__name__}: {error}\n"
    try:
        with open(f"{run}/boot-error.txt", "a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError:
        pass  # the folder is gone or the disk is full: the tool will say that nothing came back


def _signal_whose_handler_raised(error: BaseException) -> int | None:
    """A signal handler of the user's may raise in the middle of our code (Ctrl-C does): that exception is not ours to keep."""
    trace = error.__traceback__
    if trace is None:
        return None
    while True:
        frame = trace.tb_frame
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        values = [frame.f_locals.get(name) for name in names]
        for i, number in enumerate(values[:-1]):
            if isinstance(number, int) and isinstance(values[i + 1], type(frame)):
                return int(number)
        if trace.tb_next is None:
            break
        trace = trace.tb_next
    if isinstance(error, KeyboardInterrupt) and not _raised_by_statement(frame.f_code.co_code[trace.tb_lasti]):
        return 2  # SIGINT, whose default handler is in C and leaves no frame
    return None


def _raised_by_statement(instruction: int) -> bool:
    import opcode

    return bool(instruction == opcode.opmap["RAISE_VARARGS"])


def _deliver_again(number: int) -> None:
    """Send the signal once more when the main thread has left our code, so that its handler raises in the user's."""
    import _signal  # type: ignore[import-not-found]  # the part in C of `signal`, always there
    import _thread
    import time

    main = _thread.get_ident()
    ours = sys._getframe(3)  # below it: boot, the module around it, and what PyRun_SimpleString runs

    def deliver() -> None:
        while True:
            frame = sys._current_frames().get(main)
            while frame is not None and frame is not ours:
                frame = frame.f_back
            if frame is None:
                _signal.pthread_kill(main, number)
                return
            time.sleep(0.001)

    _thread.start_new_thread(deliver, ())
