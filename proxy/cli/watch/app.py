"""The full-screen view. The board holds what is known; this shows it, asks, and sends what was answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from proxy.cli.client import ClientError
from proxy.cli.watch.board import Board, Change, Entry, Json, is_undecided
from proxy.cli.watch.dialogs import DecideDialog, HelpDialog
from proxy.cli.watch.feed import Feed
from proxy.cli.watch.list import HoldList
from proxy.cli.watch.text import card, heading, safe
from proxy.model import HoldState

_RETRY_S: Final = (1, 1, 2, 3, 5)
#: News that comes this close together is drawn once.
_GATHER_S: Final = 0.05
#: So long must the cursor rest before more is asked about its hold.
_REST_S: Final = 0.2
_ENDED_SHOWN: Final = 200
#: So often is the whole list asked for, beside the news.
_AGAIN_S: Final = 60.0
#: A preview below the list wants so many lines.
_PREVIEW_LINES: Final = 30


class HoldCard(VerticalScroll, can_focus=True):
    """Everything about one hold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", show=False),
        Binding("k,up", "scroll_up", "Up", show=False),
        Binding("g,home", "scroll_home", "Top", show=False),
        Binding("G,end", "scroll_end", "Bottom", show=False),
    ]
    DEFAULT_CSS = """
    HoldCard { padding: 0 1; }
    HoldCard > Static { height: auto; }
    """

    def __init__(self, app: WatchApp, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._watch = app
        self._body = Static()
        self._review: tuple[int, Json] | None = None
        self._hold_id: int | None = None

    def compose(self) -> ComposeResult:
        yield self._body

    def show(self, hold_id: int | None) -> None:
        """At once what is known; what must be asked a moment later."""
        if hold_id != self._hold_id:
            self.scroll_home(animate=False)
        self._hold_id = hold_id
        self.draw()
        if hold_id is not None:
            self._ask(hold_id)

    @work(group="review", exclusive=True)
    async def _ask(self, hold_id: int) -> None:
        await asyncio.sleep(_REST_S)
        try:
            self._review = hold_id, await self._watch.feed.review([hold_id])
        except ClientError:
            return  # what is known is shown; that the console is gone is said above
        self.draw()

    def draw(self) -> None:
        entry = self._watch.board.entry(self._hold_id) if self._hold_id is not None else None
        if entry is None:
            self._body.update("")
            return
        review = self._review[1] if self._review is not None and self._review[0] == self._hold_id else None
        self._body.update(card(entry, review, self._watch.now()))


class HoldScreen(Screen[None]):
    """One hold on the whole screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "decide(True)", "Approve"),
        Binding("d", "decide(False)", "Deny"),
        Binding("n", "other(1)", "Next"),
        Binding("p", "other(-1)", "Previous"),
        Binding("escape,q,h,left", "leave", "Back"),
        Binding("question_mark", "app.help", "Help", key_display="?"),
    ]

    def __init__(self, app: WatchApp, ids: Sequence[int], hold_id: int) -> None:
        super().__init__()
        self._watch = app
        self._ids = list(ids)
        self.hold_id = hold_id

    def compose(self) -> ComposeResult:
        yield Static(id="status")
        yield HoldCard(self._watch, id="card")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._watch.tell_status()
        self._show()

    def _show(self) -> None:
        self._watch.board.fresh.discard(self.hold_id)
        self.query_one(HoldCard).show(self.hold_id)
        self.query_one(HoldCard).focus()

    def renew(self, changed: set[int]) -> None:
        if self.hold_id in changed:
            self._show()

    def tick(self) -> None:
        self.query_one(HoldCard).draw()

    def action_other(self, by: int) -> None:
        if self.hold_id in self._ids:
            self.hold_id = self._ids[(self._ids.index(self.hold_id) + by) % len(self._ids)]
            self._show()

    def action_decide(self, approve: bool) -> None:
        self._watch.decide([self.hold_id], approve)

    def action_leave(self) -> None:
        self.dismiss(None)


class ListScreen(Screen[None]):
    """What waits; below it, where there is room, the hold under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "decide(True)", "Approve"),
        Binding("d", "decide(False)", "Deny"),
        Binding("enter", "open", "Open"),
        Binding("space", "mark", "Mark"),
        Binding("x,right", "expand", "Group"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("o", "ended", "Ended"),
        Binding("escape", "clear", "Clear", show=False),
        Binding("question_mark", "app.help", "Help", key_display="?"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, app: WatchApp) -> None:
        super().__init__()
        self._watch = app

    def compose(self) -> ComposeResult:
        yield Static(id="status")
        yield Static(id="heading")
        yield HoldList(self._watch.board, self._watch.now)
        yield HoldCard(self._watch, id="preview")
        yield Input(id="filter", placeholder="words, such as: shop drop-table #7", compact=True, max_length=200)
        yield Footer(show_command_palette=False)

    @property
    def list(self) -> HoldList:
        return self.query_one(HoldList)

    @property
    def _has_preview(self) -> bool:
        return self.size.height >= _PREVIEW_LINES

    def on_mount(self) -> None:
        self._watch.tell_status()
        self.list.focus()
        self.renew(set())

    def on_resize(self) -> None:
        self.query_one("#heading", Static).update(heading(self.size.width))
        self.query_one("#preview").display = self._has_preview
        self._show_preview()

    def renew(self, changed: set[int]) -> None:
        self.list.renew()

    def tick(self) -> None:
        self.list.refresh()
        if self._has_preview:
            self.query_one("#preview", HoldCard).draw()

    @on(HoldList.Moved)
    def _show_preview(self) -> None:
        row = self.list.row
        if self._has_preview:
            self.query_one("#preview", HoldCard).show(None if row is None else int(row.hold.id))

    # --- keys ---------------------------------------------------------------------------------------------------

    @on(HoldList.Chosen)
    def action_open(self) -> None:
        row = self.list.row
        if row is not None:
            ids = [i for r in self.list.rows for i in (r.ids if not r.is_open else ())]
            self._watch.push_screen(HoldScreen(self._watch, ids, int(row.hold.id)), lambda _: self.renew(set()))

    @on(HoldList.Marked)
    def action_mark(self) -> None:
        row = self.list.row
        if row is None:
            return
        board = self._watch.board
        board.toggle_mark(row.ids)
        board.fresh -= set(row.ids)
        self._watch.tell_status()
        self.list.refresh()
        self.list.action_move(1)

    def action_expand(self) -> None:
        row = self.list.row
        if row is not None and len(row.ids) > 1:
            self._watch.board.opened ^= {row.ids[0]}
            self.list.renew()

    def action_decide(self, approve: bool) -> None:
        row = self.list.row
        ids = sorted(self._watch.board.marked) or (list(row.ids) if row is not None else [])
        if ids:
            self._watch.decide(ids, approve)

    def action_ended(self) -> None:
        board = self._watch.board
        board.shows_ended = not board.shows_ended
        if board.shows_ended:
            self._watch.fetch_ended()
        self._watch.tell_status()
        self.list.renew()

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self._watch.board.words
        box.focus()

    def action_clear(self) -> None:
        board = self._watch.board
        board.marked.clear()
        board.words = ""
        self._leave_filter()

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        if event.input.display:
            self._watch.board.words = event.value
            self.list.renew()

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self.query_one("#filter").display = False
        self.list.focus()
        self._watch.tell_status()
        self.list.renew()


class WatchApp(App[None]):
    """pghold watch."""

    TITLE = "pghold"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 1; background: $panel; }
    #heading { height: 1; }
    #preview { height: 55%; border-top: solid $accent; }
    #filter { dock: bottom; display: none; }
    """

    def __init__(self, feed: Feed) -> None:
        # Without colours it is bold, underlined and reversed that tell things apart.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.feed = feed
        self.board = Board()
        self.me: Json = {}
        self._problem = "connecting …"
        self._changed: set[int] = set()
        self._rung: set[int] = set()
        self._dialog: DecideDialog | None = None

    def get_default_screen(self) -> Screen[Any]:
        return ListScreen(self)

    def now(self) -> datetime:
        """As the console's clock has it."""
        return datetime.now(UTC) + timedelta(seconds=self.feed.skew_s)

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)
        self.set_interval(_AGAIN_S, self._look_again)
        self._follow()

    async def on_unmount(self) -> None:
        await self.feed.close()

    def action_help(self) -> None:
        self.push_screen(HelpDialog())

    # --- news ---------------------------------------------------------------------------------------------------

    @work(group="follow", exclusive=True)
    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self.feed.changes()) as changes:
                    async for raw in changes:
                        if raw is None:
                            await self._connected()
                            failures = 0
                        elif self.board.apply(raw) is not Change.NONE or raw["state"] == "pending":
                            self._news(raw)
            except ClientError as error:
                if error.exit_code != 1:
                    self.exit(return_code=error.exit_code, message=f"pghold: {error}")
                    return
                self._problem = str(error)
            self.board.is_known = False
            self._redraw()
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1

    async def _connected(self) -> None:
        """Whatever happened meanwhile: what waits now, and what became of what does not wait any more."""
        self.me = await self.feed.me()
        await self._compare(news=bool(self.board.pending or self.board.ended))
        self._problem = ""
        self.board.is_known = True
        if self.board.fresh:
            self.bell()
        self._redraw()

    async def _compare(self, news: bool) -> None:
        """With what waits now. Raises ClientError."""
        for number in self.board.replace_pending(await self.feed.pending(), news=news):
            try:
                self.board.apply((await self.feed.review([number]))["hold"])
            except ClientError:
                self.board.forget(number)
            self._changed.add(number)

    @work(group="again", exclusive=True)
    async def _look_again(self) -> None:
        """News is dropped for those who are slow to take it; nothing may stay in the list for that."""
        try:
            await self._compare(news=True)
        except ClientError:
            return  # the connection is lost, which _follow says
        self._redraw()

    def _news(self, raw: Json) -> None:
        number = int(raw["id"])
        if number in self.board.fresh and raw["state"] == "pending" and number not in self._rung:
            self._rung.add(number)  # once, however often it is told more of it
            self.bell()
        if not self._changed:
            self.set_timer(_GATHER_S, self._redraw)
        self._changed.add(number)
        dialog = self._dialog
        if dialog is not None and number in dialog.ids and raw["state"] != "pending":
            entry = self.board.entry(number)
            dialog.too_late(number, _ended(entry) if entry is not None else f"hold {number} is {raw['state']}")

    def _redraw(self) -> None:
        changed, self._changed = self._changed, set()
        self.tell_status()
        for screen in self.screen_stack:
            if isinstance(screen, ListScreen | HoldScreen):
                screen.renew(changed)

    def _tick(self) -> None:
        self.tell_status()
        if isinstance(self.screen, ListScreen | HoldScreen):
            self.screen.tick()

    @work(group="ended", exclusive=True)
    async def fetch_ended(self) -> None:
        try:
            for raw in await self.feed.newest(_ENDED_SHOWN):
                self.board.apply(raw, news=False)
        except ClientError as error:
            self._tell(str(error), "error")
        self._redraw()

    def tell_status(self) -> None:
        board = self.board
        text = Text(no_wrap=True, overflow="ellipsis")
        if self._problem:
            text.append(f" NOT CONNECTED: {safe(self._problem, 200)}; trying again ", "bold white on red")
        else:
            text.append(f" {len(board.pending)} waiting ", "bold reverse" if board.pending else "")
        if board.fresh:
            text.append(f" {len(board.fresh)} new ", "bold black on yellow")
        if board.marked:
            text.append(f" {len(board.marked)} marked ", "bold")
        if board.shows_ended:
            text.append(" ended holds ", "bold")
        if board.words:
            text.append(f" filter: {safe(board.words, 60)} ", "italic")
        if self.me:
            text.append(f" {safe(self.me['name'], 60)} ({self.me['role']}), {self.me['environment']}, {self.feed.address}", "dim")
            if self.me["mode"] != "enforce":
                text.append(f"  mode {self.me['mode']}: nothing is held", "bold red")
            if not self.me.get("backup_before_danger", True):
                text.append("  NO COPIES are made", "bold red")
        for screen in self.screen_stack:
            for status in screen.query("#status").results(Static):
                status.update(text)

    # --- deciding -----------------------------------------------------------------------------------------------

    def decide(self, ids: Sequence[int], approve: bool) -> None:
        """Ask what must be asked, and send it."""
        entries = [e for e in (self.board.pending.get(i) for i in ids) if e is not None]
        late = self.board.ended.get(ids[0])
        if not entries and approve and late is not None and is_undecided(late.hold):
            entries = [late]
        if not entries:
            entry = self.board.entry(ids[0])
            self._tell(_ended(entry) if entry is not None else f"hold {ids[0]} does not wait any more", "warning")
            return
        self._decide(entries, approve)

    @work(group="decide", exclusive=True)
    async def _decide(self, entries: list[Entry], approve: bool) -> None:
        ids = [int(e.hold.id) for e in entries]
        self.board.fresh -= set(ids)
        try:
            demands = await self.feed.review(ids)
        except ClientError as error:
            self._tell(str(error), "error")
            return
        if entries[0].hold.state is not HoldState.PENDING and not demands.get("retry"):
            self._tell(_ended(entries[0]), "warning")
            return
        if demands["why_not"]:
            self._tell(f"not yours to decide: {demands['why_not']}", "warning")
            return

        async def send(answer: Json) -> list[Json]:
            try:
                return await self.feed.settle(ids, approve, answer)
            except ClientError as error:
                if error.exit_code != 3:
                    raise
                return [{"id": ids[0], "error": str(error)}]

        self._dialog = DecideDialog(approve, entries, demands, send)
        try:
            results = await self.push_screen_wait(self._dialog)
        finally:
            self._dialog = None
        if results is not None:
            self.board.marked -= set(ids)
            self._tell_results(results)
            self._redraw()

    def _tell_results(self, results: list[Json]) -> None:
        failed = [r for r in results if r["error"]]
        for result in failed[:3]:
            self._tell(str(result["error"]), "warning")
        if len(failed) > 3:
            self._tell(f"and {len(failed) - 3} more were not decided", "warning")
        done = [r for r in results if not r["error"]]
        waiting = [r for r in done if r["state"] == "pending"]
        if waiting:
            more = waiting[0]["approvers_needed"] - len(waiting[0]["approvers"])
            what = f"Hold {waiting[0]['id']} still waits" if len(waiting) == 1 else f"{len(waiting)} holds still wait"
            self._tell(f"{what}: {more} more must approve")
        decided = [r for r in done if r["state"] != "pending"]
        if len(decided) == 1:
            retry = " for one retry: it runs when it is sent again" if decided[0].get("retry") else ""
            self._tell(f"Hold {decided[0]['id']} is {decided[0]['state']}{retry}")
        elif decided:
            self._tell(f"{len(decided)} holds are {decided[0]['state']}")

    def _tell(self, text: str, severity: str = "information") -> None:
        kind: Any = severity  # any: textual's literal type
        self.notify(safe(text), severity=kind, markup=False, timeout=12 if severity != "information" else 6)


def _ended(entry: Entry) -> str:
    """Who was faster."""
    hold = entry.hold
    who = f", by {hold.decision.operator}: {hold.decision.reason}" if hold.decision is not None else ""
    return f"hold {hold.id} is no longer pending: it is {hold.state}{who}"
