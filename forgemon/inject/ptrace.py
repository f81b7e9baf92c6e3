"""One thread of another process, held with ptrace: a thin, typed layer with a deadline on every wait. x86-64 Linux."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from forgemon.inject.registers import REGISTERS_BYTES, Registers, ThreadState

# include/uapi/linux/ptrace.h and elf.h
_CONTINUE, _DETACH, _SYSCALL = 7, 17, 24
_GET_REGISTER_SET, _SET_REGISTER_SET, _SEIZE, _INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
_GET_SIGNAL_INFO, _GET_BLOCKED, _SET_BLOCKED = 0x4202, 0x420A, 0x420B
_GENERAL, _EXTENDED = 1, 0x202
_MARK_SYSCALL_STOPS = 1
"PTRACE_O_TRACESYSGOOD. Never PTRACE_O_EXITKILL: it would end the target when the tool is killed."

_EXTENDED_BYTES_MAX = 65536
_POLL_S = 0.0001


class TargetGone(Exception):
    """The thread ended while it was held."""


class Unresponsive(Exception):
    """The thread did not stop within the deadline: it sits in an uninterruptible wait, or its machine is very busy."""


@dataclass(frozen=True)
class Stop:
    """Why a traced thread stands still."""

    signal: int
    event: int

    @property
    def at_syscall(self) -> bool:
        return self.signal == signal.SIGTRAP | 0x80

    @property
    def at_interrupt(self) -> bool:
        return self.event == 128 and self.signal == signal.SIGTRAP

    @property
    def by_group_stop(self) -> bool:
        """The whole process was stopped, by SIGSTOP or from its terminal."""
        return self.event == 128 and self.signal != signal.SIGTRAP

    @property
    def before_signal(self) -> int:
        """The signal that is about to be delivered, or 0."""
        return 0 if self.at_syscall or self.event else self.signal


class TracedThread:
    """The main thread of a process, seized. Made by `traced`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._extended = ctypes.create_string_buffer(_EXTENDED_BYTES_MAX)
        self._general = ctypes.create_string_buffer(REGISTERS_BYTES)
        self._blocked = ctypes.create_string_buffer(8)
        self._signal_info = ctypes.create_string_buffer(128)

    def interrupt(self) -> None:
        """Ask the thread to stop; it does at once unless the kernel cannot interrupt what it does."""
        _ptrace(_INTERRUPT, self.pid)

    def resume(self, signal_number: int = 0, *, to_syscall: bool = False) -> None:
        """Let the stopped thread run, with the signal it was stopped for or without, and maybe only up to a system call."""
        _ptrace(_SYSCALL if to_syscall else _CONTINUE, self.pid, 0, signal_number)

    def wait(self, deadline: float) -> Stop:
        """The next stop. TargetGone, or Unresponsive when time.monotonic() passes `deadline`.

        Never collects the exit status: it belongs to the parent, which may well be this process.
        """
        while (seen := self._peek()) is None:
            if time.monotonic() > deadline:
                raise Unresponsive
            time.sleep(_POLL_S)
        if seen.si_code != os.CLD_TRAPPED:
            raise TargetGone
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        return Stop(seen.si_status & 0xFF, seen.si_status >> 8)

    def _peek(self) -> os.waitid_result | None:
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            raise TargetGone from None

    def registers(self) -> Registers:
        self._register_set(_GET_REGISTER_SET, _GENERAL, self._general, REGISTERS_BYTES)
        return Registers.unpack(self._general.raw)

    def set_registers(self, registers: Registers) -> None:
        self._general.raw = registers.pack()
        self._register_set(_SET_REGISTER_SET, _GENERAL, self._general, REGISTERS_BYTES)

    def signal_is_sent(self) -> bool:
        """Whether the signal before which it stopped was sent by someone, and not raised by what the thread does itself."""
        _ptrace(_GET_SIGNAL_INFO, self.pid, 0, ctypes.addressof(self._signal_info))
        _, _, code = struct.unpack_from("<3i", self._signal_info.raw)
        return bool(code <= 0)

    def state(self) -> ThreadState:
        size = self._register_set(_GET_REGISTER_SET, _EXTENDED, self._extended, _EXTENDED_BYTES_MAX)
        _ptrace(_GET_BLOCKED, self.pid, 8, ctypes.addressof(self._blocked))
        (blocked,) = struct.unpack("<Q", self._blocked.raw)
        return ThreadState(self.registers(), self._extended.raw[:size], blocked)

    def set_state(self, state: ThreadState) -> None:
        """Only where `Stop.at_interrupt` or `Stop.before_signal`: from there the kernel restarts an interrupted system call.

        Registers last: until then the thread finds its own way back through its signal frame, should the tool be killed here.
        """
        self._extended.raw = state.extended.ljust(_EXTENDED_BYTES_MAX, b"\0")
        self._register_set(_SET_REGISTER_SET, _EXTENDED, self._extended, len(state.extended))
        self.block_signals(state.blocked_signals)
        self.set_registers(state.registers)

    def block_signals(self, mask: int) -> None:
        self._blocked.raw = struct.pack("<Q", mask)
        _ptrace(_SET_BLOCKED, self.pid, 8, ctypes.addressof(self._blocked))

    def _register_set(self, request: int, kind: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), size)  # struct iovec
        _ptrace(request, self.pid, kind, ctypes.addressof(vector))
        return int(vector[1])


@contextmanager
def traced(pid: int) -> Iterator[TracedThread]:
    """Seize the main thread, which goes on running, and let go of it at the end. PermissionError, ProcessLookupError.

    A thread that does not run is let go as it stands. One that runs cannot be let go by request: the kernel does that when
    the calling thread ends, which is why the injection has a thread of its own.
    """
    _ptrace(_SEIZE, pid, 0, _MARK_SYSCALL_STOPS)
    try:
        yield TracedThread(pid)
    finally:
        with suppress(ProcessLookupError):  # gone, or running
            _ptrace(_DETACH, pid)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
