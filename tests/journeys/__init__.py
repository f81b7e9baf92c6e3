"""Whole journeys: a real training process, the real command, a real terminal."""
