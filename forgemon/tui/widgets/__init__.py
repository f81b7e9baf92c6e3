"""What the screen shows: one widget a file, each drawn from a frame alone."""
