"""The sidecar, against real processes."""
