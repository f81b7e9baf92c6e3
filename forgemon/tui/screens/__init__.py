"""The dashboard itself, and what opens on top of it. Those are imported when they are first opened."""
