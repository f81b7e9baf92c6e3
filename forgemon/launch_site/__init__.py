"""What `forgemon run` puts first on PYTHONPATH; nobody imports this package by name."""
