"""A message that waits in a session's core, its stages, and what the core needs of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from policy.judgement import Effect, Judgement
from protocol.tracker import Kind
from proxy.look import Sight
from proxy.model import Decision, HeldAct, HoldId, HoldState
from proxy.protection import Protection

if TYPE_CHECKING:
    from proxy.acts import Asked
    from proxy.escort import Escort


class Mode(Enum):
    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What a session's core needs of the configuration."""

    environment: str = "production"
    mode: Mode = Mode.ENFORCE
    hold_timeout_s: float = 600.0
    hold_timeout_in_transaction_s: float = 60.0
    heartbeat_s: float = 15.0
    drain_timeout_s: float = 30.0
    high_water_bytes: int = 1 << 20
    max_script_bytes: int = 128 << 20
    #: Ask the session what a held script is about, and again before its release.
    looks: bool = True
    #: How long the answer may take when somebody waits for it.
    look_timeout_s: float = 10.0
    #: An act is over when its session was quiet for so long, or did other things for ten minutes.
    act_idle_s: float = 20.0
    #: Copy what an approved statement destroys.
    protects: bool = False
    copy_lock_timeout_s: float = 5.0
    #: How long a hold for which nobody waits can be decided, and the client may then send it again.
    retry_timeout_s: float = 3600.0
    #: Scripts longer than this that were not seen before are judged off the event loop.
    judge_inline_bytes: int = 4 << 10


class Stage(Enum):
    JUDGING = auto()
    SURVEYING = auto()  # it begins an act of a tool, and the session is asked what that is about (acts.py)
    OPENING = auto()
    NOTING = auto()
    PENDING = auto()
    SETTLING = auto()
    CHECKING = auto()
    PROTECTING = auto()
    UNWINDING = auto()  # it is refused, once what was opened for its copy is closed
    COUNTING = auto()  # what is in flight must be answered before it can be said whether this may commit
    RUNNING = auto()  # it was sent, and its success is not certain yet (escort.py)


#: Stages in which a CancelRequest is about what the server does, not about something that waits.
AT_WORK: Final = frozenset({Stage.COUNTING, Stage.RUNNING})
#: Stages in which an operator can still decide, or will be able to.
UNDECIDED: Final = frozenset({Stage.OPENING, Stage.NOTING, Stage.PENDING})


@dataclass(slots=True, eq=False)
class Held:
    """The message that waits.

    Attributes:
        frame: its own bytes.
        portal: of an Execute; the statement's name of a Parse.
        settlement: in SETTLING, what Recorded will do: None releases, bytes are the ErrorResponse that refuses.
        end: in SETTLING, the state that the hold ends in when it is refused.
        sight: what it is about, as the operator could see it.
        rejects: its client does not wait: it is refused as soon as the hold is there.
        follows, difference: it was approved as another hold, for what is not there any more.
        granted: it was decided before it came.
        flushed: the backend was told to answer what came before.
        protection: of what it destroys, once that has begun.
        commits: it is what commits a transaction over a row limit (gate.py); `effects` are those of the message itself, `escort` is
            set where the message is a COMMIT of ours, and `undone` once its transaction is rolled back.
        act: of a tool, which it begins; `surveyed`: it was asked what that is about.
        is_ambiguous: its name may mean several statements; it is never taken for a part of something.
        part: it belongs to an act or a plan that was approved: `hold_id` is the hold of that, whose state it does not move; `asked` is what
            an act must know of it; `planned`: a plan it is.
        skipped: its series has failed with something of ours, and the frontend has not been told.
    """

    kind: Kind
    frame: bytes
    script: bytes
    judgement: Judgement
    bind: bytes = b""
    portal: bytes = b""
    stage: Stage = Stage.OPENING
    hold_id: HoldId | None = None
    settlement: bytes | None = None
    end: HoldState = HoldState.DENIED
    decision: Decision | None = None
    heartbeats: int = 0
    timeout_s: float = 0.0
    why: str = ""
    sight: Sight | None = None
    rejects: bool = False
    follows: HoldId | None = None
    difference: tuple[str, ...] = ()
    granted: bool = False
    flushed: bool = False
    protection: Protection | None = None
    skipped: bool = False
    commits: bool = False
    effects: tuple[tuple[Effect, ...], ...] = ()
    escort: Escort | None = None
    undone: bool = False
    act: HeldAct | None = None
    surveyed: bool = False
    part: bool = False
    planned: bool = False
    is_ambiguous: bool = False
    asked: Asked | None = None
