"""One command a file: its help is the docstring of its function."""
