"""Attach to a running PyTorch loop, see it live, replay it, and be told what is wrong."""

__version__ = "0.1.0"
