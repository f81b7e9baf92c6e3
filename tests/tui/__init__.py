"""The dashboard: its parts as numbers and lines of text, the whole of it with a pilot and in a real terminal."""
