"""Tests start the real thing."""
