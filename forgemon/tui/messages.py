"""What the feed tells the app, in the past tense."""

from __future__ import annotations

from textual.message import Message

from forgemon.tui.frame import Frame


class FrameBuilt(Message):
    """A newer picture: it takes the place of one that still waits, so that a slow terminal never queues pictures."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, FrameBuilt)


class FeedFailed(Message):
    """The feed has ended with an error; the app ends with it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
