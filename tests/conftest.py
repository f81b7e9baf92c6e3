"""For every test."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what runs in the background ignore Ctrl-C, and the commands that tests start and interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
