"""Injection into real processes."""
