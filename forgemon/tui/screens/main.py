"""The dashboard: all panels in their containers, shown or hidden by page and size."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.reactive import reactive
from textual.screen import Screen

from forgemon.tui.frame import Frame
from forgemon.tui.pages import CONTAINERS, PAGES, PANELS, pages, size_class, visible
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.widgets.best import Best
from forgemon.tui.widgets.checklist import Checklist
from forgemon.tui.widgets.evaluations import Evaluations
from forgemon.tui.widgets.findings import Findings
from forgemon.tui.widgets.gradient_table import GradientTable
from forgemon.tui.widgets.header import Header
from forgemon.tui.widgets.heatmap import Heatmap
from forgemon.tui.widgets.key_bar import KeyBar
from forgemon.tui.widgets.loop_note import LoopNote
from forgemon.tui.widgets.loss_chart import LossChart
from forgemon.tui.widgets.memory import Memory
from forgemon.tui.widgets.output import Output
from forgemon.tui.widgets.tabs import Tabs
from forgemon.tui.widgets.timeline import Timeline
from forgemon.tui.widgets.too_small import TooSmall
from forgemon.tui.widgets.verdict import Verdict, serious

SIZE_CLASSES = ("tiny", "narrow", "tall", "wide", "huge")


class MainScreen(Screen[None]):
    """Holds the one reactive frame that every panel is bound to."""

    AUTO_FOCUS = ""

    frame: reactive[Frame | None] = reactive(None, repaint=False)
    page: reactive[str] = reactive(PAGES[0], init=False)
    heatmap: reactive[bool] = reactive(False, init=False)

    def __init__(self, has_output: bool) -> None:
        super().__init__()
        self.has_output = has_output

    def compose(self) -> ComposeResult:
        frame = MainScreen.frame
        tabs = Tabs(id="tabs")
        tabs.pages = pages(self.has_output)
        yield TooSmall(id="too-small")
        yield Header(id="header").data_bind(frame)
        yield tabs.data_bind(MainScreen.page)
        yield Verdict(id="verdict").data_bind(frame)
        with Horizontal(id="body"):
            with Horizontal(id="left"):
                with Vertical(id="plots"):
                    yield LossChart(id="loss").data_bind(frame)
                    yield Evaluations(id="evaluations").data_bind(frame)
                    yield Output(id="output").data_bind(frame)
                with Vertical(id="weights"):
                    yield GradientTable(id="gradients").data_bind(frame)
                    yield Heatmap(id="heatmap").data_bind(frame)
            with Vertical(id="right"):
                yield Findings(id="findings").data_bind(frame)
                yield LoopNote(id="note").data_bind(frame)
                yield Checklist(id="checklist").data_bind(frame)
                yield Best(id="best").data_bind(frame)
                yield Memory(id="memory").data_bind(frame)
        yield Timeline(id="timeline").data_bind(frame)
        yield KeyBar(id="keys").data_bind(MainScreen.page)

    def on_mount(self) -> None:
        self.place_panels()

    def on_resize(self, event: events.Resize) -> None:
        self.place_panels()

    def watch_page(self) -> None:
        self.place_panels()
        for wanted in self.query(f"#{self.page}").results(ScrolledPanel):
            wanted.focus()

    def watch_heatmap(self) -> None:
        self.place_panels()

    def watch_frame(self) -> None:
        """The verdict is one line while there is nothing to say, three once there is."""
        found = self.frame is not None and serious(self.frame)
        if found != self.has_class("-found"):
            self.set_class(found, "-found")

    def place_panels(self) -> None:
        """Show what this page has at this size."""
        if not self.is_mounted:
            return
        size = size_class(self.app.size.width, self.app.size.height)
        shown = visible(self.page, size, self.has_output, self.heatmap)
        for name in SIZE_CLASSES:
            self.set_class(name == size, f"-{name}")
        for name in PAGES:
            self.set_class(name == self.page, f"-{name}")
        # A resize may come while the app ends and some of them are gone already.
        for panel in PANELS:
            self.query(f"#{panel}").set(display=panel in shown)
        for container, members in CONTAINERS.items():
            self.query(f"#{container}").set(display=any(m in shown for m in members))
