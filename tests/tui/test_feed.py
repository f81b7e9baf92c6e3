"""The feed: the state at a step is that of a fresh replay to it, however one got there, and while a run grows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.errors import UserError
from forgemon.tui import position
from forgemon.tui.feed import Feed
from forgemon.tui.frame import Frame
from forgemon.tui.position import Position
from tests.equal import assert_equal
from tests.recorded import RunFiles, small_run
from tests.tui.runs import evaluate, frame_of, quiet_feed, read_all, train_step, training_run
from tests.waiting import wait_for


def assert_same_picture(left: Frame, right: Frame) -> None:
    assert left.cursor == right.cursor
    for part in ("snapshot", "report", "curves", "gradients"):
        assert_equal(getattr(left, part), getattr(right, part), part)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    training_run(run, steps=200, reused_from=120)
    return run


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(3, 60))
def test_any_way_to_a_step_shows_what_a_fresh_replay_shows(recorded: Path, visited: list[int], waypoint_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(position, "WAYPOINT_ROWS", waypoint_rows)
        feed = quiet_feed(recorded)
        for step in visited:
            feed.playhead.to_step(step)
            shown = feed.frame()
    fresh = quiet_feed(recorded)
    fresh.playhead.to_step(visited[-1])
    assert_same_picture(shown, fresh.frame())
    assert shown.snapshot.step == visited[-1] or shown.following


def test_the_picture_at_a_step_knows_nothing_of_later(recorded: Path) -> None:
    early = frame_of(recorded, step=60)
    assert early.snapshot.step == 60 and len(early.snapshot.evaluations) == 1
    assert early.snapshot.state == "running" and not any(f.level == "alarm" for f in early.report.findings)
    assert early.end_step == 200 and any(m.kind == "finding" and m.step > 60 for m in early.marks)
    late = frame_of(recorded)
    assert late.snapshot.state == "finished" and late.report.findings[0].symptom == "missing-zero-grad"


def test_scrubbing_back_on_a_growing_run_shows_the_past_as_a_replay_would(tmp_path: Path) -> None:
    files = growing_run(tmp_path / "run", steps=40)
    feed = quiet_feed(tmp_path / "run", live=True)
    assert feed.frame().cursor == 40 and feed.frame().following
    feed.playhead.to_step(20)
    paused = feed.frame()
    for step in range(41, 61):
        train_step(files, step)
    read_all(feed)
    still = feed.frame()
    assert (still.cursor, still.end_step, still.following) == (20, 60, False)
    assert_same_picture(paused, still)
    feed.playhead.to_end()
    assert feed.frame().snapshot.step == 60


def test_an_evaluation_after_the_newest_row_is_within_the_picture(tmp_path: Path) -> None:
    files = growing_run(tmp_path / "run", steps=40)
    evaluate(files, 70, 0.5)
    feed = quiet_feed(tmp_path / "run", live=True)
    shown = feed.frame()
    assert (shown.cursor, shown.end_step, shown.snapshot.step, shown.following) == (70, 70, 70, True)
    feed.playhead.by_steps(-1)
    back = feed.frame()
    assert (back.cursor, back.end_step, back.following) == (39, 70, False)


def growing_run(run: Path, steps: int) -> RunFiles:
    files = RunFiles(run)
    files.info(host="elsewhere", pid=1)
    files.event("attached", 0, pid=1, signals={})
    files.parameters(["encoder.layer.0.weight", "encoder.layer.0.bias", "head.weight", "head.bias"])
    for step in range(1, steps + 1):
        train_step(files, step)
    return files


def test_rows_that_arrive_late_for_a_step_that_is_shown_are_not_lost(tmp_path: Path) -> None:
    files = growing_run(tmp_path / "run", steps=40)
    feed = quiet_feed(tmp_path / "run", live=True)
    feed.playhead.to_step(30)
    assert not feed.frame().snapshot.evaluations
    evaluate(files, 25, 0.5)
    read_all(feed)
    assert [e.step for e in feed.frame().snapshot.evaluations] == [25]


def test_a_position_at_waypoints_equals_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run(tmp_path / "run", steps=60)
    recording = quiet_feed(tmp_path / "run").recording
    monkeypatch.setattr(position, "WAYPOINT_ROWS", 7)
    moved, fresh = Position(), Position()
    for step in (50, 10, 45, 3, 33):
        moved.move(recording, step)
    fresh.move(recording, 33)
    assert_equal(moved.snapshot({}, ()), fresh.snapshot({}, ()))
    assert_equal(moved.report(), fresh.report())


def test_it_opens_at_the_step_that_was_asked_for(recorded: Path) -> None:
    assert frame_of(recorded, step=150).cursor == 150
    assert frame_of(recorded, step=0).cursor == 1


def test_the_thread_posts_pictures_and_obeys(recorded: Path) -> None:
    frames: list[Frame] = []
    feed = Feed(recorded, live=False, post=frames.append, failed=lambda e: pytest.fail(str(e)))
    feed.start()
    wait_for(lambda: frames and not frames[-1].loading, "the recording to be read")
    assert frames[-1].cursor == 1
    feed.ask("to_step", 90)
    wait_for(lambda: frames[-1].cursor == 90, "the picture of step 90")
    feed.ask("toggle")
    wait_for(lambda: frames[-1].cursor > 90 and frames[-1].playing, "the playhead to move on")
    feed.stop()


def test_a_mistake_of_ours_reaches_the_app(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException] = []
    feed = Feed(recorded, live=False, post=lambda _: None, failed=failures.append)
    monkeypatch.setattr(feed, "frame", lambda: 1 // 0)
    feed.start()
    wait_for(lambda: failures, "the failure")
    assert isinstance(failures[0], ZeroDivisionError)
    feed.stop()


def test_no_run_directory_is_said_before_any_screen(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        Feed(tmp_path / "nowhere", live=False, post=lambda _: None, failed=lambda _: None)


def test_whether_the_best_checkpoint_is_there(tmp_path: Path) -> None:
    files = growing_run(tmp_path / "run", steps=20)
    kept = tmp_path / "best.pt"
    kept.write_bytes(b"weights")
    files.event("evaluation", 20, metric="val_loss", value=0.5, training=False, grad_enabled=False)
    files.event("checkpoint", 20, path=str(kept), function="torch.save", metric="val_loss", value=0.5)
    assert frame_of(tmp_path / "run").best_exists is True
    kept.unlink()
    assert frame_of(tmp_path / "run").best_exists is False


def test_output_is_shown_without_what_would_move_a_cursor(tmp_path: Path) -> None:
    training_run(tmp_path / "run", steps=8)
    printed = tmp_path / "output.log"
    printed.write_bytes(b"epoch 1\r\n\x1b[31mloss\x1b[0m 0.5\n 10%|#\r 99%|#########\r\nlast \xff\x07[bold]\n")
    frame = frame_of(tmp_path / "run", output=printed)
    assert frame.output == ("epoch 1", "loss 0.5", " 99%|#########", "last ��[bold]")
