"""One detector a file: a pure, streaming function of the log."""
