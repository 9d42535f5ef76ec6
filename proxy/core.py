"""One session as a state machine: events in, commands out. No await, no clock, no I/O.

The idea. Bytes from the frontend are walked message by message; a run of messages that need no decision goes to the backend
as it came. The walk stops at the first message that does: what is before it is forwarded, the message itself is *held*
(`self._held`), and whatever the frontend sends after it waits in `self._waiting`, in order, until the hold is settled.
Bytes from the backend are walked too, because only at a message boundary may something of ours be inserted, and because the
replies say what has come true (tracker.py, knowledge.py).

A held message goes through these stages; every arrow to the right is one event:

    JUDGING  --Judged-->     as judged                  (long scripts only, judged off the event loop)
    OPENING  --HoldOpened--> NOTING                     (the store has it; the frontend got its NOTICE)
             --Granted-->    SETTLING                   (an earlier decision covers it)
    NOTING   --Recorded-->   PENDING                    (the audit log has it), or refused, where the client does not wait
    PENDING  --HoldResolved, HoldMoved, CancelRequested, Stop…--> SETTLING
    SETTLING --Recorded-->   refused, or CHECKING       (the decision is on disk before it takes effect)
    CHECKING --the look's answer--> released, or OPENING again, when what it is about is not what the operator saw

A script that begins an act of a tool (acts.py) is SURVEYING before OPENING: the session is asked what the whole act is about. Once that was approved, what
belongs to it comes straight to CHECKING, and is no hold of its own.

Beside that, the session is asked what the held message is about (look.py), as soon as nothing is in flight that the question could
disturb. Its answers come between the backend's other messages; while one is expected, `_sift` takes them out.

What must always be true:
- A message that needs a decision is sent to the backend from one place only, `_release`, and that is reached only behind Recorded.
- The held message's own bytes are sent, never a re-encoding.
- A refusal leaves the backend in the state in which the same statement's failure would have left it: with nothing in flight and
  no transaction open we answer ourselves; otherwise a message that must fail goes in its place and its error becomes ours.
- FrontendLost, Terminate and BackendLost end the hold, and nothing that waited is sent.

Tried and dropped: pausing the frontend's socket while a script is held. A paused socket hides its EOF, so a client that gave up
would keep its hold; we read on up to a high-water mark instead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final, assert_never

from policy.judgement import Effect, Judgement, TransactionStep
from policy.lexing import UndecodableError, decode
from policy.tools import Evidence, Reach, recognise
from policy.verdict import Verdict
from protocol import ReadyForQuery, TransactionStatus
from protocol.errors import MessageTooLargeError, ProtocolError, RemoteProtocolError
from protocol.framing import BACKEND_LIMITS, FRONTEND_LIMITS, SMALL_LIMIT_BYTES
from protocol.rows import RowSkipper
from protocol.tracker import (
    BIND,
    CLOSE,
    DESCRIBE,
    EXECUTE,
    FAILED_TRANSACTION,
    FUNCTION_CALL,
    IDLE,
    PARSE,
    QUERY,
    SYNC,
    CopyMode,
    Kind,
    Request,
    Tracker,
)
from proxy import replies
from proxy.acts import (
    SNAPSHOT,
    SPREADING,
    ActRun,
    ActSurvey,
    Meanings,
    PartCheck,
    as_identifier,
    held_act,
    make_part_check,
    make_survey,
    survey_difference,
    title,
    unchanged_statement,
)
from proxy.asides import SKIPPED, Aside, Asides, Asked, aside_of, query_aside
from proxy.backups.model import Copied, CopyKind, CopyOrder, CopyPlan, Substitute
from proxy.commands import (
    CloseSession,
    Command,
    Count,
    DescribeCopy,
    DescribeHold,
    ExpireHold,
    JudgeScript,
    KeepRows,
    MoveHold,
    Note,
    OpenHold,
    PauseFrontend,
    PlanCopy,
    Record,
    ResumeFrontend,
    SendToBackend,
    SendToFrontend,
    StartTimer,
    StopCopy,
    StopTimer,
    TakeCopy,
    Tell,
    TellCopied,
    TellPart,
)
from proxy.escort import COMMIT, ROLLBACK, Escort, Escorted
from proxy.events import (
    BackendLost,
    BackendSent,
    CancelRequested,
    CopyFailed,
    CopyPlanned,
    CopyProgressed,
    CopyTaken,
    Event,
    FrontendLost,
    FrontendSent,
    Granted,
    HoldMoved,
    HoldOpened,
    HoldResolved,
    Judged,
    KillRequested,
    OpenFailed,
    Recorded,
    RecordFailed,
    StopRequested,
    Timer,
    TimerFired,
)
from proxy.gate import Gate
from proxy.held import AT_WORK, UNDECIDED, CoreSettings, Held, Mode, Stage
from proxy.inflight import Committing, Naming, Running, error_fields
from proxy.knowledge import Judge, Knowledge, combined
from proxy.look import CODECS, Look, Question, Sight, difference, make_look, names_of
from proxy.meaning import CHANGED, HARMLESS, Meaning
from proxy.model import AuditEntry, AuditEvent, CopyState, Decision, HoldId, HoldState, Requester
from proxy.petition import Petition, bound_values
from proxy.protection import Phase, Protection, copy_statement, lock_statement, rows_of

# Type bytes of the messages that the walks look at (protocol-message-formats.html).
F_BIND: Final = ord("B")
F_CLOSE: Final = ord("C")
F_COPY_DATA: Final = ord("d")
F_COPY_DONE: Final = ord("c")
F_COPY_FAIL: Final = ord("f")
F_DESCRIBE: Final = ord("D")
F_EXECUTE: Final = ord("E")
F_FLUSH: Final = ord("H")
F_FUNCTION_CALL: Final = ord("F")
F_PARSE: Final = ord("P")
F_QUERY: Final = ord("Q")
F_SYNC: Final = ord("S")
F_TERMINATE: Final = ord("X")

B_COMMAND_COMPLETE: Final = ord("C")
B_DATA_ROW: Final = ord("D")
B_COPY_DATA: Final = ord("d")
B_COPY_DONE: Final = ord("c")
B_ERROR: Final = ord("E")
B_EMPTY_QUERY: Final = ord("I")
B_READY: Final = ord("Z")
B_PARSE_COMPLETE: Final = ord("1")
B_BIND_COMPLETE: Final = ord("2")
B_CLOSE_COMPLETE: Final = ord("3")
B_ROW_DESCRIPTION: Final = ord("T")
B_NO_DATA: Final = ord("n")
B_PORTAL_SUSPENDED: Final = ord("s")
B_COPY_IN: Final = ord("G")
B_COPY_OUT: Final = ord("H")
B_COPY_BOTH: Final = ord("W")
B_PARAMETER_STATUS: Final = ord("S")
B_NOTICE: Final = ord("N")
#: In a notice: SQLSTATE active_sql_transaction.
_ALREADY: Final = b"\0C25001\0"

#: Relayed as they come, without waiting for their end; nothing in their bodies matters to us.
_STREAMED: Final = frozenset(b"TtVDdAcHGWn123Is")
#: Needed whole: their bodies are read.
_WHOLE: Final = frozenset(b"CEZSNv")

#: What may be in flight when a question of ours is sent: nothing that could begin a COPY or take long.
_ASKED_BEHIND: Final = frozenset({Kind.PARSE, Kind.BIND, Kind.DESCRIBE, Kind.CLOSE})
#: The backend's answers to an aside.
_ANSWERS: Final = frozenset(
    {
        B_PARSE_COMPLETE,
        B_BIND_COMPLETE,
        B_DATA_ROW,
        B_COMMAND_COMPLETE,
        B_CLOSE_COMPLETE,
        B_READY,
        B_ERROR,
        B_COPY_OUT,
        B_COPY_DATA,
        B_COPY_DONE,
    }
)
#: What decides about a message under escort.
_ESCORTED: Final = frozenset({B_COMMAND_COMPLETE, B_EMPTY_QUERY, B_PORTAL_SUSPENDED, B_READY, B_ERROR})

#: Their answers may say that a transaction is open, or is none any more.
_STEERS: Final = frozenset({Kind.QUERY, Kind.SYNC, Kind.FUNCTION_CALL})
_COMMITS: Final = frozenset({TransactionStep.COMMIT, TransactionStep.PREPARE})

#: Of what a session sent lately, for whoever decides: how many scripts, and how much of each.
_RECENT: Final = 16
_RECENT_BYTES: Final = 1024
#: Of a held script, for whoever recognises tools.
_EVIDENCE_CHARACTERS: Final = 64 << 10
#: An act is over when nothing of it ran for this many times `act_idle_s`, whatever else the session does.
_ACT_BEATS: Final = 30

_IN_COPY: Final = frozenset({F_COPY_DATA, F_COPY_DONE, F_COPY_FAIL, F_FLUSH, F_SYNC, F_TERMINATE})

#: Fails in any state, has no effect before it does: the raw parser rejects it
#: (protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY; the server's log shows why).
_STAND_IN: Final = b"pghold refused this statement"
STAND_IN_QUERY: Final = b"Q" + (len(_STAND_IN) + 5).to_bytes(4, "big") + _STAND_IN + b"\0"
#: Named, because a Parse of the unnamed statement drops the old one even when it fails.
STAND_IN_PARSE: Final = b"P" + (len(_STAND_IN) + 14).to_bytes(4, "big") + b"pghold\0" + _STAND_IN + b"\0\0\0"

FLUSH: Final = b"H\0\0\0\x04"
TERMINATE: Final = b"X\0\0\0\x04"


def _drops_schema(judgement: Judgement) -> bool:
    return any(kind == "schema" for kind, _ in names_of(judgement))


def complete_message(tag: str) -> bytes:
    """CommandComplete."""
    return b"C" + (len(tag) + 5).to_bytes(4, "big") + tag.encode("ascii") + b"\0"


class Core:
    """The machine. `handle` takes any event; `frontend_sent` and `backend_sent` are its fast entrances."""

    def __init__(self, *, judge: Judge, knowledge: Knowledge, requester: Requester, settings: CoreSettings, rejects: bool = False) -> None:
        self.tracker = Tracker()
        self.knowledge = knowledge
        self.allowed = 0
        self._judge = judge
        self._requester = requester
        self._settings = settings
        self._off = settings.mode is Mode.OFF
        self._rejects = rejects
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._open_series = False
        self._asides = Asides("" if settings.looks else "the settings say not to look")
        self._keeping = 0  # of a CopyData for us that has not come whole
        self._escort: Escort | None = None
        self._gate = Gate()
        self._marks: set[str] = set()
        self._act: ActRun | None = None
        self._sifting = False
        self._held: Held | None = None
        self._draining = False
        self._closed = False
        self._paused = False
        # Frontend bytes: a message that is not complete yet; what waits behind a held one; the rest of a message that
        # is being relayed, or dropped.
        self._partial: bytearray | None = None
        self._partial_needs = 0
        self._waiting = bytearray()
        self._scanned = 0
        self._relaying = 0
        self._dropping = 0
        # Backend bytes: the start of a message that is needed whole; the rest of one that is being relayed.
        self._stash = b""
        self._passing = 0
        self._rows = RowSkipper()
        self._inserts: list[bytes] = []
        self._emitted: list[Command] = []
        self._fatal_seen = False

    # --- what others may ask ------------------------------------------------------------------------------------

    @property
    def hold_id(self) -> HoldId | None:
        return self._held.hold_id if self._held is not None else None

    @property
    def has_hold(self) -> bool:
        """Whether a CancelRequest is about a message of ours that waits, not about the backend."""
        return self._held is not None and self._held.stage not in AT_WORK

    @property
    def is_occupied(self) -> bool:
        """A message waits, or is under escort: there is something that we shall have to send to the backend ourselves."""
        return self._held is not None

    @property
    def has_step(self) -> bool:
        """Something of ours is at work in the backend, which a CancelRequest stops as well."""
        return self._asides.in_flight is not None and not isinstance(self._asides.in_flight, Question)

    @property
    def state(self) -> str:
        if self.has_hold:
            return "held"
        if self._draining:
            return "draining"
        if self.tracker.requests:
            return "active"
        return "idle" if self.tracker.transaction_status == IDLE else "idle in transaction"

    # --- events -------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        """Take one event; return what is to be done, in order."""
        if self._closed:
            return self._after_close(event)
        match event:
            case FrontendSent(chunk):
                commands = self.frontend_sent(chunk)
                return [SendToBackend(chunk)] if commands is None else commands
            case BackendSent(chunk):
                commands = self.backend_sent(chunk)
                return [SendToFrontend(chunk)] if commands is None else commands
            case FrontendLost():
                return [*self._end_hold(HoldState.ABANDONED, "the client went away"), *self._close("client gone")]
            case BackendLost(reason):
                return self._backend_lost(reason)
            case HoldOpened(hold_id):
                return self._hold_opened(hold_id)
            case Granted(hold_id, decision, sight, planned):
                return self._granted(hold_id, decision, sight, planned)
            case OpenFailed(reason):
                return self._open_failed(reason)
            case HoldResolved(hold_id, decision):
                return self._hold_resolved(hold_id, decision)
            case HoldMoved(hold_id, moved):
                return self._hold_moved(hold_id, moved)
            case Judged(judgement):
                return self._judged(judgement)
            case Recorded():
                return self._recorded()
            case RecordFailed(reason):
                return self._record_failed(reason)
            case CopyPlanned(hold_id, plan):
                return self._copy_planned(hold_id, plan)
            case CopyTaken(hold_id, copied):
                return self._copy_taken(hold_id, copied)
            case CopyFailed(hold_id, reason):
                held = self._protected(hold_id)
                return [] if held is None else self._not_protected(held, reason)
            case CopyProgressed(hold_id, text):
                held = self._protected(hold_id)
                if held is not None and held.protection is not None:
                    held.protection.progress = text
                return []
            case TimerFired(timer):
                return self._timer_fired(timer)
            case CancelRequested():
                return self._settle(AuditEvent.WITHDRAWN, HoldState.WITHDRAWN, replies.cancelled, "cancelled by the client")
            case StopRequested():
                return self._stop()
            case KillRequested(operator):
                return self._kill(operator)
            case _:
                assert_never(event)

    def _after_close(self, event: Event) -> list[Command]:
        """A closed session changes nothing any more; what the store did meanwhile for it is put right."""
        match event:
            case HoldOpened(hold_id):
                return [MoveHold(hold_id, HoldState.ABANDONED, "the session ended while the hold was opened")]
            case Granted(hold_id, planned=True):
                return [TellPart(hold_id, "the session ended before it could run", True)]
            case Granted(hold_id):
                return [MoveHold(hold_id, HoldState.ABANDONED, "the session ended before it could run")]
            case HoldResolved(hold_id, decision):
                return self._too_late(hold_id, decision)
            case _:
                return []

    # --- frontend -----------------------------------------------------------------------------------------------

    def frontend_sent(self, chunk: bytes) -> list[Command] | None:
        """Bytes of the frontend. None: forward the chunk as it is."""
        if self._held is None and self._partial is None and not self._dropping and not self._closed:
            stop = self._walk(chunk, 0)
            if stop == len(chunk):
                return None
            return self._feed(chunk, stop)
        return self._slow_frontend(chunk)

    def _slow_frontend(self, chunk: bytes) -> list[Command]:
        if self._closed:
            return []
        if self._held is not None and not (self._held.stage is Stage.RUNNING and (self.tracker.copy == CopyMode.IN or self._relaying)):
            return self._wait(chunk)
        if self._dropping:
            dropped = min(self._dropping, len(chunk))
            self._dropping -= dropped
            return self._feed(chunk[dropped:], 0)
        if self._partial is None:
            return self._feed(chunk, 0)
        self._partial += chunk
        if len(self._partial) < self._partial_needs:
            return []
        data = bytes(self._partial)
        self._partial = None
        return self._feed(data, 0)

    def _feed(self, data: bytes, walked: int) -> list[Command]:
        """Process bytes that begin at a message boundary (or in a message that is being relayed)."""
        out: list[Command] = []
        try:
            start = 0
            position = walked or self._walk(data, 0)
            while True:
                if position > start:
                    out.append(SendToBackend(data[start:position] if start or position < len(data) else data))
                if position >= len(data):
                    break
                start = self._attend(data, position, out)
                if start < 0:
                    break
                if self._held is not None and self.tracker.copy != CopyMode.IN and start < len(data):
                    # The data of a COPY under escort is complete: what is behind it waits for the end of that.
                    self._waiting += data[start:]
                    break
                position = self._walk(data, start)
        except ProtocolError as error:
            out += self._violated(error)
        return out

    def _walk(self, data: bytes, position: int) -> int:
        """Pass over messages that need no decision; return where the first begins that needs a closer look."""
        size = len(data)
        if self._relaying:
            if self._relaying >= size - position:
                self._relaying -= size - position
                return size
            position += self._relaying
            self._relaying = 0
        tracker = self.tracker
        if tracker.skipping or tracker.copy == CopyMode.IN:
            return self._walk_copy_data(data, position) if not tracker.skipping else position
        if self._gate.active or self._act is not None:
            return position
        append = tracker.requests.append
        statements = self.knowledge.statements
        portals = self.knowledge.portals
        while size - position >= 5:
            kind = data[position]
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
            if end > size or end < position + 5:
                return position
            if kind == F_QUERY:
                script = data[position + 5 : end - 1]
                judgement = self._judge.settled(script, self.knowledge.context())
                if judgement is None or not judgement.plain or data[end - 1]:
                    return position
                self.allowed += 1
                append(QUERY)
                self._recent.append(script if end - position < _RECENT_BYTES else script[:_RECENT_BYTES])
                self._open_series = False
            elif kind == F_SYNC:
                if end - position != 5:
                    return position
                append(SYNC)
                tracker.series += 1
                self._open_series = False
            elif kind == F_BIND:
                portal_end = data.find(0, position + 5, end)
                statement_end = data.find(0, portal_end + 1, end)
                if portal_end < 0 or statement_end < 0:
                    return position
                if (
                    statements.settled(data[portal_end + 1 : statement_end]) is not HARMLESS
                    or portals.settled(data[position + 5 : portal_end]) is not HARMLESS
                ):
                    return position
                append(BIND)
                self._open_series = True
            elif kind == F_EXECUTE:
                portal_end = data.find(0, position + 5, end)
                if portal_end < 0 or end - portal_end > 5 or portals.settled(data[position + 5 : portal_end]) is not HARMLESS:
                    return position
                append(EXECUTE)
                self._open_series = True
            elif kind == F_DESCRIBE:
                if end - position > SMALL_LIMIT_BYTES:
                    return position
                append(DESCRIBE)
                self._open_series = True
            elif kind == F_PARSE:
                name_end = data.find(0, position + 5, end)
                script_end = data.find(0, name_end + 1, end)
                if name_end < 0 or script_end < 0 or statements.settled(data[position + 5 : name_end]) is not HARMLESS:
                    return position
                script = data[name_end + 1 : script_end]
                judgement = self._judge.settled(script, self.knowledge.context())
                if judgement is None or not judgement.plain:
                    return position
                append(PARSE)
                self._recent.append(script if len(script) < _RECENT_BYTES else script[:_RECENT_BYTES])
                self._open_series = True
            elif kind != F_COPY_DATA and (kind != F_FLUSH or end - position != 5):
                return position
            position = end
        return position

    def _walk_copy_data(self, data: bytes, position: int) -> int:
        """In COPY IN: CopyData passes; Flush and Sync are ignored by the backend, and pass too."""
        size = len(data)
        while size - position >= 5:
            kind = data[position]
            if kind != F_COPY_DATA and kind != F_SYNC and kind != F_FLUSH:
                return position
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
            if end > size or end < position + 5:
                return position
            position = end
        return position

    def _attend(self, data: bytes, position: int, out: list[Command]) -> int:
        """Deal with the one message at `position`. Return where to go on, or -1 when the rest of data was stored.

        Raises RemoteProtocolError.
        """
        size = len(data)
        if size - position < 5:
            self._partial = bytearray(data[position:])
            self._partial_needs = 5
            return -1
        kind = data[position]
        length = int.from_bytes(data[position + 1 : position + 5], "big")
        self._check_length(kind, length)
        tracker = self.tracker
        if tracker.copy == CopyMode.IN and kind not in _IN_COPY:
            raise RemoteProtocolError(f"unexpected message type 0x{kind:02X} during COPY from stdin")
        end = position + 1 + length
        if tracker.skipping and kind not in (F_SYNC, F_TERMINATE):
            # The backend would read it and do nothing with it; it need not see it, and then nothing rests on that.
            if end > size:
                self._dropping = end - size
                return -1
            return end
        if end > size:
            if kind == F_COPY_DATA or (kind == F_BIND and self._begin_bind(data, position, size)):
                out.append(SendToBackend(data[position:]))
                self._relaying = end - size
                return -1
            self._partial = bytearray(data[position:])
            self._partial_needs = 1 + length
            return -1
        if kind == F_QUERY:
            return self._query(data, position, end, out)
        if kind == F_PARSE:
            return self._parse(data, position, end, out)
        if kind == F_BIND:
            if not self._begin_bind(data, position, end):
                self._bind(data, position, end)
        elif kind == F_EXECUTE:
            return self._execute(data, position, end, out)
        elif kind == F_FUNCTION_CALL:
            return self._function_call(data, position, end, out)
        elif kind == F_CLOSE:
            self._close_name(data, position, end)
        elif kind == F_SYNC:
            if self._gate.active and not tracker.skipping and tracker.copy != CopyMode.IN and not self._is_in_block():
                return self._wait_and_count(Held(Kind.SYNC, data[position:end], b"", HARMLESS.judgement), data, end, out)
            tracker.sent_sync()
            self._open_series = tracker.copy == CopyMode.IN and self._open_series
        elif kind == F_DESCRIBE:
            tracker.requests.append(DESCRIBE)
            self._open_series = True
        elif kind in (F_COPY_DONE, F_COPY_FAIL):
            tracker.sent_copy_end()
        elif kind == F_TERMINATE:
            out.append(SendToBackend(data[position:end]))
            out += self._close("client terminated")
            return -1
        elif kind not in (F_FLUSH, F_COPY_DATA):
            raise RemoteProtocolError(f"invalid frontend message type {kind}")
        out.append(SendToBackend(data[position:end]))
        return end

    def _check_length(self, kind: int, length: int) -> None:
        limit = FRONTEND_LIMITS.get(kind)
        if limit is None or kind == ord("p"):
            raise RemoteProtocolError(f"invalid frontend message type {kind}")
        if kind in (F_QUERY, F_PARSE):
            limit = min(limit, self._settings.max_script_bytes)
        if length < 4:
            raise RemoteProtocolError("invalid message length")
        if length > limit:
            raise MessageTooLargeError(f"message type 0x{kind:02X} of {length} bytes is over the limit", limit)

    # --- messages that need a decision or change a name ---------------------------------------------------------

    def _query(self, data: bytes, position: int, end: int, out: list[Command]) -> int:
        script = data[position + 5 : end - 1]
        if data.find(0, position + 5, end) != end - 1:
            # "invalid message format" is what the backend says; it refuses the whole message, and so do we.
            raise RemoteProtocolError("invalid message format")
        frame = data[position:end]
        if self._off:
            self._send_query(frame, (), out)
            return end
        context = self.knowledge.exact_context()
        judgement = self._judge.settled(script, context)
        if judgement is None:
            if len(script) > self._settings.judge_inline_bytes:
                return self._judge_elsewhere(Held(Kind.QUERY, frame, script, HARMLESS.judgement), data, end, out)
            judgement = self._judge.judge(script, context)
        return self._decide(Held(Kind.QUERY, frame, script, judgement), data, end, out)

    def _execute(self, data: bytes, position: int, end: int, out: list[Command]) -> int:
        portal_end = data.find(0, position + 5, end)
        if portal_end < 0:
            raise RemoteProtocolError("invalid string in message")
        portal = data[position + 5 : portal_end]
        meaning = self.knowledge.portal(portal, self.tracker.series)
        judgement = combined(meaning)
        if judgement.wants_values or any(m.judgement.wants_values for m in meaning.alternatives):
            judgement = self._with_values(meaning, judgement)
        held = Held(Kind.EXECUTE, data[position:end], meaning.script or b"", judgement, bind=meaning.bind, portal=portal)
        held.is_ambiguous = bool(meaning.alternatives)
        return self._decide(held, data, end, out)

    def _with_values(self, meaning: Meaning, judgement: Judgement) -> Judgement:
        """The judgement of a portal whose parameters could open its condition for every row."""
        if meaning.alternatives or meaning.script is None or len(meaning.script) > self._settings.judge_inline_bytes:
            return combined(CHANGED)
        try:
            values = tuple(value for value, _ in bound_values(meaning.bind)) if meaning.bind else ()
        except ValueError:
            return judgement  # the backend refuses the Bind
        found = self._judge.judge_bound(meaning.script, self.knowledge.exact_context(), values)
        return found if found.verdict > judgement.verdict else judgement

    def _function_call(self, data: bytes, position: int, end: int, out: list[Command]) -> int:
        if end - position < 9:
            raise RemoteProtocolError("invalid message format")
        frame = data[position:end]
        if self._off:
            self.tracker.requests.append(FUNCTION_CALL)
            out.append(SendToBackend(frame))
            return end
        oid = int.from_bytes(frame[5:9], "big")
        judgement = self._judge.judge_function_call(oid, self.knowledge.exact_context())
        return self._decide(Held(Kind.FUNCTION_CALL, frame, b"", judgement), data, end, out)

    def _decide(self, held: Held, data: bytes, end: int, out: list[Command]) -> int:
        """Forward the message when it is allowed; else hold it and keep what is behind it."""
        judgement = held.judgement
        if judgement.marks:
            self._marks.update(judgement.marks)
        if judgement.verdict is Verdict.ALLOW or self._off:
            if self._act is not None:
                self._act.saw(judgement)
            if (judgement.gated or self._gate.active) and self._must_count(held):
                return self._wait_and_count(held, data, end, out)
            self.allowed += 1
            out += self._forward(held)
            return end
        if self._cannot_run(held):
            out += self._refuse(held, None)
            return end
        self._held = held
        self._waiting = bytearray(data[end:])
        self._scanned = 0
        out += self._hold()
        out += self._scan_waiting()
        return -1

    # --- the commit gate: rows are counted before what commits them goes (gate.py) ----------------------------------

    def _is_in_block(self) -> bool:
        """Surely a transaction block of the client's is open: what is sent now is committed by a COMMIT, and by nothing else."""
        tracker, gate = self.tracker, self._gate
        if not tracker.requests:
            gate.steering = False
            if not self._open_series:
                gate.in_block = tracker.transaction_status != IDLE
                if not gate.in_block:
                    gate.reset()  # no transaction is open at all
            return gate.in_block
        return gate.in_block and not gate.steering and all(r.kind not in _STEERS for r in tracker.requests)

    def _must_count(self, held: Held) -> bool:
        """Whether this message could commit rows that are to be counted first."""
        in_block = self._is_in_block()
        statements = held.judgement.statements
        if any(s.transaction in _COMMITS for s in statements):
            return self._gate.active
        if held.kind is Kind.EXECUTE or in_block:
            return False
        # A Query or FunctionCall commits the series before it as well; a Query that begins a transaction leaves it open.
        return self._gate.active or (any(s.limits for s in statements) and all(s.transaction is None for s in statements))

    def _gate_ready(self, status: int) -> None:
        """The server says whether a transaction is open."""
        if status == IDLE:
            self._gate.ended()
        else:
            self._gate.in_block = True

    def _wait_and_count(self, held: Held, data: bytes, end: int, out: list[Command]) -> int:
        self._held = held
        held.stage = Stage.COUNTING
        self._waiting = bytearray(data[end:])
        self._scanned = 0
        out += self._count(held)
        return -1

    def _count(self, held: Held) -> list[Command]:
        """Everything before it must be answered; then it goes, or is held."""
        tracker = self.tracker
        if tracker.skipping:
            self._gate.reset()
        elif tracker.requests:
            if self._open_series and not held.flushed:
                held.flushed = True
                return [SendToBackend(FLUSH)]
            return []
        elif self._gate.active and tracker.transaction_status != FAILED_TRANSACTION:
            commits = any(s.transaction in _COMMITS for s in held.judgement.statements)
            exceeded = self._gate.exceeded() if commits or not self._is_in_block() else ""
            if exceeded:
                return self._hold_commit(held, exceeded)
        self._held = None
        return [*self._pass_gate(held), *(self._go_on() if self._held is None else ())]

    def _pass_gate(self, held: Held) -> list[Command]:
        """It may commit what was counted so far."""
        tracker = self.tracker
        if held.kind is Kind.SYNC:
            tracker.sent_sync()
            self._open_series = False
            return [SendToBackend(held.frame)]
        self.allowed += 1
        if tracker.skipping:
            return []  # the backend would skip it as well
        limited = any(s.limits for s in held.judgement.statements)
        alone = held.kind is Kind.QUERY and all(s.transaction is None for s in held.judgement.statements)
        if limited and alone and tracker.transaction_status == IDLE and self._open_series:
            # It would commit at once, and what is before it with it: held before it runs, as any dangerous statement.
            why = "its rows cannot be counted first: it was sent behind messages that no Sync has ended"
            held.judgement = self._gate.uncountable(held.judgement, why)
            held.stage = Stage.OPENING
            self._held = held
            return self._hold()
        if limited and alone and tracker.transaction_status == IDLE:
            self._gate.reset()
            self._gate.sent(held.judgement)
            escort = Escort(held, wrapped=True)
            escort.opening = True
            self._held = held
            held.stage = Stage.RUNNING
            self._escort = escort
            return [SendToBackend(self._asides.send(aside_of((b"BEGIN",), self._asides.next_number(), has_sync=True), held, tracker))]
        return self._forward(held)

    def statement_done(self, held: Held, index: int, tag: str) -> None:
        """For requests in flight: a statement of a script that counts has succeeded."""
        self._gate.counted(held.judgement, index, tag)

    def _hold_commit(self, held: Held, exceeded: str) -> list[Command]:
        """More rows than the policy allows: what commits them waits for a decision."""
        held.commits = True
        held.effects = tuple(s.effects for s in held.judgement.statements)
        held.judgement = self._gate.judgement(exceeded)
        held.script = self._gate.script.encode()
        if self._rejects:
            # Its client does not wait, and there is nothing to approve later: the rows are undone with this answer.
            finding = replace(held.judgement.findings[0], verdict=Verdict.DENY)
            held.judgement = replace(held.judgement, verdict=Verdict.DENY, findings=(finding,))
        self._held = held
        held.stage = Stage.OPENING
        return self._hold()

    def _commit(self, held: Held) -> list[Command]:
        """It was approved."""
        escort = held.escort
        if escort is not None:
            self._held = escort.held
            self._escort = escort
            escort.ending = True
            escort.commit = held
            return self._end_transaction(escort, COMMIT)
        self._held = None
        if held.kind is Kind.SYNC:
            self.tracker.requests.append(Committing(self, held))
            self.tracker.series += 1
            self.tracker.skipping = False
            self._open_series = False
            return [SendToBackend(held.frame), *self._go_on()]
        return [*self._forward(held), *self._go_on()]

    def _undo_commit(self, held: Held, error: bytes) -> list[Command]:
        """It was denied, or whatever: roll back, and tell that as if the commit had failed."""
        escort = held.escort
        if escort is not None:
            self._held = escort.held
            self._escort = escort
            escort.withheld = b""
            escort.failed = "its commit was refused"
            escort.error = error
            return self._end_transaction(escort, ROLLBACK)
        if held.kind is Kind.SYNC:
            self.tracker.requests.append(Request(Kind.PARSE, error))
            self.tracker.sent_sync()
            self._open_series = False
            self._held = None
            return [SendToBackend(STAND_IN_PARSE + held.frame), *self._go_on()]
        if not held.undone and self.tracker.transaction_status != IDLE:
            held.undone = True
            held.stage = Stage.UNWINDING
            if held.kind is Kind.QUERY:
                aside = query_aside(ROLLBACK)
            else:
                aside = aside_of((ROLLBACK,), self._asides.next_number(), has_sync=False)
                self._open_series = True
            return [SendToBackend(self._asides.send(aside, held, self.tracker))]
        self._held = None
        return [*self._refuse(held, error), *self._go_on()]

    def _cannot_run(self, held: Held) -> bool:
        """In a failed transaction, with nothing in flight, a script without transaction control can only fail.

        Its stand-in fails in the same way, with the backend's own 25P02, so nobody needs to be asked.
        """
        return (
            self.tracker.transaction_status == FAILED_TRANSACTION
            and not self.tracker.requests
            and held.kind is Kind.QUERY
            and all(s.transaction is None for s in held.judgement.statements)
            and bool(held.judgement.statements)
        )

    def _parse(self, data: bytes, position: int, end: int, out: list[Command]) -> int:
        name_end = data.find(0, position + 5, end)
        script_end = data.find(0, name_end + 1, end)
        if name_end < 0 or script_end < 0:
            raise RemoteProtocolError("invalid string in message")
        name = data[position + 5 : name_end]
        script = data[name_end + 1 : script_end]
        frame = data[position:end]
        if self._off:
            self._name_statement(name, script, HARMLESS.judgement)
        else:
            context = self.knowledge.exact_context()
            judgement = self._judge.settled(script, context)
            if judgement is None:
                if len(script) > self._settings.judge_inline_bytes:
                    return self._judge_elsewhere(Held(Kind.PARSE, frame, script, HARMLESS.judgement, portal=name), data, end, out)
                judgement = self._judge.judge(script, context)
            self._name_statement(name, script, judgement)
        out.append(SendToBackend(frame))
        return end

    def _name_statement(self, name: bytes, script: bytes, judgement: Judgement) -> None:
        self._open_series = True
        if judgement.marks:
            self._marks.update(judgement.marks)
        if judgement.verdict is Verdict.ALLOW and not self._off:
            # As the fast path does; the others are remembered when they run.
            self._recent.append((judgement.display.encode() or script)[:_RECENT_BYTES])
        meaning = HARMLESS if judgement.plain else Meaning(judgement, script, self.knowledge.generation)
        self.knowledge.statements.assign(name, meaning, self.tracker.series)
        self.tracker.requests.append(Naming(Kind.PARSE, self.knowledge.statements.confirm, self.knowledge.statements.drop, name))

    def _judge_elsewhere(self, held: Held, data: bytes, end: int, out: list[Command]) -> int:
        """Have a long script judged off the loop; what is behind it waits."""
        held.stage = Stage.JUDGING
        self._held = held
        self._waiting = bytearray(data[end:])
        self._scanned = 0
        out.append(JudgeScript(held.script, self.knowledge.exact_context()))
        return -1

    def _begin_bind(self, data: bytes, position: int, end: int) -> bool:
        """Register a Bind of a harmless statement, whose values nobody needs to see. False: it is needed whole."""
        portal_end = data.find(0, position + 5, end)
        statement_end = data.find(0, portal_end + 1, end) if portal_end >= 0 else -1
        if statement_end < 0:
            return False
        statement = self.knowledge.statement(data[portal_end + 1 : statement_end], self.tracker.series)
        if statement is not HARMLESS:
            return False
        self._open_portal(data[position + 5 : portal_end], HARMLESS)
        return True

    def _bind(self, data: bytes, position: int, end: int) -> None:
        portal_end = data.find(0, position + 5, end)
        statement_end = data.find(0, portal_end + 1, end) if portal_end >= 0 else -1
        if statement_end < 0:
            raise RemoteProtocolError("invalid string in message")
        meaning = self.knowledge.statement(data[portal_end + 1 : statement_end], self.tracker.series)
        frame = data[position:end]
        self._open_portal(
            data[position + 5 : portal_end],
            Meaning(meaning.judgement, meaning.script, meaning.generation, frame, meaning.alternatives),
        )

    def _open_portal(self, portal: bytes, meaning: Meaning) -> None:
        self._open_series = True
        portals = self.knowledge.portals
        if meaning is HARMLESS and portals.settled(portal) is HARMLESS:
            self.tracker.requests.append(BIND)
            return
        portals.assign(portal, meaning, self.tracker.series)
        self.tracker.requests.append(Naming(Kind.BIND, portals.confirm, portals.drop, portal))

    def _close_name(self, data: bytes, position: int, end: int) -> None:
        if end - position < 7 or data.find(0, position + 6, end) != end - 1:
            raise RemoteProtocolError("invalid message format")
        self._open_series = True
        name = data[position + 6 : end - 1]
        kind = data[position + 5]
        if kind not in (ord("S"), ord("P")):
            # The backend answers with an error of its own ("invalid CLOSE message subtype").
            self.tracker.requests.append(CLOSE)
            return
        names = self.knowledge.statements if kind == ord("S") else self.knowledge.portals
        names.assign(name, None, self.tracker.series)
        self.tracker.requests.append(Naming(Kind.CLOSE, names.confirm, names.drop, name))

    # --- forwarding, holding, refusing --------------------------------------------------------------------------

    def _forward(self, held: Held) -> list[Command]:
        """Send the message itself, and follow what becomes of it."""
        effects = held.effects or tuple(s.effects for s in held.judgement.statements)
        out: list[Command] = []
        self._open_series = held.kind is Kind.EXECUTE
        if held.judgement.gated and held.hold_id is None:
            self._gate.sent(held.judgement)
        self._remember(held)
        if held.kind is Kind.QUERY:
            self._send_query(held.frame, effects, out, held)
        elif held.kind is Kind.EXECUTE:
            if held.hold_id is None and not any(effects) and not held.judgement.announced and not held.judgement.gated:
                self.tracker.requests.append(EXECUTE)
            else:
                self.tracker.requests.append(Running(self, Kind.EXECUTE, effects, self.tracker.series, held))
            out.append(SendToBackend(held.frame))
        else:
            request = FUNCTION_CALL if held.hold_id is None else Running(self, Kind.FUNCTION_CALL, (), -1, held)
            self.tracker.requests.append(request)
            out.append(SendToBackend(held.frame))
        return out

    def _remember(self, held: Held) -> None:
        if held.script:
            self._recent.append((held.judgement.display.encode() or held.script)[:_RECENT_BYTES])

    def _send_query(self, frame: bytes, effects: tuple[tuple[Effect, ...], ...], out: list[Command], held: Held | None = None) -> None:
        if any(effects) or (held is not None and (held.hold_id is not None or held.judgement.announced or held.judgement.gated)):
            assert held is not None
            self.tracker.requests.append(Running(self, Kind.QUERY, effects, -1, held))
        else:
            self.tracker.requests.append(QUERY)
        self._open_series = False
        out.append(SendToBackend(frame))

    def _hold(self) -> list[Command]:
        """Begin the decision about `self._held`, whose judgement is not ALLOW."""
        held = self._held
        assert held is not None
        if held.judgement.verdict >= Verdict.HOLD and not held.commits:
            if self._may_be_part(held):
                return self._begin_part(held)
            self._recognise(held)
        return self._hold_alone(held)

    def _hold_alone(self, held: Held) -> list[Command]:
        verdict = held.judgement.verdict
        count = Count(verdict.name.lower(), held.judgement.rule_ids)
        if self._settings.mode is Mode.OBSERVE or verdict is Verdict.WARN:
            held.stage = Stage.SETTLING
            if verdict is not Verdict.WARN:
                return [count, Record(self._entry(AuditEvent.OBSERVED, held, reason=verdict.name.lower()))]
            reasons = dict.fromkeys(f.allowed_because for f in held.judgement.findings if f.allowed_because)
            event = AuditEvent.ALLOWED if reasons else AuditEvent.WARNED
            return [count, Record(self._entry(event, held, reason="; ".join(reasons) or verdict.name.lower()))]
        if verdict is Verdict.DENY:
            held.stage = Stage.SETTLING
            held.settlement = self._encoded(replies.denied_by_policy(held.judgement))
            return [count, Record(self._entry(AuditEvent.DENIED_BY_POLICY, held))]
        return [count, *self._open(held)]

    def _open(self, held: Held) -> list[Command]:
        if held.act is not None and not held.surveyed and self._wants_survey(held):
            return self._survey(held)
        # A series without its Sync yet is an implicit transaction: locks of its earlier statements stay as well.
        in_transaction = self.tracker.transaction_status != IDLE or bool(self.tracker.requests) or held.commits
        settings = self._settings
        held.rejects = self._rejects
        held.timeout_s = settings.hold_timeout_in_transaction_s if in_transaction else settings.hold_timeout_s
        if held.rejects:
            held.timeout_s = settings.retry_timeout_s
        held.stage = Stage.OPENING
        request = self._petition(held).request(
            held.timeout_s,
            in_transaction,
            waits=not held.rejects,
            follows=held.follows,
            difference=held.difference,
            recent=self._recent_scripts(),
        )
        # Asked first, so that the server answers while the store writes. What is held again was looked at just now.
        return [*(self._ask(held) if held.sight is None else ()), OpenHold(request)]

    def _hold_opened(self, hold_id: HoldId) -> list[Command]:
        held = self._held
        if held is None or held.stage is not Stage.OPENING:
            return [MoveHold(hold_id, HoldState.WITHDRAWN, "the statement was withdrawn while the hold was opened")]
        held.hold_id = hold_id
        held.stage = Stage.NOTING
        out: list[Command] = []
        if held.sight is not None:
            out.append(DescribeHold(hold_id, held.sight))
        if not held.rejects:
            what = title(held.act, held.sight) if held.act is not None else ""
            notice = replies.held_notice(hold_id, held.judgement, held.timeout_s, held.difference, what)
            out += [
                *self._insert(self._encoded(notice)),
                StartTimer(Timer.HEARTBEAT, self._settings.heartbeat_s),
                StartTimer(Timer.EXPIRY, held.timeout_s),
            ]
        return [*out, Record(self._entry(AuditEvent.HELD, held, outcome="" if not held.rejects else "the client does not wait"))]

    def _granted(self, hold_id: HoldId, decision: Decision, sight: Sight | None, planned: bool) -> list[Command]:
        held = self._held
        if held is None or held.stage is not Stage.OPENING:
            why = "the statement was withdrawn before it could run"
            return [TellPart(hold_id, why, True) if planned else MoveHold(hold_id, HoldState.WITHDRAWN, why)]
        held.hold_id = hold_id
        held.decision = decision
        if planned:
            # The plan is on record, with every statement of it.
            held.part = held.planned = True
            held.act = None
            return [*self._guard(held), *self._scan_waiting()]
        held.granted = True
        if sight is None:
            # A grant for the session is about rules: about this statement, and not about all that might follow it.
            held.act = None
            held.surveyed = False
        held.sight = sight
        held.stage = Stage.SETTLING
        return [Record(self._entry(AuditEvent.GRANT_USED, held, operator=decision.operator, reason=decision.reason))]

    def _reject(self, held: Held) -> list[Command]:
        """Nobody waits: the hold stays, the message is refused."""
        self._held = None
        assert held.hold_id is not None
        error = self._encoded(replies.not_waiting(held.judgement, held.hold_id, self._settings.retry_timeout_s))
        return [*self._refuse(held, error), *self._go_on()]

    def _open_failed(self, reason: str) -> list[Command]:
        held = self._held
        if held is None or held.stage is not Stage.OPENING:
            return []
        held.stage = Stage.SETTLING
        held.settlement = self._encoded(replies.not_stored(held.judgement, reason))
        return [Record(self._entry(AuditEvent.DENIED, held, reason=reason, outcome="hold not stored"))]

    def _judged(self, judgement: Judgement) -> list[Command]:
        held = self._held
        if held is None or held.stage is not Stage.JUDGING:
            return []
        held.judgement = judgement
        self._marks.update(judgement.marks)
        if held.kind is Kind.PARSE:
            self._held = None
            self._name_statement(held.portal, held.script, judgement)
            return [SendToBackend(held.frame), *self._go_on()]
        if judgement.verdict is Verdict.ALLOW:
            self.allowed += 1
            self._held = None
            return [*self._forward(held), *self._go_on()]
        if self._cannot_run(held):
            self._held = None
            return [*self._refuse(held, None), *self._go_on()]
        out = self._hold()
        return [*out, *self._scan_waiting()]

    def _hold_resolved(self, hold_id: HoldId, decision: Decision) -> list[Command]:
        held = self._held
        if held is None or held.hold_id != hold_id or held.stage not in UNDECIDED:
            return self._too_late(hold_id, decision)
        held.decision = decision
        if held.stage is Stage.NOTING:
            return []  # taken up when the hold itself is on record
        return self._apply_decision(held)

    def _apply_decision(self, held: Held) -> list[Command]:
        decision = held.decision
        assert decision is not None
        held.stage = Stage.SETTLING
        event = AuditEvent.APPROVED if decision.approved else AuditEvent.DENIED
        if not decision.approved:
            held.settlement = self._encoded(replies.denied_by_operator(held.judgement, held.hold_id, decision))
            held.end = HoldState.DENIED
        return [
            StopTimer(Timer.HEARTBEAT),
            StopTimer(Timer.EXPIRY),
            *(self._begin_act(held, refuses=True) if not decision.approved else ()),
            Record(self._entry(event, held, operator=decision.operator, reason=decision.reason)),
        ]

    def _too_late(self, hold_id: HoldId, decision: Decision) -> list[Command]:
        entry = AuditEntry(
            AuditEvent.DECISION_TOO_LATE,
            requester=self._requester,
            environment=self._settings.environment,
            hold_id=hold_id,
            operator=decision.operator,
            reason=decision.reason,
            outcome="approved" if decision.approved else "denied",
        )
        return [MoveHold(hold_id, HoldState.ABANDONED, "the session was no longer waiting"), Note(entry)]

    def _hold_moved(self, hold_id: HoldId, moved: bool) -> list[Command]:
        held = self._held
        if held is None or held.hold_id != hold_id or held.stage is not Stage.PENDING or not moved:
            return []  # not moved: an operator was faster, and HoldResolved is on its way
        refused = self._begin_act(held, refuses=True)
        return [*refused, *self._settle(AuditEvent.EXPIRED, HoldState.EXPIRED, replies.expired, "expired")]

    def _settle(self, event: AuditEvent, end: HoldState, reply: replies.About, why: str) -> list[Command]:
        """End the hold without running the statement: on record first, then the frontend gets `reply`."""
        held = self._held
        if held is None or held.stage is Stage.UNWINDING or held.stage in AT_WORK:
            return []
        if held.stage is Stage.SETTLING and (held.settlement is not None or held.hold_id is None):
            return []  # it is being refused already, or was never a hold
        recording = held.protection is not None and held.protection.phase is Phase.RECORDING
        waiting_for_record = held.stage in (Stage.SETTLING, Stage.NOTING) or (held.stage is Stage.PROTECTING and recording)
        held.settlement = self._encoded(reply(held.judgement, held.hold_id))
        held.end = end
        held.why = why
        held.stage = Stage.SETTLING
        out: list[Command] = [StopTimer(Timer.HEARTBEAT), StopTimer(Timer.EXPIRY), *self._stop_copy(held)]
        entry = self._entry(event, held, outcome=why)
        # Another record is on its way already: its Recorded will carry this settlement out.
        out.append(Note(entry) if waiting_for_record else Record(entry))
        return out

    def _recorded(self) -> list[Command]:
        held = self._held
        if held is None:
            return []
        if held.stage is Stage.NOTING:
            held.stage = Stage.PENDING
            if held.rejects:
                # What it is about is kept with the hold, for whoever decides later.
                return [self._wait_for_look()] if self._asides.in_flight is not None else self._reject(held)
            if held.decision is not None:
                return self._apply_decision(held)
            return self._scan_waiting()
        if held.stage is Stage.PROTECTING and held.protection is not None and held.protection.phase is Phase.RECORDING:
            return self._release(held)
        if held.stage is not Stage.SETTLING:
            return []
        if self.tracker.skipping and not held.skipped:
            return self._skip_held(held, SKIPPED)
        if held.settlement is None:
            return self._check(held)
        return self._finish_refusal(held)

    def _finish_refusal(self, held: Held) -> list[Command]:
        """It is on record that it does not run: close what was opened for it, then tell."""
        protection = held.protection
        unwinds = held.commits or (protection is not None and protection.wrapped)
        if self._asides.in_flight is not None and (unwinds or not isinstance(self._asides.in_flight, Question)):
            held.stage = Stage.UNWINDING
            return []  # its answer comes first
        if protection is not None and protection.wrapped and self.tracker.transaction_status != IDLE:
            held.stage = Stage.UNWINDING
            return [SendToBackend(self._asides.send(query_aside(ROLLBACK), held, self.tracker))]
        if held.commits and not held.undone and not self.tracker.skipping:
            assert held.settlement is not None
            moved: list[Command] = []
            if held.hold_id is not None and (held.end is HoldState.WITHDRAWN or protection is not None):
                moved += self._move(held, held.end, held.why)
            return [*moved, *self._undo_commit(held, held.settlement)]
        self._held = None
        out: list[Command] = []
        # An expiry and an operator's denial are in the store already.
        if held.hold_id is not None and (held.part or held.end is HoldState.WITHDRAWN or protection is not None) and not held.undone:
            out += self._move(held, held.end, held.why)
        error = held.settlement
        if held.skipped and self.tracker.skipping and error is not None:
            return [*out, *self._insert(error), *self._go_on()]
        return [*out, *self._refuse(held, error), *self._go_on()]

    def _record_failed(self, reason: str) -> list[Command]:
        # Safety: no record, no effect (test_core_holds: a release whose record fails is refused).
        held = self._held
        if held is None:
            return []
        out: list[Command] = [StopTimer(Timer.HEARTBEAT), StopTimer(Timer.EXPIRY), *self._stop_copy(held)]
        held.settlement = self._encoded(replies.not_recorded(held.judgement, held.hold_id))
        held.end = HoldState.WITHDRAWN
        held.why = f"the audit log failed: {reason}"
        return [*out, *self._finish_refusal(held)]

    def _release(self, held: Held) -> list[Command]:
        """The only way for a dangerous message to the backend: what lets it go is on record, and what it destroys is copied."""
        self._held = None
        protection = held.protection
        plan = protection.plan if protection is not None else None
        out: list[Command] = []
        if held.hold_id is not None and not held.part:
            out.append(MoveHold(held.hold_id, HoldState.RELEASED))
        out += self._begin_act(held, refuses=False)
        if held.part:
            out.append(StopTimer(Timer.LOOK))
        if protection is not None:
            out.append(StopTimer(Timer.HEARTBEAT))
            if protection.copied is not None and held.hold_id is not None and not held.part:
                out += self._insert(self._encoded(replies.copied_notice(held.hold_id, protection.copied.text)))
        if held.judgement.verdict is Verdict.WARN and any(f.verdict is Verdict.WARN for f in held.judgement.findings):
            out += self._insert(self._encoded(replies.warning(held.judgement)))
        if held.granted and held.hold_id is not None and held.decision is not None:
            out += self._insert(self._encoded(replies.granted_notice(held.hold_id, held.decision)))
        if held.commits:
            return [*out, *self._commit(held)]
        if plan is not None and plan.substitute is not None:
            return [*out, *self._send_substitute(held, plan.substitute)]
        if protection is not None and plan is not None and (plan.counted or protection.wrapped):
            escort = Escort(held, expected=protection.rows if plan.counted else None, wrapped=protection.wrapped)
            return [*out, *self._send_escorted(held, escort, held.frame)]
        return [*out, *self._forward(held), *self._go_on()]

    # --- acts of tools (acts.py) ------------------------------------------------------------------------------------

    def _recognise(self, held: Held) -> None:
        """Whether it begins an act of a tool; then the judgement is about that."""
        script = (held.judgement.display or held.script[:_EVIDENCE_CHARACTERS].decode("utf-8", "replace"))[:_EVIDENCE_CHARACTERS]
        name, database = self.knowledge.application_name, self._requester.database
        act = recognise(Evidence(name, database, frozenset(self._marks), self._recent_scripts(), script, held.judgement))
        if act is None:
            return
        held.judgement = self._judge.as_act(held.judgement, act, database)
        if held.judgement.verdict is Verdict.HOLD:
            held.act = held_act(act)

    def _wants_survey(self, held: Held) -> bool:
        assert held.act is not None
        return held.act.reach != Reach.DATABASE

    def _is_moment(self, held: Held) -> bool:
        """Whether the session can be asked something, now or as soon as what is in flight is answered."""
        no_moment = self.tracker.transaction_status == FAILED_TRANSACTION or (self._open_series and held.kind is not Kind.EXECUTE)
        return not self._asides.closed and not no_moment

    def _survey(self, held: Held) -> list[Command]:
        held.surveyed = True
        if not self._is_moment(held):
            return self._surveyed(held, Sight(unbound="this is no moment to ask the session"))
        held.stage = Stage.SURVEYING
        return [self._wait_for_look(), *self._ask(held)]

    def _surveyed(self, held: Held, sight: Sight) -> list[Command]:
        """It is known what the act is about; if not, the hold is about its first statement alone."""
        if sight.unbound:
            held.act = None
            held.surveyed = False
        else:
            held.sight = sight
        return [StopTimer(Timer.LOOK), *self._open(held)]

    def _begin_act(self, held: Held, *, refuses: bool) -> list[Command]:
        """From now on what belongs to its act, if it has begun one, is decided like it."""
        act, sight = held.act, held.sight
        if act is None or act.reach not in SPREADING or sight is None or sight.unbound or held.hold_id is None:
            return []
        out = self._end_act()
        run = self._act = ActRun(held.hold_id, act, held.decision, sight, self.knowledge.context().role, refuses)
        run.begins_with(held.judgement)
        protection = held.protection
        if protection is not None and protection.copied is not None and protection.snapshot:
            run.snapshot = protection.snapshot
            run.in_block = not protection.wrapped and self.tracker.transaction_status != IDLE
        return [*out, StartTimer(Timer.ACT, self._settings.act_idle_s)]

    def _end_act(self) -> list[Command]:
        run, self._act = self._act, None
        if run is None:
            return []
        if run.refuses:
            return [StopTimer(Timer.ACT)]
        who = replace(self._requester, application_name=self.knowledge.application_name)
        entry = AuditEntry(AuditEvent.ACT_ENDED, who, self._settings.environment, run.hold_id, outcome=run.outcome)
        state = HoldState.DONE if run.done else HoldState.FAILED
        return [StopTimer(Timer.ACT), *map(Note, run.notes), MoveHold(run.hold_id, state, run.outcome), Note(entry)]

    def _act_beats(self) -> list[Command]:
        """Time has passed: is the act still going on?"""
        run = self._act
        if run is None:
            return []
        run.beats += 1
        notes, run.notes = run.notes, []
        is_busy = self._held is not None or bool(self.tracker.requests) or self.tracker.transaction_status != IDLE
        is_quiet = not is_busy and self.allowed == run.allowed
        run.allowed = self.allowed
        if is_quiet or (run.beats > _ACT_BEATS and not is_busy):
            return [*map(Note, notes), *self._end_act()]
        return [*map(Note, notes), StartTimer(Timer.ACT, self._settings.act_idle_s)]

    def _may_be_part(self, held: Held) -> bool:
        if self._act is None or self._settings.mode is Mode.OBSERVE or not self._is_moment(held):
            return False
        if held.is_ambiguous or self._act.role != self.knowledge.context().role:
            return False
        held.asked = self._act.asks(held.judgement)
        return held.asked is not None

    def _begin_part(self, held: Held) -> list[Command]:
        """It may belong to the act that was approved."""
        run = self._act
        assert run is not None
        held.part = True
        held.hold_id, held.decision = run.hold_id, run.decision
        held.stage = Stage.CHECKING
        if not held.asked:
            return self._part_checked(held, None)
        return [self._wait_for_look(), *self._ask(held)]

    def _part_checked(self, held: Held, check: PartCheck | None) -> list[Command]:
        """It is known what its names mean."""
        run = self._act
        if run is not None and check is not None and run.needs_more(check):
            held.surveyed = True
            return self._ask(held)
        meanings = check.meanings() if check is not None else None if held.asked else Meanings()
        if run is None or meanings is None or not run.covers(held.judgement, meanings):
            held.part = held.surveyed = False
            held.hold_id = held.decision = None
            self._recognise(held)
            return [StopTimer(Timer.LOOK), *self._hold_alone(held)]
        if run.refuses:
            return [StopTimer(Timer.LOOK), *self._refuse_part(held, run)]
        run.takes(held.judgement, meanings)
        known = run.known(meanings)
        waived = run.decision is not None and run.decision.without_backup
        if not self._settings.protects or waived or (run.snapshot and (run.in_block or not known)):
            # What lets it go is on record: the approval, with every relation that it is about.
            return [Count("part", held.judgement.rule_ids), *self._release(held)]
        protection = held.protection = Protection()
        held.stage = Stage.PROTECTING
        held.heartbeats = 0
        out: list[Command] = [StopTimer(Timer.LOOK), StartTimer(Timer.HEARTBEAT, self._settings.heartbeat_s)]
        if not run.snapshot:
            return [*out, PlanCopy(self._order(held))]
        lock = tuple(as_identifier(name) for name, _ in known)
        protection.phase = Phase.STEPPING
        protection.plan = CopyPlan(CopyKind.DUMP, "part of an act", lock=lock, locked=tuple(oid for _, oid in known))
        protection.snapshot = run.snapshot
        return [*out, *self._step(held)]

    def _refuse_part(self, held: Held, run: ActRun) -> list[Command]:
        """Nobody is asked again about what was refused."""
        decision = run.decision
        if decision is None:
            held.settlement = self._encoded(replies.expired(held.judgement, run.hold_id))
        else:
            held.settlement = self._encoded(replies.denied_by_operator(held.judgement, run.hold_id, decision))
        held.stage = Stage.SETTLING
        operator, reason = (decision.operator, decision.reason) if decision is not None else ("", "")
        entry = self._entry(AuditEvent.DENIED, held, operator=operator, reason=reason, outcome="part of what was refused")
        return [Count("part", held.judgement.rule_ids), Record(entry)]

    def _part_stepped(self, held: Held, protection: Protection, aside: Aside) -> list[Command]:
        """It is locked, and the server says whether the act's copy is still right."""
        if aside.row[6:] == b"t":
            return [Count("part", held.judgement.rule_ids), *self._release(held)]
        # Safety: what somebody wrote since is copied first (test_acts).
        protection.snapshot = ""
        protection.phase = Phase.PLANNING
        return [PlanCopy(self._order(held))]

    # --- what it is about -------------------------------------------------------------------------------------------

    def _ask(self, held: Held) -> list[Command]:
        """Ask the session what the held message is about, if this is the moment for it; later `backend_sent` tries again."""
        tracker = self.tracker
        if (
            self._asides.closed
            or self._asides.in_flight is not None
            or tracker.skipping
            or tracker.copy != CopyMode.NONE
            or tracker.transaction_status == FAILED_TRANSACTION
            # Were it to fail, the backend would skip the Query behind it, and nobody would send the Sync that ends that.
            or (self._open_series and held.kind is not Kind.EXECUTE)
        ):
            return []
        if any(r.kind not in _ASKED_BEHIND for r in tracker.requests):
            if self._open_series and not held.flushed:
                # The backend keeps its answers to what came before until a Flush or Sync.
                held.flushed = True
                return [SendToBackend(FLUSH)]
            return []
        number = self._asides.next_number()
        encoding, has_sync = self.knowledge.client_encoding, not self._open_series
        look: Question | None
        if held.part and held.asked is not None:
            look = make_part_check(held.asked, number, encoding, has_sync=has_sync, is_full=held.surveyed)
            if look is None:
                return self._part_checked(held, None)
        elif held.surveyed and held.act is not None and (held.act.reach in SPREADING or _drops_schema(held.judgement)):
            look = make_survey(held.act, held.judgement, number, encoding, has_sync=has_sync)
        else:
            look = make_look(names_of(held.judgement), number, encoding, has_sync=has_sync)
        if look is None:
            if held.stage is Stage.SURVEYING:
                return self._surveyed(held, Sight(unbound="it cannot be asked about in this encoding"))
            nothing = Sight(unbound="it names nothing that could be looked up")
            if held.stage is Stage.CHECKING:
                return self._checked(held, nothing)
            held.sight = held.sight or nothing
            return []
        return [SendToBackend(self._asides.send(look, held, tracker))]

    def _answered(self) -> list[Command]:
        """Take in what became of an aside."""
        aside = self._asides.take()
        if isinstance(aside, Question):
            return self._looked(aside)
        if self._escort is not None:
            return self._escort_ended(self._escort, aside)
        return self._stepped(aside)

    def _looked(self, look: Question) -> list[Command]:
        held = self._held
        if look.problem == SKIPPED:
            return [] if held is None else self._skip_held(held, SKIPPED)
        sight = look.sight(self.knowledge.server_encoding) if isinstance(look, (Look, ActSurvey)) else Sight()
        if look.problem or (isinstance(look, Look) and sight.unbound):
            self._asides.closed = look.problem or sight.unbound
        if held is None:
            return []
        if held.stage is Stage.UNWINDING:
            held.skipped = held.skipped or bool(look.problem and self.tracker.skipping)
            return self._finish_refusal(held)
        if look.problem and self.tracker.skipping:
            # The frontend's own series failed with the question, and it has not been told: the held message is what failed.
            error = self._encoded(replies.look_failed(held.judgement, held.hold_id, look.problem))
            return [*self._insert(error), *self._skip_held(held, look.problem)]
        if look.problem and self.tracker.transaction_status == FAILED_TRANSACTION:
            return self._settle(
                AuditEvent.WITHDRAWN, HoldState.WITHDRAWN, lambda j, i: replies.look_failed(j, i, look.problem), look.problem
            )
        if held.stage is Stage.PROTECTING:
            return self._step(held)
        if held is not self._asides.about:
            # The one that was asked about is gone; this one has a question of its own.
            return self._ask(held) if held.stage in UNDECIDED or held.stage in (Stage.CHECKING, Stage.SURVEYING) else []
        if isinstance(look, PartCheck):
            return self._part_checked(held, look) if held.part and held.stage is Stage.CHECKING else []
        if held.stage is Stage.SURVEYING:
            return self._surveyed(held, sight)
        if held.stage is Stage.CHECKING:
            return self._checked(held, sight)
        out: list[Command] = []
        # Safety: what was decided about is never replaced by what is there now (test_core_looks).
        if held.sight is None:
            held.sight = sight
            if held.hold_id is not None:
                out.append(DescribeHold(held.hold_id, sight))
        if held.rejects and held.stage is Stage.PENDING:
            out += self._reject(held)
        return out

    def _check(self, held: Held) -> list[Command]:
        """It may go: look once more whether it is still about what the operator saw, then release it."""
        seen = held.sight
        if held.commits:
            # Its transaction has locked what it is about, so that nothing need be compared; but a question on its way is answered first.
            held.stage = Stage.CHECKING
            return self._guard(held) if self._asides.in_flight is None else []
        if held.hold_id is None or (seen is not None and seen.unbound):
            return self._guard(held)
        if seen is None and (self._asides.closed or self._asides.in_flight is None):
            return self._guard(held)  # there was no moment to look: the decision is about the text
        no_moment = self.tracker.transaction_status == FAILED_TRANSACTION or (self._open_series and held.kind is not Kind.EXECUTE)
        if self._asides.closed or no_moment:
            # Safety: the decision was about objects, and nobody can say whether it still is.
            return self._checked(held, Sight(unbound=self._asides.closed or "this is no moment to ask the session"))
        held.stage = Stage.CHECKING
        return [self._wait_for_look(), *self._ask(held), *self._scan_waiting()]

    def _wait_for_look(self) -> Command:
        return StartTimer(Timer.LOOK, self._settings.look_timeout_s)

    def _look_timed_out(self) -> list[Command]:
        held = self._held
        if held is None or not (held.stage in (Stage.CHECKING, Stage.SURVEYING) or (held.rejects and held.stage is Stage.PENDING)):
            return []
        # No further question is asked; the answers to this one are still kept from the frontend, whenever they come.
        self._asides.closed = "the server did not say in time"
        if held.rejects and held.stage is Stage.PENDING:
            return self._reject(held)
        if held.stage is Stage.SURVEYING:
            return self._surveyed(held, Sight(unbound=self._asides.closed))
        if held.part:
            return self._part_checked(held, None)
        return self._checked(held, Sight(unbound=self._asides.closed))

    def _checked(self, held: Held, sight: Sight) -> list[Command]:
        """The answer is there, or will not come."""
        if held.sight is None or held.commits:
            # Where the decision came before any answer, it was about the text; the copy is of what the session means by it now.
            held.sight = held.sight or sight
            return self._guard(held)
        cascades = b"cascade" in held.script.lower()
        if held.sight.schemas:
            changed = survey_difference(held.sight, sight, all_goes=_drops_schema(held.judgement))
        else:
            changed = difference(held.sight, sight, cascades=cascades)
        if not changed:
            return self._guard(held)
        # Safety: what was approved is not there any more (test_core_looks).
        assert held.hold_id is not None
        again = Held(held.kind, held.frame, held.script, held.judgement, held.bind, held.portal)
        again.sight, again.follows, again.difference = sight, held.hold_id, changed
        again.act, again.surveyed = held.act, held.surveyed
        self._held = again
        return [
            Note(self._entry(AuditEvent.HELD_AGAIN, held, outcome="; ".join(changed)[:4000])),
            MoveHold(held.hold_id, HoldState.WITHDRAWN, "what it is about changed after the decision: held again"),
            *self._open(again),
        ]

    def _sift(self, chunk: bytes) -> list[Command]:
        """While something of ours is in flight: keep its answers, hand on everything else."""
        data = self._stash + chunk if self._stash else chunk
        self._stash = b""
        size = len(data)
        out: list[Command] = []
        position = 0
        if self._keeping:
            position = min(self._keeping, size)
            self._keeping -= position
            out.append(KeepRows(data[:position]))
        elif self._passing:
            position = min(self._passing, size)
            out += self._relayed(data[:position])
        run = position  # from here on everything is the frontend's
        while position < size and not self._closed:
            if self._asides.in_flight is None and self._escort is None:
                position = size
                break
            if size - position < 5:
                out += self._relayed(data[run:position]) if position > run else []
                self._stash = data[position:]
                return out
            kind = data[position]
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
            if kind == B_DATA_ROW and position + 5 <= end <= size and not isinstance(self.tracker.head(), Asked):
                position = end  # many of them; none changes whose answers come
                continue
            if position > run:
                out += self._relayed(data[run:position])
                run = position
            head = self.tracker.head()
            ours = (kind in _ANSWERS and isinstance(head, Asked)) or (kind in _ESCORTED and isinstance(head, Escorted))
            if kind == B_NOTICE and isinstance(head, Escorted) and head.escort.wrapped and end <= size and _ALREADY in data[position:end]:
                # A BEGIN of the script, inside of ours: the client's is the only one that it knows of.
                position = run = end
                continue
            if not ours or end < position + 5:
                end = min(end, size) if end >= position + 5 else size
                out += self._relayed(data[position:end])
            elif kind == B_COPY_DATA:
                out.append(KeepRows(data[position + 5 : end]))
                self._keeping = max(0, end - size)
                end = min(end, size)
            elif end > size:
                self._check_backend_length(kind, end - position - 1)
                self._stash = data[position:]
                return out
            elif isinstance(head, Escorted):
                out += self._escorted_answer(head.escort, kind, data[position:end])
            else:
                out += self._take_answer(kind, data[position:end])
            position = run = end
            if self._asides.answered is not None:
                out += self._answered()
        if position > run and not self._closed:
            out += self._relayed(data[run:position])
        if self._escort is not None and self.tracker.copy == CopyMode.IN and self._waiting:
            # It came ahead of the CopyInResponse.
            early, self._waiting = bytes(self._waiting), bytearray()
            out += self._feed(early, 0)
        return out

    def _relayed(self, data: bytes) -> list[Command]:
        """Bytes of the backend that are the frontend's."""
        self._sifting = True
        commands = self.backend_sent(data)
        self._sifting = False
        return [SendToFrontend(data)] if commands is None else commands

    def _take_answer(self, kind: int, message: bytes) -> list[Command]:
        body = message[5:]
        look = self._asides.in_flight
        assert look is not None
        try:
            if kind == B_ERROR:
                fields = error_fields(body)
                if fields.get(ord("V"), fields.get(ord("S"))) in (b"FATAL", b"PANIC"):
                    return self._relayed(message)
                why = fields.get(ord("M"), b"").decode("utf-8", "backslashreplace")[:200] or "the server refused the question"
                self._asides.failed(why, message)
                self._error_came(message, 0, len(message))
            elif kind == B_DATA_ROW:
                look.row = body
            elif kind == B_COPY_DONE:
                pass
            else:
                self._reply(kind, body)
        except ProtocolError as error:
            return self._violated(RemoteProtocolError(f"from the server: {error}"))
        return []

    # --- what it destroys is copied first ---------------------------------------------------------------------------

    def _guard(self, held: Held) -> list[Command]:
        """It is approved, and about what the operator saw: copy what it destroys, then release it."""
        if held.hold_id is None or not self._settings.protects:
            return self._release(held)
        protection = held.protection = Protection()
        held.stage = Stage.PROTECTING
        decision = held.decision
        if decision is not None and decision.without_backup:
            protection.phase = Phase.RECORDING
            why = f"approved without a copy by {decision.operator}"
            entry = self._entry(AuditEvent.UNPROTECTED, held, operator=decision.operator, reason=decision.reason, outcome=why)
            return [*self._describe_copy(held, CopyState(text=why)), Record(entry)]
        held.heartbeats = 0
        return [
            *self._move(held, HoldState.PROTECTING),
            StartTimer(Timer.HEARTBEAT, self._settings.heartbeat_s),
            PlanCopy(self._order(held)),
        ]

    def _order(self, held: Held) -> CopyOrder:
        assert held.hold_id is not None
        petition = self._petition(held)
        context = self.knowledge.exact_context()
        try:
            script = decode(held.script, self.knowledge.client_encoding)
        except UndecodableError:
            script = petition.display
        try:
            values = tuple(bound_values(held.bind)) if held.bind else ()
        except (ValueError, IndexError):
            values = ()
        decision = held.decision
        return CopyOrder(
            held.hold_id,
            replace(self._requester, application_name=self.knowledge.application_name),
            self._settings.environment,
            script,
            petition.digest,
            held.judgement,
            held.sight,
            values,
            self._requester.backend_pid,
            self.tracker.transaction_status != IDLE,
            context.search_path,
            decision.approvers if decision is not None else (),
            decision.reason if decision is not None else "",
            held.commits,
            held.act is not None and held.act.reach in SPREADING,
            held.part,
        )

    def _protected(self, hold_id: HoldId) -> Held | None:
        """The held message whose copy is being planned or taken, if it is still this one."""
        held = self._held
        if held is None or held.hold_id != hold_id or held.stage is not Stage.PROTECTING:
            return None
        return held

    def _copy_planned(self, hold_id: HoldId, plan: CopyPlan) -> list[Command]:
        held = self._protected(hold_id)
        if held is None or held.protection is None or held.protection.phase is not Phase.PLANNING:
            return []
        protection = held.protection
        protection.plan = plan
        if plan.kind is CopyKind.NONE:
            return [*self._describe_copy(held, CopyState(text=plan.why)), *self._release(held)]
        if held.commits and (plan.substitute is not None or plan.lock or plan.image):
            return self._not_protected(held, "its rows are changed already, and cannot be copied by the session any more")
        if plan.substitute is not None:
            if not self._can_write(plan.substitute.sql):
                return self._not_protected(held, f"its names cannot be written in {self.knowledge.client_encoding}")
            protection.phase = Phase.RECORDING
            kept = CopyState(kind=str(plan.kind), state="done", text=plan.why)
            return [*self._describe_copy(held, kept), Record(self._entry(AuditEvent.PROTECTED, held, outcome=plan.why))]
        steers = any(s.transaction is not None for s in held.judgement.statements)
        if plan.counted and held.kind is not Kind.EXECUTE and steers:
            return self._not_protected(
                held, "it begins or ends transactions itself, so that its rows cannot be counted before they are gone; send it alone"
            )
        if not plan.lock and not plan.image:
            return self._take_copy(held, has_rows=False)
        protection.phase = Phase.STEPPING
        return self._step(held)

    def _take_copy(self, held: Held, *, has_rows: bool) -> list[Command]:
        protection = held.protection
        assert protection is not None
        assert protection.plan is not None
        protection.started = True
        if not has_rows:
            protection.phase = Phase.COPYING
        return [TakeCopy(self._order(held), protection.plan, has_rows)]

    def _step(self, held: Held) -> list[Command]:
        """Lock and copy in the session itself, if this is the moment for it; later `backend_sent` tries again."""
        protection, tracker = held.protection, self.tracker
        if (
            protection is None
            or protection.phase is not Phase.STEPPING
            or self._asides.in_flight is not None
            or tracker.skipping
            or tracker.copy != CopyMode.NONE
        ):
            return []
        if tracker.transaction_status == FAILED_TRANSACTION:
            return self._not_protected(held, "the transaction has failed already")
        if any(r.kind not in _ASKED_BEHIND for r in tracker.requests):
            if self._open_series and not held.flushed:
                held.flushed = True
                return [SendToBackend(FLUSH)]
            return []
        plan = protection.plan
        assert plan is not None
        alone = held.kind is not Kind.EXECUTE
        if alone and self._open_series:
            return self._not_protected(held, "it was sent behind messages that no Sync has ended")
        statements: list[str] = []
        if alone and tracker.transaction_status == IDLE:
            # Otherwise the server may end the session while the copy is made; the setting goes with the transaction.
            statements += ["BEGIN", "SET LOCAL idle_in_transaction_session_timeout = 0"]
            protection.wrapped = True
        if plan.lock:
            statements.append(lock_statement(plan.lock, self._settings.copy_lock_timeout_s, plan.locked))
        if plan.image:
            statements.append(copy_statement(plan.image))
        elif protection.snapshot:
            statements.append(unchanged_statement(plan.lock, protection.snapshot))
        elif held.act is not None and plan.lock:
            statements.append(SNAPSHOT)
        if not all(map(self._can_write, statements)):
            return self._not_protected(held, f"its names cannot be written in {self.knowledge.client_encoding}")
        codec = CODECS.get(self.knowledge.client_encoding) or "ascii"
        texts, number = tuple(s.encode(codec) for s in statements), self._asides.next_number()
        aside = aside_of(texts, number, has_sync=not self._open_series, reads_tables=bool(protection.snapshot))
        copying = self._take_copy(held, has_rows=True) if plan.image else []
        return [*copying, SendToBackend(self._asides.send(aside, held, tracker))]

    def _can_write(self, statement: str) -> bool:
        """Whether it can be sent in the session's encoding."""
        try:
            statement.encode(CODECS.get(self.knowledge.client_encoding) or "ascii")
        except UnicodeEncodeError:
            return False
        return "\0" not in statement

    def _stepped(self, aside: Aside) -> list[Command]:
        """The session has locked and copied, or could not."""
        held = self._held
        if held is None or held is not self._asides.about:
            return []
        protection = held.protection
        if aside.problem and self.tracker.skipping:
            held.skipped = True
        if held.stage is Stage.UNWINDING:
            return self._finish_refusal(held)
        if protection is None or held.stage is not Stage.PROTECTING or protection.phase is not Phase.STEPPING:
            return []
        if aside.problem:
            return self._not_protected(held, aside.problem)
        plan = protection.plan
        assert plan is not None
        if held.part and protection.snapshot:
            return self._part_stepped(held, protection, aside)
        if not plan.image:
            if held.act is not None and plan.lock:
                protection.snapshot = aside.row[6:].decode("ascii", "replace")
            return self._take_copy(held, has_rows=False)
        rows = rows_of(aside.tags[-1]) if aside.tags else None
        if rows is None:
            return self._not_protected(held, "the server did not say how many rows it copied")
        protection.rows = rows
        protection.phase = Phase.COPYING
        return [KeepRows(b"")]

    def _copy_taken(self, hold_id: HoldId, copied: Copied) -> list[Command]:
        held = self._protected(hold_id)
        if held is None or held.protection is None or held.protection.phase is not Phase.COPYING:
            return []
        protection = held.protection
        protection.copied = copied
        protection.started = False  # what was taken stays, whatever becomes of the statement
        protection.phase = Phase.RECORDING
        entry = self._entry(AuditEvent.PROTECTED, held, outcome=copied.text)
        return [Record(replace(entry, detail={"backup": int(copied.backup_id), "manifest_sha256": copied.sha256}))]

    def _not_protected(self, held: Held, why: str) -> list[Command]:
        """No copy, no destruction."""
        assert held.hold_id is not None
        held.settlement = self._encoded(replies.not_protected(held.judgement, held.hold_id, why))
        held.end = HoldState.DENIED
        held.why = f"no copy: {why}"
        out = self._stop_copy(held)
        held.stage = Stage.SETTLING
        return [
            StopTimer(Timer.HEARTBEAT),
            *out,
            *self._describe_copy(held, CopyState(state="failed", text=why)),
            Record(self._entry(AuditEvent.UNPROTECTED, held, outcome=why)),
        ]

    def _stop_copy(self, held: Held) -> list[Command]:
        protection = held.protection
        if protection is None or protection.phase is Phase.RECORDING or not (protection.started or protection.phase is Phase.PLANNING):
            return []
        protection.started = False
        return [StopCopy()]

    # --- what is sent, and not certain yet --------------------------------------------------------------------------

    def _send_escorted(self, held: Held, escort: Escort, frame: bytes) -> list[Command]:
        """Send it; the frontend learns that it succeeded when that is certain, and what it sends meanwhile waits."""
        self._held = held
        held.stage = Stage.RUNNING
        self._escort = escort
        effects = tuple(s.effects for s in held.judgement.statements)
        self._remember(held)
        if held.kind is Kind.EXECUTE:
            self.tracker.requests.append(Escorted(self, Kind.EXECUTE, effects, self.tracker.series, escort))
            self._open_series = True
            return [SendToBackend(frame + FLUSH)]
        self.tracker.requests.append(Escorted(self, held.kind, effects, -1, escort))
        self._open_series = False
        return [SendToBackend(frame)]

    def _send_substitute(self, held: Held, substitute: Substitute) -> list[Command]:
        """Soft drop: another statement in its place, in its transaction; the frontend is told that its own has succeeded."""
        escort = Escort(held)
        escort.instead = substitute
        sql = substitute.sql.encode(CODECS.get(self.knowledge.client_encoding) or "ascii")
        if held.kind is not Kind.EXECUTE:
            return self._send_escorted(held, escort, b"Q" + (len(sql) + 5).to_bytes(4, "big") + sql + b"\0")
        self._held = held
        held.stage = Stage.RUNNING
        self._escort = escort
        escort.effects = [self.knowledge.begin(s.effects, self.tracker.series) for s in held.judgement.statements]
        self._remember(held)
        self._open_series = True
        return [SendToBackend(self._asides.send(aside_of((sql,), self._asides.next_number(), has_sync=False), held, self.tracker))]

    def _escorted_answer(self, escort: Escort, kind: int, message: bytes) -> list[Command]:
        """One message that answers it."""
        held = escort.held
        try:
            if kind == B_ERROR:
                # What came before in the same message has been done, and is undone by this.
                told = self._tell_withheld(escort)
                out = [*told, *self._relayed(message)]
                return [*out, *self._escort_over(escort, escort.failed or "failed")] if held.kind is Kind.EXECUTE else out
            if kind == B_READY:
                escort.ready = message
                self._reply(kind, message[5:])
                return self._escort_done(escort)
            if kind == B_PORTAL_SUSPENDED:
                self._reply(kind, b"")
                return self._miscounted(escort, "its rows were asked for in portions, so that they cannot be counted before they are gone")
            told = self._tell_withheld(escort)
            escort.withheld = message
            self._reply(kind, message[5:])
            return [*told, *self._escort_done(escort)] if held.kind is Kind.EXECUTE else told
        except ProtocolError as error:
            return self._violated(RemoteProtocolError(f"from the server: {error}"))

    def _tell_withheld(self, escort: Escort) -> list[Command]:
        withheld, escort.withheld = escort.withheld, b""
        return [SendToFrontend(withheld)] if withheld else []

    def _escort_done(self, escort: Escort) -> list[Command]:
        """The backend is done with it: is that what was expected?"""
        if escort.failed is not None:
            if self._must_end(escort):
                return self._end_transaction(escort, ROLLBACK)
            return [SendToFrontend(escort.ready), *self._escort_over(escort, escort.failed)]
        if escort.instead is not None:
            escort.withheld = complete_message(escort.instead.tag)
            out = self._insert(self._encoded(replies.substitute_notice(escort.instead.notice)))
            return [*out, *self._tell_withheld(escort), SendToFrontend(escort.ready), *self._escort_over(escort, None)]
        if escort.expected is not None:
            changed = sum(rows_of(tag) or 0 for tag in escort.tags)
            if changed != escort.expected:
                return self._miscounted(escort, f"{escort.expected:,} rows were copied, and it changed {changed:,}")
        if self._must_end(escort):
            exceeded = self._gate.exceeded() if escort.held.hold_id is None else ""
            if exceeded:
                held = Held(Kind.QUERY, b"", escort.held.script, escort.held.judgement)
                held.escort, self._escort = escort, None
                return self._hold_commit(held, exceeded)
            escort.ending = True
            return self._end_transaction(escort, COMMIT)
        return [*self._tell_withheld(escort), *([SendToFrontend(escort.ready)] if escort.ready else []), *self._escort_over(escort, None)]

    def _miscounted(self, escort: Escort, why: str) -> list[Command]:
        # Safety: what is not in the copy must not be gone (test_core_protection).
        held = escort.held
        escort.withheld = b""
        escort.failed = why
        escort.error = self._encoded(replies.not_counted(held.judgement, held.hold_id, why))
        if escort.wrapped:
            return self._end_transaction(escort, ROLLBACK)
        refusal = self._refuse(held, escort.error)
        return [*refusal, *self._escort_over(escort, why)]

    def _end_transaction(self, escort: Escort, how: bytes) -> list[Command]:
        return [SendToBackend(self._asides.send(query_aside(how), escort.held, self.tracker))]

    def _must_end(self, escort: Escort) -> bool:
        """Whether the transaction that is open now was opened by us, and by nothing in the script itself."""
        if not escort.wrapped or self.tracker.transaction_status == IDLE:
            return False
        opened = False
        for statement in escort.held.judgement.statements[: len(escort.tags)]:
            if statement.transaction is TransactionStep.BEGIN:
                opened = True
            elif statement.transaction in (TransactionStep.COMMIT, TransactionStep.ROLLBACK, TransactionStep.PREPARE):
                opened = False
        return not opened

    def _escort_ended(self, escort: Escort, aside: Aside) -> list[Command]:
        """The beginning or end of the transaction, or the substitute of an Execute, has been answered."""
        if escort.opening:
            escort.opening = False
            if aside.problem:
                return [*self._insert(aside.error + replies.READY_IDLE), *self._escort_over(escort, aside.problem)]
            return self._send_escorted(escort.held, escort, escort.held.frame)
        if escort.instead is not None:
            if aside.problem:
                for effect in escort.effects:
                    self.knowledge.drop(effect)
                return [*self._insert(aside.error), *self._escort_over(escort, aside.problem)]
            for effect in escort.effects:
                self.knowledge.confirm(effect)
            notice = self._insert(self._encoded(replies.substitute_notice(escort.instead.notice)))
            return [*notice, *self._insert(complete_message(escort.instead.tag)), *self._escort_over(escort, None)]
        out: list[Command] = []
        failed = escort.failed
        if escort.ending and (aside.problem or aside.tags != ["COMMIT"]):
            # A deferred constraint, for one: the error takes the place of the success that was not told.
            failed = aside.problem or "rolled back by the server"
            if aside.error:
                out += self._insert(aside.error)
        elif escort.error:
            out += self._insert(escort.error)
        else:
            out += self._tell_withheld(escort)
        ready = ReadyForQuery(TransactionStatus(bytes([self.tracker.transaction_status]))).encode()
        return [*out, *self._insert(ready), *self._escort_over(escort, failed)]

    def _escort_over(self, escort: Escort, failed: str | None) -> list[Command]:
        self._escort = None
        self._held = None
        self.running_ended(escort.commit or escort.held, escort.tags, failed)
        if self.tracker.transaction_status == IDLE and not self._open_series:
            self._gate.reset()
        return [*self._take_emitted(), *(self._go_on() if not self._closed else ())]

    def _refuse(self, held: Held, error: bytes | None) -> list[Command]:
        """Give the message the failure that `error` tells, in the backend's state as well as to the frontend.

        None stands for whatever the backend itself will say to the stand-in.
        """
        tracker = self.tracker
        if tracker.skipping:
            return []  # the backend would have skipped it, and says nothing about it
        if held.kind in (Kind.EXECUTE, Kind.PARSE):
            tracker.requests.append(Request(Kind.PARSE, error))
            self._open_series = True
            return [SendToBackend(STAND_IN_PARSE)]
        if error is not None and tracker.is_quiet and not self._open_series:
            return self._insert(error + replies.READY_IDLE)
        tracker.requests.append(Request(Kind.QUERY, error))
        self._open_series = False
        return [SendToBackend(STAND_IN_QUERY)]

    def _end_hold(self, end: HoldState, why: str) -> list[Command]:
        """The session is ending: nobody is left to tell."""
        held = self._held
        self._held = None
        self._waiting = bytearray()
        if held is None or held.hold_id is None or held.rejects or held.stage is Stage.RUNNING:
            return []  # where nobody waits, nobody is missed: the hold stays; what runs already has an outcome of its own
        event = AuditEvent.ABANDONED if end is HoldState.ABANDONED else AuditEvent.WITHDRAWN
        return [*self._stop_copy(held), *self._move(held, end, why), Note(self._entry(event, held, outcome=why))]

    def _move(self, held: Held, to: HoldState, why: str = "") -> list[Command]:
        """Its hold is in another state now. That of an act or a plan is not, whatever becomes of a part."""
        if held.hold_id is None:
            return []
        if not held.part:
            return [MoveHold(held.hold_id, to, why)]
        return [TellPart(held.hold_id, why, True)] if held.planned and to is not HoldState.PROTECTING else []

    def _describe_copy(self, held: Held, copy: CopyState) -> list[Command]:
        return [DescribeCopy(held.hold_id, copy)] if held.hold_id is not None and not held.part else []

    # --- while held ---------------------------------------------------------------------------------------------

    def _wait(self, chunk: bytes) -> list[Command]:
        self._waiting += chunk
        out = self._scan_waiting()
        if len(self._waiting) > self._settings.high_water_bytes and self._held is not None and not self._paused:
            self._paused = True
            out.append(PauseFrontend())
        return out

    def _scan_waiting(self) -> list[Command]:
        """Look for what ends a hold among the messages that wait: Terminate, and ROLLBACK right behind the held one."""
        held = self._held
        if held is None or held.stage in (Stage.SETTLING, Stage.UNWINDING, *AT_WORK):
            return []
        waiting = self._waiting
        position = self._scanned
        try:
            while len(waiting) - position >= 5:
                kind = waiting[position]
                length = int.from_bytes(waiting[position + 1 : position + 5], "big")
                self._check_length(kind, length)
                end = position + 1 + length
                if kind == F_TERMINATE:
                    return [
                        *self._end_hold(HoldState.ABANDONED, "the client ended the session"),
                        SendToBackend(TERMINATE),
                        *self._close("client terminated"),
                    ]
                if end > len(waiting):
                    break
                first = position == 0 or (held.kind is Kind.EXECUTE and bool(waiting[position - 5] == F_SYNC))
                if first and kind == F_QUERY and self._rolls_back(bytes(waiting[position + 5 : end - 1])):
                    return self._settle(AuditEvent.WITHDRAWN, HoldState.WITHDRAWN, replies.rolled_back, "the client sent ROLLBACK")
                self._scanned = position = end
        except ProtocolError as error:
            return self._violated(error)
        return []

    def _rolls_back(self, script: bytes) -> bool:
        return len(script) < 256 and self._judge.judge(script, self.knowledge.context()).only_rolls_back

    def _go_on(self) -> list[Command]:
        """The hold is over: process what waited behind it."""
        data = bytes(self._waiting)
        self._waiting = bytearray()
        self._scanned = 0
        out: list[Command] = self._feed(data, 0) if data else []
        if self._paused and len(self._waiting) <= self._settings.high_water_bytes and not self._closed:
            self._paused = False
            out.append(ResumeFrontend())
        if self._draining and not self._closed:
            out += self._drain_if_quiet()
        return out

    def _timer_fired(self, timer: Timer) -> list[Command]:
        held = self._held
        match timer:
            case Timer.HEARTBEAT:
                if held is None or held.hold_id is None or held.stage is Stage.SETTLING:
                    return []
                held.heartbeats += 1
                waited_s = held.heartbeats * self._settings.heartbeat_s
                if held.stage is Stage.PROTECTING and held.protection is not None:
                    notice = replies.protecting_notice(held.hold_id, held.protection.progress, waited_s)
                else:
                    notice = replies.still_held_notice(held.hold_id, waited_s, held.timeout_s - waited_s)
                return [
                    *self._insert(self._encoded(notice)),
                    StartTimer(Timer.HEARTBEAT, self._settings.heartbeat_s),
                ]
            case Timer.EXPIRY:
                if held is None or held.hold_id is None:
                    return []
                if held.stage is Stage.PENDING:
                    return [ExpireHold(held.hold_id)]
                if held.stage is Stage.NOTING:
                    return [StartTimer(Timer.EXPIRY, 1.0)]
                return []
            case Timer.LOOK:
                return self._look_timed_out()
            case Timer.ACT:
                return self._act_beats()
            case Timer.DRAIN:
                return [
                    *self._end_hold(HoldState.WITHDRAWN, "the proxy stopped"),
                    *self._insert(self._encoded(replies.shutting_down())),
                    *self._close("drain time is over"),
                ]
            case _:
                assert_never(timer)

    # --- the session's end --------------------------------------------------------------------------------------

    def _stop(self) -> list[Command]:
        if self._draining:
            return []
        self._draining = True
        out: list[Command] = [StartTimer(Timer.DRAIN, self._settings.drain_timeout_s)]
        if self.has_hold:
            return [*out, *self._settle(AuditEvent.WITHDRAWN, HoldState.WITHDRAWN, replies.stopping, "the proxy stops")]
        return [*out, *self._drain_if_quiet()]

    def _drain_if_quiet(self) -> list[Command]:
        if self._held is not None or not self.tracker.is_quiet or self._partial is not None or self._relaying:
            return []
        return [
            *self._insert(self._encoded(replies.shutting_down())),
            SendToBackend(TERMINATE),
            *self._close("the proxy stops"),
        ]

    def _kill(self, operator: str) -> list[Command]:
        entry = AuditEntry(
            AuditEvent.KILLED,
            requester=self._requester,
            environment=self._settings.environment,
            operator=operator,
            hold_id=self.hold_id,
        )
        return [
            Note(entry),
            *self._end_hold(HoldState.WITHDRAWN, f"the session was ended by {operator}"),
            *self._insert(self._encoded(replies.killed())),
            *self._close("killed"),
        ]

    def _backend_lost(self, reason: str) -> list[Command]:
        out = self._end_hold(HoldState.ABANDONED, "the server went away")
        if not self._fatal_seen:
            out += self._insert(self._encoded(replies.backend_lost(reason)))
        return [*out, *self._close("backend gone")]

    def _violated(self, error: ProtocolError) -> list[Command]:
        return [
            *self._end_hold(HoldState.ABANDONED, "the client broke the protocol"),
            *self._insert(self._encoded(replies.violation(error))),
            *self._close(f"protocol violation: {error}"),
        ]

    def _close(self, why: str) -> list[Command]:
        self._closed = True
        self._waiting = bytearray()
        self._partial = None
        for request in self.tracker.requests:
            request.dropped(b"")
            request.ended()
        self.tracker.requests.clear()
        escort, self._escort = self._escort, None
        if escort is not None:
            cut = (
                "cut off while it was committed: whether it was is not known" if escort.ending else "cut off before its commit: rolled back"
            )
            self.running_ended(escort.held, escort.tags, cut)
        return [*self._take_emitted(), *self._end_act(), CloseSession(why)]

    # --- backend ------------------------------------------------------------------------------------------------

    def backend_sent(self, chunk: bytes) -> list[Command] | None:
        """Bytes of the backend. None: forward the chunk as it is."""
        if self._closed:
            return []
        if not self._sifting and (self._asides.in_flight is not None or self._escort is not None):
            return self._sift(chunk)
        data = self._stash + chunk if self._stash else chunk
        size = len(data)
        position = 0
        out: list[Command] = []
        sent = 0  # everything before was handed on
        if self._passing:
            if self._passing >= size:
                self._passing -= size
                return None
            position = self._passing
            self._passing = 0
            if self._inserts:
                sent = self._flush_inserts(data, sent, position, out)
        self._stash = b""
        tracker = self.tracker
        requests = tracker.requests
        try:
            while size - position >= 5:
                kind = data[position]
                end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
                if end < position + 5:
                    raise RemoteProtocolError("invalid message length")
                if kind == B_DATA_ROW or kind == B_COPY_DATA:
                    if end > size:
                        self._check_backend_length(kind, end - position - 1)
                        self._passing = end - size
                        position = size
                        break
                    if size - end > 4096:
                        end = self._rows.skip(data, end, kind)
                elif end > size:
                    self._check_backend_length(kind, end - position - 1)
                    if kind in _WHOLE:
                        break
                    self._reply(kind, b"")
                    self._passing = end - size
                    position = size
                    break
                elif kind == B_READY and requests and requests[0] is SYNC and end - position == 6:
                    requests.popleft()
                    status = data[position + 5]
                    if self._gate.active:
                        self._gate_ready(status)
                    if status != tracker.transaction_status or self.knowledge.unsettled:
                        tracker.transaction_status = status
                        self.knowledge.ready(chr(status))
                elif kind == B_COMMAND_COMPLETE and requests and requests[0] is EXECUTE:
                    requests.popleft()
                    tracker.copy = CopyMode.NONE
                    self._completed(data[position + 5 : end - 1])
                elif kind == B_ERROR:
                    replaced = self._error_came(data, position, end)
                    if replaced is not None:
                        if position > sent:
                            out.append(SendToFrontend(data[sent:position]))
                        out.append(SendToFrontend(replaced))
                        sent = end
                elif kind in _STREAMED:
                    self._reply(kind, data[position + 5 : end] if kind == B_COMMAND_COMPLETE else b"")
                else:
                    self._reply(kind, data[position + 5 : end])
                position = end
        except ProtocolError as error:
            self._inserts.clear()
            out.append(SendToFrontend(data[sent:position]))
            return [*out, *self._violated(RemoteProtocolError(f"from the server: {error}"))]
        if position < size:
            self._stash = data[position:]
        if self._gate.active and not requests and tracker.transaction_status == IDLE and self._held is None and not self._open_series:
            self._gate.reset()
        whole = sent == 0 and position == size and data is chunk
        if whole and not out and not self._emitted and not self._draining and self._held is None:
            return None
        if position > sent:
            out.append(SendToFrontend(data[sent:position] if sent or position < size else data))
        out += self._take_emitted()
        held = self._held
        if held is not None and tracker.skipping and held.stage not in (Stage.SETTLING, Stage.UNWINDING, *AT_WORK):
            # A question of ours that failed has a reason to tell, in `_looked`.
            if self._asides.answered is None:
                out += self._skip_held(held, SKIPPED)
        elif held is not None and (held.stage in (Stage.CHECKING, Stage.SURVEYING) or (held.sight is None and held.stage in UNDECIDED)):
            out += self._ask(held)
        elif held is not None and held.stage is Stage.PROTECTING:
            out += self._step(held)
        elif held is not None and held.stage is Stage.COUNTING:
            out += self._count(held)
        elif self._draining:
            out += self._drain_if_quiet()
        return out

    def _skip_held(self, held: Held, why: str) -> list[Command]:
        """The series failed before it: the backend would skip the held message, so there is nothing to decide."""
        self._held = None
        out: list[Command] = [StopTimer(Timer.HEARTBEAT), StopTimer(Timer.EXPIRY), *self._stop_copy(held)]
        if held.hold_id is not None:
            out += [
                *self._move(held, HoldState.WITHDRAWN, why),
                Note(self._entry(AuditEvent.WITHDRAWN, held, outcome=why)),
            ]
        return [*out, *self._go_on()]

    def _check_backend_length(self, kind: int, length: int) -> None:
        limit = BACKEND_LIMITS.get(kind)
        if limit is None:
            raise RemoteProtocolError(f"the server sent an unknown message type 0x{kind:02X}")
        if not 4 <= length <= limit:
            raise RemoteProtocolError(f"the server sent a message of {length} bytes, over the limit of {limit}")

    def _reply(self, kind: int, body: bytes) -> None:
        """One message of the backend that is relayed; Raises RemoteProtocolError when it cannot be explained."""
        tracker = self.tracker
        if kind == B_COMMAND_COMPLETE:
            tracker.got_completion(body[:-1])
            self._completed(body[:-1])
        elif kind == B_READY:
            if len(body) != 1 or body not in (b"I", b"T", b"E"):
                raise RemoteProtocolError("ReadyForQuery with an unknown transaction status")
            tracker.got_ready_for_query(body[0])
            self._gate_ready(body[0])
            self.knowledge.ready(chr(body[0]))
        elif kind == B_PARSE_COMPLETE:
            tracker.got_parse_complete()
        elif kind == B_BIND_COMPLETE:
            tracker.got_bind_complete()
        elif kind == B_CLOSE_COMPLETE:
            tracker.got_close_complete()
        elif kind in (B_ROW_DESCRIPTION, B_NO_DATA):
            tracker.got_description()
        elif kind == B_EMPTY_QUERY:
            tracker.got_completion(b"")
        elif kind == B_PORTAL_SUSPENDED:
            tracker.got_portal_suspended()
        elif kind == B_COPY_IN:
            tracker.got_copy_in()
        elif kind == B_COPY_OUT:
            tracker.got_copy_out()
        elif kind == B_COPY_BOTH:
            tracker.got_copy_both()
        elif kind == B_PARAMETER_STATUS:
            name, _, value = body.rstrip(b"\0").partition(b"\0")
            self.knowledge.parameter_status(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
        elif kind not in BACKEND_LIMITS:
            raise RemoteProtocolError(f"the server sent an unknown message type 0x{kind:02X}")

    def _completed(self, tag: bytes) -> None:
        if tag == b"ROLLBACK":
            self.knowledge.rolled_back()
        if self._act is not None and tag in (b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION"):
            self._act.in_block = False

    def _error_came(self, data: bytes, position: int, end: int) -> bytes | None:
        """Attribute an ErrorResponse; return what the frontend gets in its place, if anything."""
        fields = error_fields(data[position + 5 : end])
        if fields.get(ord("V"), fields.get(ord("S"))) in (b"FATAL", b"PANIC"):
            self._fatal_seen = True
        self.knowledge.rolled_back()
        head = self.tracker.got_error(fields.get(ord("C"), b""))
        return head.error if head is not None else None

    # --- small helpers ------------------------------------------------------------------------------------------

    def _flush_inserts(self, data: bytes, sent: int, position: int, out: list[Command]) -> int:
        if position > sent:
            out.append(SendToFrontend(data[sent:position]))
        out += [SendToFrontend(insert) for insert in self._inserts]
        self._inserts.clear()
        return position

    def _insert(self, message: bytes) -> list[Command]:
        """Send a message of ours to the frontend: now, if the last byte sent ended a message, else as soon as it does."""
        if self._passing:
            self._inserts.append(message)
            return []
        return [SendToFrontend(message)]

    def _take_emitted(self) -> list[Command]:
        emitted = self._emitted
        self._emitted = []
        return emitted

    def emit(self, command: Command) -> None:
        """For requests in flight: what is to be done once the bytes at hand were handed on."""
        self._emitted.append(command)

    def _encoded(self, reply: replies.Reply) -> bytes:
        return reply.encode(self.knowledge.client_encoding)

    def _recent_scripts(self) -> tuple[str, ...]:
        return tuple(script.decode("utf-8", "backslashreplace") for script in self._recent)

    def _petition(self, held: Held) -> Petition:
        return Petition(
            requester=self._requester,
            application_name=self.knowledge.application_name,
            environment=self._settings.environment,
            kind=Kind.SYNC if held.commits else held.kind,
            script=held.script or held.frame,
            bind=held.bind,
            judgement=held.judgement,
            client_encoding=self.knowledge.client_encoding,
            act=held.act,
            sight=held.sight if held.surveyed else None,
        )

    def _entry(self, event: AuditEvent, held: Held, *, operator: str = "", reason: str = "", outcome: str = "") -> AuditEntry:
        return self._petition(held).entry(event, held.hold_id, operator=operator, reason=reason, outcome=outcome)

    def running_ended(self, held: Held, tags: list[str], failed: str | None) -> None:
        """A released message is done with: put its outcome on record."""
        if held.hold_id is None:
            if held.judgement.announced and failed is None:
                self.emit(Tell(replace(self._requester, application_name=self.knowledge.application_name), held.judgement))
            return
        outcome = failed if failed is not None else "; ".join(tags)
        state = HoldState.FAILED if failed is not None else HoldState.DONE
        act = self._act if self._act is not None and self._act.hold_id == held.hold_id and not self._act.refuses else None
        if act is not None:
            act.ran(held.judgement, failed)
            if failed is not None and not held.part:
                for command in self._end_act():
                    self.emit(command)
        elif held.planned:
            self.emit(TellPart(held.hold_id, outcome, failed is not None))
        elif not held.part:
            self.emit(MoveHold(held.hold_id, state, outcome))
        if held.protection is not None and held.protection.copied is not None:
            self.emit(TellCopied(self._order(held), held.protection.copied, outcome, failed is not None))
        entry = self._entry(AuditEvent.OUTCOME, held, outcome=outcome)
        if act is not None and held.part:
            # What let it go is on record; what became of it follows with others, for each write of the log holds the session up.
            act.notes.append(entry)
        else:
            self.emit(Note(entry))
