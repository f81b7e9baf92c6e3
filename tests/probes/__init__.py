"""Tests of the probes: real loops in real processes, compared with what the loop itself measured."""
