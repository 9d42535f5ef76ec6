"""The list of holds. It draws the lines that are in sight, so that a thousand holds cost no more than twenty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from proxy.cli.watch.board import Board, Row
from proxy.cli.watch.text import row_text

_CURSOR = Style(reverse=True, bold=True)


class HoldList(ScrollView, can_focus=True):
    """Rows of the board, one of them under the cursor."""

    DEFAULT_CSS = """
    HoldList { height: 1fr; overflow-x: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Down", show=False),
        Binding("k,up", "move(-1)", "Up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("g,home", "go(0)", "First", show=False),
        Binding("G,end", "go(-1)", "Last", show=False),
    ]

    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor is on another row, or its row changed."""

    class Chosen(Message):
        """The row under the cursor was clicked again."""

    class Marked(Message):
        """Its mark was clicked."""

    def __init__(self, board: Board, now: Callable[[], datetime]) -> None:
        super().__init__(id="list")
        self._board = board
        self._now = now
        self.rows: list[Row] = []

    @property
    def row(self) -> Row | None:
        return self.rows[self.cursor] if self.rows else None

    def renew(self) -> None:
        """Show the board as it is now; the cursor stays on its hold, wherever that is."""
        before = self.row
        self.rows = self._board.rows()
        self.virtual_size = Size(0, len(self.rows))
        index = min(self.cursor, max(0, len(self.rows) - 1))
        if before is not None:
            number, is_member = before.key
            keys = {row.key: i for i, row in enumerate(self.rows)}
            index = keys.get((number, is_member), keys.get((number, not is_member), index))
        self.set_reactive(HoldList.cursor, index)
        self._show_cursor()
        self.refresh()
        self.post_message(self.Moved())

    def watch_cursor(self) -> None:
        self._show_cursor()
        self.refresh()
        self.post_message(self.Moved())

    def validate_cursor(self, value: int) -> int:
        return max(0, min(value, len(self.rows) - 1))

    def _show_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(1, self.size.height - 1)

    def action_go(self, to: int) -> None:
        self.cursor = to if to >= 0 else len(self.rows) - 1

    def on_click(self, event: events.Click) -> None:
        index = event.y + self.scroll_offset.y
        if not 0 <= index < len(self.rows):
            return
        was = index == self.cursor
        self.cursor = index
        if event.x < 1:
            self.post_message(self.Marked())
        elif was or event.chain > 1:
            self.post_message(self.Chosen())

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        width = self.size.width
        if not 0 <= index < len(self.rows):
            text = Text(self._nothing() if y == 1 and not self.rows else "")
            text.truncate(width)
            text.stylize("dim")
        else:
            text = row_text(self.rows[index], self._board, self._now(), width)
            if index == self.cursor:
                # Colours turned around are hard to read.
                text = Text(text.plain)
                text.stylize(_CURSOR)
        return Strip(text.render(self.app.console)).adjust_cell_length(width, self.rich_style).apply_style(self.rich_style)

    def _nothing(self) -> str:
        if not self._board.is_known:
            return "  What waits is not known: no connection."
        if self._board.words:
            return "  No hold fits the filter; Escape clears it."
        return "  No hold has ended yet." if self._board.shows_ended else "  Nothing waits."
