"""Property tests without a time limit: the machine may be busy with other things."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("forgemon", deadline=None)
settings.load_profile("forgemon")
