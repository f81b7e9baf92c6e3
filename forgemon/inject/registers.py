"""The registers of a stopped x86-64 thread, and the signal frame from which the kernel itself can give them back."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import NamedTuple

RED_ZONE_BYTES = 128
"Below the stack pointer, in use without being claimed (System V ABI)."

_LAYOUT = struct.Struct("<27Q")
_NO_SYSCALL = 2**64 - 1
_RT_SIGRETURN, _RESTART_SYSCALL = 15, 219
# Of include/linux/errno.h: what rax holds in a stopped thread whose system call the kernel will start again by itself.
_RESTARTED_AS_IT_WAS = (-512, -513, -514)
_RESTARTED_BY_BLOCK = -516


class Registers(NamedTuple):
    """struct user_regs_struct, in its order."""

    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int

    @classmethod
    def unpack(cls, data: bytes) -> Registers:
        return cls(*_LAYOUT.unpack(data))

    def pack(self) -> bytes:
        return _LAYOUT.pack(*self)

    def outside_syscall(self, **changes: int) -> Registers:
        """A copy with `changes` which the kernel does not take for an interrupted system call: it would restart that."""
        return self._replace(orig_rax=_NO_SYSCALL, **changes)

    @property
    def result(self) -> int:
        """rax as a signed number."""
        return self.rax - 2**64 if self.rax >> 63 else self.rax


REGISTERS_BYTES = _LAYOUT.size


@dataclass(frozen=True)
class ThreadState:
    """Everything a function call in the thread could change."""

    registers: Registers
    extended: bytes
    "NT_X86_XSTATE: x87, SSE, AVX and what else the processor has, in the processor's own standard XSAVE layout."
    blocked_signals: int
    "One bit a signal."


@dataclass(frozen=True)
class SignalFrame:
    """The bytes the kernel would push for a signal handler: whatever returns into it gives the thread its state back.

    The thread runs our call as if it were a signal handler. So it finds its way back by itself should nobody be left to put
    its registers back: the tool can be killed at any moment.
    """

    address: int
    "Of the first byte; also the stack pointer at the function's first instruction."
    data: bytes


def signal_frame(state: ThreadState, return_address: int) -> SignalFrame:
    """struct rt_sigframe (arch/x86/include/asm/sigframe.h) for `state`, placed below the thread's stack.

    `return_address` is of code that calls rt_sigreturn with the stack pointer as the function left it.
    """
    extended = _sigframe_xstate(state.extended)
    extended_at = (state.registers.rsp - RED_ZONE_BYTES - len(extended)) & ~63
    context = _ucontext(state, extended_at)
    siginfo = bytes(128)
    address = ((extended_at - 8 - len(context) - len(siginfo)) & ~15) - 8
    head = struct.pack("<Q", return_address) + context + siginfo
    return SignalFrame(address, head.ljust(extended_at - address, b"\0") + extended)


def _ucontext(state: ThreadState, extended_at: int) -> bytes:
    r = _after_restart(state.registers)
    flags = 1 | 2 | 4  # UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
    # No such ss_flags exist: the kernel ignores the attempt to set them and leaves the alternate stack as it is.
    alternate_stack = struct.pack("<QiiQ", 0, 4, 0, 0)
    general = [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15]
    general += [r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags]
    context = struct.pack("<18Q4H", *general, r.cs, r.gs & 0xFFFF, r.fs & 0xFFFF, r.ss)
    context += struct.pack("<5Q", 0, 0, 0, 0, extended_at) + bytes(64)
    return struct.pack("<QQ", flags, 0) + alternate_stack + context + struct.pack("<Q", state.blocked_signals)


def _after_restart(registers: Registers) -> Registers:
    """What the kernel makes of an interrupted system call before it calls a handler that asked for restarts."""
    if registers.orig_rax == _NO_SYSCALL:
        return registers
    if registers.result in _RESTARTED_AS_IT_WAS:
        return registers._replace(rax=registers.orig_rax, rip=registers.rip - 2)
    if registers.result == _RESTARTED_BY_BLOCK:  # rt_sigreturn forgets how to go on with it; EINTR is what a handler leaves
        return registers._replace(rax=2**64 - errno.EINTR)
    return registers


_SOFTWARE_BYTES_AT, _HEADER_AT, _LEGACY_BYTES = 464, 512, 576
_TILE_DATA_BIT, _TILE_DATA_BYTES = 1 << 18, 8192


def _sigframe_xstate(extended: bytes) -> bytes:
    """`extended` with the marks by which the kernel knows it in a signal frame (struct _fpx_sw_bytes)."""
    (used,) = struct.unpack_from("<Q", extended, _HEADER_AT)
    size = len(extended)
    if size >= _LEGACY_BYTES + _TILE_DATA_BYTES and not used & _TILE_DATA_BIT:
        # AMX tiles come last, and only a thread that uses them has room for them; more than its room is not accepted.
        size -= _TILE_DATA_BYTES
    (features,) = struct.unpack_from("<Q", extended, _SOFTWARE_BYTES_AT)  # ptrace puts XCR0 here
    marks = struct.pack("<IIQI28x", 0x46505853, size + 4, features or used, size)
    return extended[:_SOFTWARE_BYTES_AT] + marks + extended[_HEADER_AT:size] + struct.pack("<I", 0x46505845)
