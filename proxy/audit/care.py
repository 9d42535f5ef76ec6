"""Everything around the log while the proxy runs: sinks, signed checkpoints and their second places, compression and removal of old files,
the full verification from time to time, and what of all that people and metrics are told. None of it holds the log up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from proxy.audit.background import BackgroundVerifier
from proxy.audit.checkpoints import append_line, last_checkpoint, make_checkpoint
from proxy.audit.feed import Feed, FeedState
from proxy.audit.files import LogFile, rotated_files
from proxy.audit.follow import LinesFollower, LogFollower
from proxy.audit.keys import KeyFileError, KeyRing, SigningKey, key_entry
from proxy.audit.log import JsonlAuditLog
from proxy.audit.places import make_place
from proxy.audit.sinks import make_sink
from proxy.audit.targets import PLACES, Target, read_target
from proxy.audit.upkeep import compress_all, removal, remove, surplus
from proxy.config import Settings
from proxy.metrics import Metrics
from proxy.seams import AuditError, Clock

_TICK_S: Final = 1.0
#: Compressing and removing is looked after so often, and after each rotation.
_UPKEEP_S: Final = 600.0
#: What sinks get to take the last records when the proxy stops.
_LAST_S: Final = 3.0
#: After the start, before the first full verification.
_SETTLED_S: Final = 60.0
#: A sink that is behind by more, or fails, is worth a warning.
_LAG_RECORDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of the log, for people."""

    name: str
    first: int
    last: int
    bytes: int
    compressed: bool
    live: bool


class AuditCare:
    """Owned by the process; its loop is one task, its sinks are threads.

    Attributes:
        verifier: the full verification, and what it found last.
        checkpoint: number of the last record under a signed checkpoint, and when it was made.
    """

    def __init__(self, settings: Settings, audit: JsonlAuditLog, clock: Clock, log: Callable[..., object]) -> None:
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._log = log
        folder = audit.path.parent
        self._ring = KeyRing(folder)
        self._local = audit.path.with_name(f"{audit.path.stem}.checkpoints.jsonl")
        self._key: SigningKey
        self.checkpoint: tuple[int, datetime] | None = None
        self._checkpoint_problem = ""
        self._upkeep_problem = ""
        self._upkeep_at = 0.0
        self._tidying = asyncio.Lock()
        self._rotations_seen = audit.rotations
        self._stopping = asyncio.Event()
        self._verified_at: datetime | None = None
        self.verifier = BackgroundVerifier(audit.path, clock)
        self.sinks: list[Feed] = []
        self.places: list[Feed] = []
        positions = folder / "audit.sinks"
        for target in _distinct(settings.audit_sinks):
            source = LogFollower(audit.path, lambda: audit.position[0])
            self.sinks.append(Feed(target.name, target.key, make_sink(target), source, positions, lambda: audit.log_id))
        for target in _distinct(settings.audit_checkpoints, PLACES):
            if target.kind == "file" and Path(target.path).resolve() == self._local.resolve():
                raise AuditError(f"audit_checkpoints: {target.path} is the local file; a second place is another one")
            place = make_place(target)
            self.places.append(
                Feed(target.name, f"checkpoints {target.key}", place, LinesFollower(self._local), positions, lambda: audit.log_id)
            )

    # --- start and stop -----------------------------------------------------------------------------------------

    async def start(self, spawn: Callable[[Coroutine[None, None, None], str], object]) -> None:
        """Raises AuditError."""
        try:
            self._key, made = self._ring.load_or_make()
            last = last_checkpoint(self._local)
        except (KeyFileError, OSError) as error:
            raise AuditError(str(error)) from None
        if last is not None:
            self.checkpoint = (last.seq, datetime.fromisoformat(last.at))
        if made or last is None:
            await self._audit.append(key_entry(self._key.public, None))
        self._started_at = self._clock.now()
        self._audit.listeners.append(self._wake_sinks)
        for feed in [*self.sinks, *self.places]:
            feed.start()
        spawn(self._run(spawn), "audit upkeep")

    def rest(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def stop(self) -> None:
        """A last checkpoint, and what the sinks take within a few seconds. Behind the last record."""
        self.rest()
        await self._sign("stop")
        feeds = [*self.sinks, *self.places]
        await asyncio.gather(*(asyncio.to_thread(feed.stop, _LAST_S) for feed in feeds))

    def _wake_sinks(self) -> None:
        for feed in self.sinks:
            feed.wake()

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _run(self, spawn: Callable[[Coroutine[None, None, None], str], object]) -> None:
        await self._sign("start")
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stopping.wait()
                    return
            await self._change_key()
            rotated = self._audit.rotations != self._rotations_seen
            if rotated:
                self._rotations_seen = self._audit.rotations
                await self._sign("rotation")
            elif self._checkpoint_due():
                await self._sign("interval")
            loop_s = asyncio.get_running_loop().time()
            if rotated or loop_s - self._upkeep_at >= _UPKEEP_S or not self._upkeep_at:
                self._upkeep_at = loop_s
                await self._tidy()
            if self._verification_due():
                spawn(self.verify(), "audit verification")

    def _checkpoint_due(self) -> bool:
        sequence = self._audit.position[0]
        if self.checkpoint is None or self._checkpoint_problem:
            return sequence > 0
        since, at = self.checkpoint
        if sequence <= since:
            return False
        late = self._clock.now() - at >= timedelta(minutes=self._settings.audit_checkpoint_minutes)
        return late or sequence - since >= self._settings.audit_checkpoint_records

    async def _sign(self, reason: str) -> None:
        position, now = self._audit.position, self._clock.now()
        if not position[0] or (self.checkpoint is not None and self.checkpoint[0] == position[0] and reason != "key"):
            return
        line = make_checkpoint(self._key, self._audit.log_id, position, now, reason)
        try:
            await asyncio.to_thread(append_line, self._local, line)
        except OSError as error:
            self._checkpoint_problem = f"no checkpoint of the audit log can be kept: {error.strerror}"
            return
        self._checkpoint_problem = ""
        self.checkpoint = (position[0], now)
        for feed in self.places:
            feed.wake()

    async def _change_key(self) -> None:
        try:
            fresh = self._ring.next()
            if fresh is None:
                return
            # On record first; a crash before the file is renamed records it once more.
            await self._audit.append(key_entry(fresh.public, self._key))
            await self._sign("key")
            self._key = self._ring.use_next()
        except (KeyFileError, AuditError) as error:
            self._log("audit key not changed", error=str(error))
            return
        await self._sign("key")
        self._log("audit key changed", key=self._key.public.id)

    async def _tidy(self) -> None:
        async with self._tidying:
            await self._tidy_now()

    async def _tidy_now(self) -> None:
        path, settings = self._audit.path, self._settings
        self._upkeep_problem = ""
        try:
            for file in await asyncio.to_thread(surplus, path, settings.audit_keep):
                if not self._had_by_all(file):
                    self._upkeep_problem = f"{file.name} is kept until every sink has had it"
                    break
                await self._audit.append(await asyncio.to_thread(removal, file))
                await asyncio.to_thread(remove, file)
            if settings.audit_compress:
                await asyncio.to_thread(compress_all, path)
        except (OSError, AuditError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._upkeep_problem = f"old files of the audit log: {why}"

    def _had_by_all(self, file: LogFile) -> bool:
        return file.last is not None and all(feed.position.sequence >= file.last for feed in self.sinks)

    def _verification_due(self) -> bool:
        hours = self._settings.audit_verify_hours
        now = self._clock.now()
        if not hours or self.verifier.progress is not None or now - self._started_at < timedelta(seconds=_SETTLED_S):
            return False
        # One that came to no result is not tried again at once, and again, and again.
        if self._verified_at is not None and now - self._verified_at < timedelta(hours=min(hours, 1)):
            return False
        return self.verifier.last is None or now - self.verifier.last.at >= timedelta(hours=hours)

    async def verify(self) -> None:
        """The full verification, unless one runs."""
        self._verified_at = self._clock.now()
        found = await self.verifier.run()
        if found is not None and found.report.problem is not None:
            self._log("audit log broken", problem=found.report.problem, kind=found.report.kind)

    # --- what others are told -----------------------------------------------------------------------------------

    @property
    def key_id(self) -> str:
        return self._key.public.id

    def files(self) -> list[FileState]:
        """Oldest first, the live one last."""
        found = []
        for file in rotated_files(self._audit.path):
            with suppress(OSError):
                found.append(FileState(file.name, file.first, file.last or 0, file.path.stat().st_size, file.compressed, False))
        first = found[-1].last + 1 if found else 1
        live = FileState(self._audit.path.name, first, self._audit.position[0], self._audit.size_bytes, False, True)
        return [*found, live]

    def chain_problem(self) -> str:
        """What the last full verification found wrong."""
        last = self.verifier.last
        return last.report.problem or "" if last is not None else ""

    def warnings(self) -> list[str]:
        """What somebody should look at; none of it keeps a statement from being decided."""
        found = [p for p in (self._audit.rotation_problem, self._checkpoint_problem, self._upkeep_problem, self.verifier.error) if p]
        if broken := self.chain_problem():
            found.insert(0, f"the audit log is broken: {broken}")
        for what, feeds in (("audit sink", self.sinks), ("checkpoints at", self.places)):
            found += [_told(what, feed.state) for feed in feeds if feed.state.error or feed.state.lag > _LAG_RECORDS]
        return found

    def add_metrics(self, metrics: Metrics) -> None:
        add, audit = metrics.add_source, self._audit
        add("pghold_audit_failing", "gauge", "Whether the audit log cannot be written now.", lambda: float(audit.failing))
        add("pghold_audit_records", "gauge", "Number of the last record of the audit log.", lambda: float(audit.position[0]))
        add("pghold_audit_rotation_failures", "counter", "Rotations of the audit log that failed.", lambda: audit.rotations_failed)
        add(
            "pghold_audit_chain_broken", "gauge", "Whether the last full verification found the log broken.",
            lambda: float(bool(self.chain_problem())),
        )  # fmt: skip
        add(
            "pghold_audit_unsigned_records", "gauge", "Records behind the last checkpoint.",
            lambda: float(audit.position[0] - (self.checkpoint[0] if self.checkpoint else 0)),
        )  # fmt: skip
        for name, feeds in (("sink", self.sinks), ("checkpoint_place", self.places)):
            for feed in feeds:
                label = f"{name}={feed.name}"
                add(f"pghold_audit_{name}_lag", "gauge", "Not delivered yet.", lambda feed=feed: float(feed.state.lag), label)  # type: ignore[misc]
                add(f"pghold_audit_{name}_failures", "counter", "Failed deliveries.", lambda feed=feed: feed.state.failures, label)  # type: ignore[misc]


def _told(what: str, state: FeedState) -> str:
    why = f": {state.error}" if state.error else ""
    return f"{what} {state.name} is {state.lag:,} behind{why}"


def _distinct(urls: Sequence[str], kinds: tuple[str, ...] | None = None) -> list[Target]:
    """Each with a name of its own."""
    found: list[Target] = []
    for url in urls:
        target = read_target(url, kinds) if kinds else read_target(url)
        same = sum(t.name.partition(" #")[0] == target.name for t in found)
        if any(t.key == target.key for t in found):
            continue
        found.append(replace(target, name=f"{target.name} #{same + 1}") if same else target)
    return found
