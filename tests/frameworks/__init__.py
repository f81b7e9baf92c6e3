"""Tests with frameworks: their own training loops, unmodified, watched and unwatched."""
