"""For every test."""

from __future__ import annotations

import signal

# A shell lets what runs in the background ignore Ctrl-C, and nohup lets it ignore that the terminal hangs up; the commands that tests
# start, interrupt and hang up on would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
