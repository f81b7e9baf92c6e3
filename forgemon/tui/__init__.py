"""The dashboard and the replay."""
