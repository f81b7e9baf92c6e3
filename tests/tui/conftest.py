"""Property tests without a time limit: the machine may be busy with other things. And the runs that panels are drawn of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from forgemon.tui.frame import Frame
from tests.tui.drawn import runs_in
from tests.tui.runs import frame_of

settings.register_profile("forgemon", deadline=None)
settings.load_profile("forgemon")


@pytest.fixture(scope="module")
def panel_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs_in(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def healthy(panel_runs: Path) -> Frame:
    return frame_of(panel_runs / "healthy")


@pytest.fixture(scope="module")
def broken(panel_runs: Path) -> Frame:
    return frame_of(panel_runs / "broken")
