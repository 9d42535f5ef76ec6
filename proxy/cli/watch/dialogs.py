"""What is asked before a decision is sent, and the help. A dialog stays open with what was typed when the answer is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from proxy.cli.client import ClientError
from proxy.cli.watch.board import Entry
from proxy.cli.watch.text import SEVERITY, safe

Json = dict[str, Any]  # any: JSON
Send = Callable[[Json], Awaitable[list[Json]]]

_SHOWN = 5


class DecideDialog(ModalScreen[list[Json] | None]):
    """Approve or deny one hold or several. Dismissed with the results; with None when it was left, or somebody else was faster.

    Args:
        demands: of the API: what it takes to approve these.
        send: posts the answer; raises ClientError.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", priority=True),
        # Before the field gets it: what is typed ahead, or by a program, then reaches the next field.
        Binding("enter", "next", "Next", priority=True, show=False),
    ]
    CSS = """
    DecideDialog { align: center middle; }
    #box { width: 100%; max-width: 76; height: auto; max-height: 100%; padding: 0 1; border: round $accent; background: $surface; }
    #box Input { background: $boost; }
    #box Label { width: 100%; }
    #problem { color: $text-error; text-style: bold; height: auto; }
    #buttons { height: auto; }
    #buttons Button { min-width: 10; margin-right: 1; }
    """

    def __init__(self, approve: bool, entries: Sequence[Entry], demands: Json, send: Send) -> None:
        super().__init__()
        self.ids = [int(e.hold.id) for e in entries]
        self._approve = approve
        self._entries = entries
        self._demands = demands
        self._send = send
        self._sending = False
        self._late = ""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(self._summary())
            if self._approve:
                yield from self._approving()
            else:
                yield Label("Reason; the client is told:")
                yield Input(id="reason", compact=True, max_length=4000)
                yield Label("The statement to send instead, if you know one; the client is told:")
                yield Input(id="suggestion", compact=True, max_length=20_000)
            yield Static(id="problem")
            with Horizontal(id="buttons"):
                yield Button(
                    "Approve" if self._approve else "Deny", id="send", variant="error" if self._approve else "warning", compact=True
                )
                yield Button("Back (Esc)", id="back", compact=True)

    def _approving(self) -> ComposeResult:
        demands = self._demands
        if len(self.ids) > 1:
            yield Label("How many statements will run? Type the number:")
            yield Input(id="count", compact=True, restrict=r"[0-9]*", max_length=6)
        elif demands["names_to_type"]:
            names = ", ".join(safe(n, 60) for n in demands["names_to_type"][:3])
            yield Label(Text(f"It cannot be taken back. Type the name of what is lost: {names}"))
            yield Input(id="object_name", compact=True, max_length=1000)
        yield Label("Reason:")
        yield Input(id="reason", compact=True, max_length=4000)
        if demands["second_factor"]:
            yield Label("Code of your second factor:")
            yield Input(id="code", compact=True, max_length=20)
        if self._may_grant:
            yield Label("Minutes in which the same rules may pass in this session; empty: this statement only:")
            yield Input(id="session_minutes", compact=True, restrict=r"[0-9]*", max_length=4)
        yield Label(Text(f"Type: {safe(demands['phrase'], 200)}"))
        yield Input(id="phrase", compact=True, max_length=1000)
        if demands["approvers_needed"] > 1 and demands["break_glass"]:
            yield Label("To break the glass, alone and loud, type yes; else leave it empty:")
            yield Input(id="break_glass", compact=True, max_length=10)

    @property
    def _may_grant(self) -> bool:
        demands = self._demands
        return len(self.ids) == 1 and bool(demands.get("session_grant_max_s")) and not demands.get("retry")

    def _summary(self) -> Text:
        count = len(self.ids)
        word = "Approve" if self._approve else "Deny"
        text = Text(f"{word} hold {self.ids[0]}" if count == 1 else f"{word} {count} holds", style="bold")
        for entry in self._entries[:_SHOWN]:
            request = entry.hold.request
            text.append(f"\n {request.severity} ", SEVERITY[request.severity])
            who = safe(f"{request.requester.role}@{request.requester.database}", 60)
            text.append(f" {who}: {safe(request.script, 160)}", "not bold")
        if count > _SHOWN:
            text.append(f"\n … and {count - _SHOWN} more", "not bold dim")
        if self._approve and self._demands["approvers_needed"] > 1:
            given = [a["operator"] for a in self._demands.get("approvals", ())]
            so_far = f"; so far: {', '.join(safe(n, 40) for n in given)}" if given else ""
            text.append(f"\n{self._demands['approvers_needed']} people must approve{so_far}", "bold yellow")
        if self._approve and self._demands.get("retry"):
            text.append("\nNobody waits for it: it runs once, when the same role sends it again.", "bold yellow")
        return text

    # --- answering ----------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.dismiss(None)

    def action_next(self) -> None:
        """Enter leads to the next field, and from the last one on."""
        focused, inputs = self.focused, list(self.query(Input))
        if isinstance(focused, Button):
            focused.press()
            return
        later = inputs[inputs.index(focused) + 1 :] if isinstance(focused, Input) else inputs
        if later:
            self.set_focus(later[0])
        else:
            # In the field's own turn, when it has taken in all that was typed.
            inputs[-1].call_later(self._answer)

    @on(Button.Pressed, "#send")
    def _answer(self) -> None:
        if self._late:
            self.dismiss([{"id": self.ids[0], "error": self._late}])
        elif not self._sending:
            self._sending = True
            self._ask()

    @work
    async def _ask(self) -> None:
        try:
            results = await self._send(self._body())
        except ClientError as error:
            self.problem(str(error))
            return
        finally:
            self._sending = False
        self.dismiss(results)

    def _body(self) -> Json:
        body: Json = {i.id or "": i.value for i in self.query(Input)}
        if "count" in body:
            body["count"] = int(body["count"] or 0)
        if "session_minutes" in body:
            body["session_grant_s"] = int(body.pop("session_minutes") or 0) * 60
        if "break_glass" in body:
            body["break_glass"] = body["break_glass"].strip().lower() == "yes"
        return body

    def too_late(self, hold_id: int, text: str) -> None:
        """Somebody else was faster while this is open. Of several, the others can still be decided."""
        if self.ids == [hold_id]:
            self._late = text
        self.problem(text)

    def problem(self, text: str) -> None:
        """Say why it was not sent, or not taken."""
        self.query_one("#problem", Static).update(Text(safe(text, 1000)))
        self.query_one("#problem").scroll_visible(animate=False)


HELP = """\
 j k, arrows     move; g G first, last; PgUp PgDn
 Enter           look at the hold; Esc or q back
 a               approve: this one, its group, or all marked
 d               deny, with a reason
 Space           mark for deciding several together
 x               show a group's holds, or hide them
 /               filter by words: role, database, rule, #id
 o               ended holds, and back
 Esc             clear marks and filter
 q               quit

 * is new, + is marked, > is a group. Holds of one session,
 of one program doing the same thing, and of equal statements
 are one group: to approve it, type how many will run.
 Characters that hide are shown as <U+XXXX>.
 An approval lets the statement run once. Of the ended ones (o)
 those that nobody decided can be approved for one retry."""


class HelpDialog(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "leave", "Back", priority=True)]
    CSS = """
    HelpDialog { align: center middle; }
    #help { width: 100%; max-width: 66; height: auto; max-height: 100%; border: round $accent; background: $surface; }
    """

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(Text(HELP))

    def action_leave(self) -> None:
        self.dismiss(None)
