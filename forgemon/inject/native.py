"""The way in for x86-64 Linux: Py_AddPendingCall(PyRun_SimpleString, source), called in the main thread with ptrace.

The interpreter then runs the source between two bytecodes of that thread, at a moment of its own choosing. Only the main
thread is held, for about two milliseconds; no library is loaded, no memory is taken from the program's allocator, no
code of the program is changed. What stays behind is a mapping of a few kilobytes that holds the source: the interpreter reads
it when it gets to it, and nobody can tell when that is over.

A system call that is interrupted goes on by itself, but for the few that Linux ends with EINTR after any stop (epoll_wait,
sigtimedwait: signal(7)); Python and the C library take that for what it is and call again.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from forgemon.inject import procfs
from forgemon.inject.errors import AttachError, gone
from forgemon.inject.held import (
    TRAMPOLINE,
    CallFailed,
    ForeignStack,
    HeldThread,
    ReturnCode,
    StoppedByUser,
    held,
)
from forgemon.inject.procfs import Mapping
from forgemon.inject.ptrace import TargetGone, Unresponsive
from forgemon.inject.python import PythonProcess

_MMAP, _MUNMAP = 9, 11
_READ_AND_EXECUTE, _PRIVATE_ANONYMOUS = 5, 0x22
_SOURCE_AT = 64
_STACK_BYTES_MAX = 1 << 26
_FOREIGN_STACK_TRIES = 20
_SYSCALL = re.compile(rb"\x0f\x05\xc3")  # syscall; ret
_SIGRETURN = re.compile(rb"(?:\x48\xc7\xc0|\xb8)\x0f\0\0\0\x0f\x05")  # mov $15, %rax or %eax; syscall

_POSTPONED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"Signals to this tool that wait until the target runs again: the last three would stop the tool and leave the target held."


class NativeWay:
    name = "ptrace"

    def __init__(self, target: PythonProcess) -> None:
        """Looks up all it needs, so that the target is held only for as long as the calls take. AttachError."""
        self._target = target
        maps = procfs.mappings(target.pid)
        self._stack = _stack(maps)
        with _memory(target.pid, os.O_RDONLY) as memory:
            self._code = _return_code(memory, maps)

    def inject(self, source: str) -> None:
        data = TRAMPOLINE.ljust(_SOURCE_AT, b"\0") + source.encode() + b"\0"
        failures: list[BaseException] = []

        def injection() -> None:
            try:
                self._inject(data)
            except BaseException as failure:  # raised again by the caller of this thread
                failures.append(failure)

        before = signal.pthread_sigmask(signal.SIG_BLOCK, _POSTPONED)
        try:
            # The kernel lets go of a thread that cannot be detached from when its tracer ends, and a tracer is a thread.
            thread = threading.Thread(target=injection, name="forgemon injection")
            thread.start()
            thread.join()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if failures:
            raise _explained(self._target.pid, failures[0])

    def _inject(self, data: bytes) -> None:
        with _memory(self._target.pid, os.O_RDWR) as memory:
            for left in reversed(range(_FOREIGN_STACK_TRIES)):
                try:
                    with held(self._target.pid, memory, self._code, self._stack) as thread:
                        self._schedule(thread, data)
                    return
                except ForeignStack:
                    if not left:
                        raise
                    threading.Event().wait(0.01)

    def _schedule(self, thread: HeldThread, data: bytes) -> None:
        pid, functions = self._target.pid, self._target.addresses
        page = thread.system_call(_MMAP, 0, len(data), _READ_AND_EXECUTE, _PRIVATE_ANONYMOUS, -1, 0)
        if page < 0:
            raise AttachError(
                f"PID {pid} has no memory for {len(data)} bytes of ours: {os.strerror(-page)}. "
                "Raise its memory limit, or start it with: forgemon run -- COMMAND"
            )
        try:
            thread.write(page, data)
            if thread.call(page, functions["Py_IsInitialized"]) != 1:
                raise AttachError(f"Python is starting up or shutting down in PID {pid}. Try again in a moment")
        except BaseException:
            thread.abandon_call()
            thread.system_call(_MUNMAP, page, len(data))
            raise
        # From here on the interpreter may know of the source, even if the call below does not return in time.
        if thread.call(page, functions["Py_AddPendingCall"], functions["PyRun_SimpleString"], page + _SOURCE_AT) != 0:
            thread.system_call(_MUNMAP, page, len(data))
            raise AttachError(
                f"the main thread of PID {pid} has not been in Python for so long that its queue of calls is full. "
                "Try again when it is back"
            )


@contextmanager
def _memory(pid: int, flags: int) -> Iterator[int]:
    memory = os.open(f"/proc/{pid}/mem", flags | os.O_CLOEXEC)
    try:
        yield memory
    finally:
        os.close(memory)


def _stack(maps: Sequence[Mapping]) -> range:
    """The addresses the main thread's own stack may grow over."""
    end = max((mapping.end for mapping in maps if mapping.path == "[stack]"), default=0)
    return range(max(0, end - _STACK_BYTES_MAX), end)


def _return_code(memory: int, maps: Sequence[Mapping]) -> ReturnCode:
    """Search the C library first, then all other code. AttachError where there is none: no known C library lacks it."""
    code = [mapping for mapping in maps if "x" in mapping.permissions and mapping.path.startswith("/")]
    syscall = sigreturn = 0
    for mapping in sorted(code, key=lambda mapping: not re.search(r"/(libc[.-]|ld-musl)", mapping.path)):
        data = os.pread(memory, mapping.end - mapping.start, mapping.start)
        if not syscall and (match := _SYSCALL.search(data)):
            syscall = mapping.start + match.start()
        if not sigreturn and (match := _SIGRETURN.search(data)):
            sigreturn = mapping.start + match.start()
        if syscall and sigreturn:
            return ReturnCode(syscall, sigreturn)
    raise AttachError("the C library of that process is of an unknown kind. Start it with: forgemon run -- COMMAND")


def _explained(pid: int, failure: BaseException) -> BaseException:
    """What went wrong as one line; anything unforeseen as it is."""
    if isinstance(failure, TargetGone) or (isinstance(failure, OSError) and failure.errno in (errno.ESRCH, errno.ENOENT)):
        return gone(pid)
    if isinstance(failure, StoppedByUser):
        return AttachError(f"PID {pid} was stopped just now. Resume it (kill -CONT {pid}) and try again")
    if isinstance(failure, Unresponsive):
        return AttachError(
            f"the main thread of PID {pid} cannot be interrupted{_kernel_wait(pid)}: it waits for a disk or a device. "
            "Nothing was changed; try again when it is through"
        )
    if isinstance(failure, PermissionError):
        return AttachError(
            f"the kernel refuses to trace PID {pid}. Use sudo, or inside a container start it with --cap-add=SYS_PTRACE"
        )
    if isinstance(failure, (CallFailed, ForeignStack)) or (isinstance(failure, OSError) and failure.errno == errno.EIO):
        return AttachError(
            f"PID {pid} could not be attached to at this moment ({_reason(failure)}); nothing was changed. Try again"
        )
    return failure


def _reason(failure: BaseException) -> str:
    if isinstance(failure, ForeignStack):
        return "its main thread is inside a signal handler or a coroutine of C code"
    return str(failure) or type(failure).__name__


def _kernel_wait(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return f" (in {name})" if name not in ("", "0") else ""
