"""The main thread of the target, held in the middle of whatever it does, and made to call functions there.

At every moment the thread can find its way back without us. Its stack holds a signal frame with all its registers, and
whatever we make it run returns into code that asks the kernel to take the thread back to that frame, as if a signal
handler had returned. So when the tool is killed (kill -9, out of memory), the kernel lets go of the thread, the thread
finishes our call by itself and goes on. Normally it does not come to that: we put the registers back, because only then does
the kernel restart an interrupted system call exactly as it was.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from forgemon.inject.ptrace import Stop, TracedThread, traced
from forgemon.inject.registers import Registers, ThreadState, signal_frame

STOP_DEADLINE_S = 5.0
CALL_DEADLINE_S = 2.0
"Py_AddPendingCall takes microseconds, unless the lock it needs is held by a thread that waits for a processor."

_RAISED_BY_CODE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)
_HELD_BACK = (1 << 64) - 1 & ~sum(1 << (number - 1) for number in _RAISED_BY_CODE)
_FLAGS_CLEARED = 0x400 | 0x100  # the ABI wants the direction flag clear at a call; the trap flag would stop every instruction
_BEFORE_SYSCALL = -38  # what rax holds where a system call begins
_RT_SIGRETURN = 15

TRAMPOLINE = bytes.fromhex("89c3 b80f000000 0f05 ebf7")
"mov ebx, eax; again: mov eax, 15 (rt_sigreturn); syscall; jmp again. Keeps the result where a tracer can still read it."
_TRAMPOLINE_SYSCALL_END = 9


class StoppedByUser(Exception):
    """The process is stopped by SIGSTOP or from its terminal."""


class ForeignStack(Exception):
    """The thread is on another stack than its own: in a signal handler or a coroutine."""


class CallFailed(Exception):
    """The function we had called raised a signal. The thread was put back."""


@dataclass(frozen=True)
class ReturnCode:
    """Addresses of code that every C library has and that we borrow."""

    syscall: int
    "syscall; ret"
    sigreturn: int
    "mov $15, %rax; syscall: where every signal handler returns to."


class HeldThread:
    """Made by `held`. Its calls raise CallFailed, Unresponsive and TargetGone."""

    def __init__(self, thread: TracedThread, memory: int, code: ReturnCode, state: ThreadState) -> None:
        self._thread = thread
        self._memory = memory
        self._code = code
        self._state = state
        self._frame = signal_frame(state, code.sigreturn)
        self._running = False
        self.sent_meanwhile: list[int] = []
        "Signals that cannot be held back by the mask; they are sent again when the thread is its own again."

    def enter(self) -> None:
        """Lay the way back, then hold signals back: they stay queued in the kernel with all they carry."""
        self.write(self._frame.address, self._frame.data)
        # In this order: once the registers point at the way back, the signal mask comes back with them.
        self._point_at(self._code.sigreturn, stack=self._frame.address + 8)
        self._thread.block_signals(self._state.blocked_signals | _HELD_BACK)

    def write(self, address: int, data: bytes) -> None:
        if os.pwrite(self._memory, data, address) != len(data):
            raise OSError("a short write to the memory of the process")

    def system_call(self, number: int, *arguments: int) -> int:
        """Make a system call; its result, a negative errno for a failure."""
        self._return_to(self._code.sigreturn)
        self._point_at(self._code.syscall, *arguments, rax=number)

        def is_done(registers: Registers) -> bool:
            return registers.rip == self._code.syscall + 2 and registers.result != _BEFORE_SYSCALL

        return self._run_until(is_done).result

    def call(self, trampoline: int, function: int, *arguments: int) -> int:
        """Call a C function of at most three arguments that returns an int. `trampoline`: where TRAMPOLINE was written."""
        self._return_to(trampoline)
        self._point_at(function, *arguments)

        def is_done(registers: Registers) -> bool:
            return registers.rip == trampoline + _TRAMPOLINE_SYSCALL_END and registers.orig_rax == _RT_SIGRETURN

        registers = self._run_until(is_done)
        self._thread.set_registers(registers.outside_syscall())  # not back yet: the trampoline would try again
        result: int = struct.unpack("<i", struct.pack("<I", registers.rbx & 0xFFFFFFFF))[0]
        return result

    def abandon_call(self) -> None:
        """Bring the thread to a stop in the middle of a call that failed, so that another one can be made."""
        deadline = time.monotonic() + STOP_DEADLINE_S
        self._thread.interrupt()
        if not self._running:
            self._thread.resume()
        while not ((stop := self._thread.wait(deadline)).at_interrupt or stop.by_group_stop):
            self._note(stop)
            self._thread.resume()
        self._running = False

    def leave(self) -> None:
        """Put everything back, from wherever the thread is now. Unresponsive, TargetGone."""
        self.abandon_call()
        self._thread.set_state(self._state)

    def _return_to(self, address: int) -> None:
        self.write(self._frame.address, struct.pack("<Q", address))

    def _point_at(self, code: int, *arguments: int, rax: int = 0, stack: int = 0) -> None:
        flags = self._state.registers.eflags & ~_FLAGS_CLEARED
        registers = self._state.registers.outside_syscall(rip=code, rsp=stack or self._frame.address, rax=rax, eflags=flags)
        names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
        given = {name: value & (1 << 64) - 1 for name, value in zip(names, arguments, strict=False)}
        self._thread.set_registers(registers._replace(**given))

    def _run_until(self, is_done: Callable[[Registers], bool]) -> Registers:
        deadline = time.monotonic() + CALL_DEADLINE_S
        while True:
            self._thread.resume(to_syscall=True)
            self._running = True
            stop = self._thread.wait(deadline)
            self._running = False
            if stop.at_syscall:
                registers = self._thread.registers()
                if is_done(registers):
                    return registers
            elif not self._note(stop):
                raise CallFailed(signal.Signals(stop.before_signal).name)

    def _note(self, stop: Stop) -> bool:
        """Remember a signal somebody sent meanwhile. False for one that our own call raised."""
        number = stop.before_signal
        if not number:
            return True
        if number in _RAISED_BY_CODE and not self._thread.signal_is_sent():
            return False
        self.sent_meanwhile.append(number)
        return True


@contextmanager
def held(pid: int, memory: int, code: ReturnCode, stack: range) -> Iterator[HeldThread]:
    """Hold the main thread of `pid`; at the end it is exactly where and as it was. `memory`: of /proc/PID/mem, writable.

    `stack`: the addresses of the thread's own stack. StoppedByUser, ForeignStack, Unresponsive, TargetGone, OSError.
    """
    with traced(pid) as thread:
        stop_thread(thread)
        state = thread.state()
        if state.registers.rsp not in stack:
            raise ForeignStack
        target = HeldThread(thread, memory, code, state)
        try:
            target.enter()
            yield target
        finally:
            target.leave()
            for number in target.sent_meanwhile:
                os.kill(pid, number)  # waits in the kernel until the thread is let go


def stop_thread(thread: TracedThread) -> None:
    """Bring a running thread to a stop between two instructions of its own, delivering what signals come first."""
    thread.interrupt()
    deadline = time.monotonic() + STOP_DEADLINE_S
    while not (stop := thread.wait(deadline)).at_interrupt:
        if stop.by_group_stop:
            raise StoppedByUser
        thread.resume(stop.before_signal)
