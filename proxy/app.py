"""The process: builds every part from the settings, runs until a signal, and takes it all down in order."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import re
import resource
import signal
import sys
from contextlib import AsyncExitStack, suppress
from difflib import unified_diff
from typing import TYPE_CHECKING, TextIO

import structlog
import uvicorn
import uvloop

from policy.judgement import Judgement
from proxy.activity import Activity
from proxy.admin import serve_admin
from proxy.audit.care import AuditCare
from proxy.audit.reconcile import WINDOW, last_moment, unrecorded
from proxy.audit.start import open_audit
from proxy.backups.assembly import Copies
from proxy.backups.errands import Errands
from proxy.backups.giveback import Restores
from proxy.backups.outlook import Forecast
from proxy.backups.trash import Trash
from proxy.backups.undo import Undo
from proxy.backups.wiring import furnish, make_keeper
from proxy.clock import SystemClock
from proxy.config import CONSOLE_FILE, Settings, Upstream, address, load, load_policies
from proxy.console import make_console
from proxy.console.server import make_server
from proxy.control import Control
from proxy.embedded import EmbeddedPostgres
from proxy.errors import ConfigError
from proxy.grants import SqlGrants
from proxy.health.metrics import HealthMetrics
from proxy.health.monitor import HealthMonitor, Surroundings
from proxy.held import CoreSettings, Mode
from proxy.holds import SqlHoldBook
from proxy.impact.foresight import make_foresight
from proxy.isolation import IsolatedJudges
from proxy.judging import Judging
from proxy.listeners import listen, shown
from proxy.logs import set_up
from proxy.metrics import Metrics
from proxy.model import AuditEntry, AuditEvent, Hold, HoldState, Requester
from proxy.notify import Notifier, Route, load_routes
from proxy.notify.metrics import NotifyMetrics
from proxy.notify.routes import without_addresses
from proxy.notify.watch import ChainWatch
from proxy.operators import SqlOperators
from proxy.records import about
from proxy.schema_history.history import SchemaHistory
from proxy.seams import AuditError, StoreError
from proxy.server import Server
from proxy.services import Services
from proxy.shell import SessionRuntime, Totals
from proxy.store import open_store
from proxy.store.approvals import SqlApprovals
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks
from proxy.tls import console_context, load_console_chain
from proxy.upstream import Connector

if TYPE_CHECKING:
    from proxy.tracing import Tracing

#: Descriptors wanted: two for each session, and some.
_DESCRIPTORS = 65536
#: So often is what was allowed counted for the picture of activity.
_SAMPLE_S = 5.0
#: Grants and holds that nobody waits for are expired this often.
_SWEEP_S = 2.0
#: Of a change of the policy, on record.
_DIFF_CHARACTERS = 20_000


def main(settings: Settings) -> int:
    """Run the proxy; return the process's exit code."""
    try:
        return uvloop.run(_serve(settings))
    except (ConfigError, StoreError, AuditError) as error:
        print(f"pghold: {error}", file=sys.stderr)
        return 2


async def _serve(settings: Settings) -> int:
    log = set_up(settings.log_format, settings.log_level)
    async with AsyncExitStack() as stack:
        app = App(settings, log, stack)
        await app.start()
        await app.run()
    return 0


class App:
    """All parts, wired. Whatever was started is taken down by the stack, in reverse order."""

    def __init__(self, settings: Settings, log: structlog.typing.FilteringBoundLogger, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._log = log
        self._stack = stack
        self._stop = asyncio.Event()
        self._again = asyncio.Event()
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._tasks = Tasks(self._task_failed)
        self._embedded: EmbeddedPostgres | None = None

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("task failed", task=name, error=f"{type(error).__name__}: {error}", exc_info=error)

    async def start(self) -> None:
        settings = self._settings
        _raise_limits()
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"data_dir {settings.data_dir}: {error.strerror}") from None
        self._stack.callback(_lock(settings).close)
        self._store = store = await open_store(settings.data_dir)
        self._stack.push_async_callback(store.close)
        # Also where the start fails half-way: nothing may use what is closed after this.
        self._stack.push_async_callback(self._tasks.end)
        self._audit = open_audit(settings, self._clock, self._metrics.audit_flushed)
        self._stack.push_async_callback(self._audit.close)
        self._care = AuditCare(settings, self._audit, self._clock, self._log.warning)
        await self._care.start(self._tasks.spawn)
        self._book = SqlHoldBook(store, self._clock, settings.max_pending_holds, self._metrics.hold_ended)
        if (last := last_moment(self._audit.path)) is not None:
            for entry in unrecorded(self._audit.path, await self._book.ended_since(last - WINDOW)):
                await self._audit.append(entry)
        # On record first: whatever is still open in the store after a crash here is found again at the next start.
        for hold in await self._book.left_open():
            await self._audit.append(_abandoned(hold))
        recovered = await self._book.recover()
        self._operators = SqlOperators(store, self._clock, settings.external_token_days * 86400)
        await self._operators.ensure_first(settings.data_dir / "operator.token")
        routes = load_routes(settings.policy)
        self._make_notifier(routes)
        upstream = await self._upstream()
        self._connector = Connector(upstream, settings.connect_timeout_s)
        self._control = Control(Upstream.from_url(settings.control) if settings.control else upstream, settings.connect_timeout_s)
        self._backups = SqlBackups(store, self._clock)
        self._make_health()
        self._errands = Errands(settings, self._book, self._audit, self._control, self._log.warning)
        self._trash = Trash(settings, store, self._backups, self._book, self._control, self._errands, self._clock, self._log.warning)
        self._undo = Undo(self._book, self._backups, self._control, self._errands, self._trash)
        self._keeper = make_keeper(
            settings,
            self._backups,
            self._book,
            self._control,
            self._audit,
            self._clock,
            self._notifier,
            self._tasks,
            self._metrics,
            self._log,
        )
        await self._start_copies()
        self._add_metrics()
        await self._start_server()
        self._start_tracing()
        await self._start_console()
        await self._notifier.start([await self._book.get(hold.id) for hold in recovered])
        await self._audit.append(AuditEntry(AuditEvent.STARTED, environment=settings.effective_environment, detail={"mode": settings.mode}))
        self._watch_signals()
        self._announce()

    async def _start_copies(self) -> None:
        self._copies = copies = Copies(
            self._settings,
            control=self._control,
            backups=self._backups,
            clock=self._clock,
            registry=self._metrics.registry,
            spawn=self._tasks.spawn,
            plan_trash=self._trash.plan,
            log=self._log.warning,
        )
        self._stack.push_async_callback(copies.stop)
        await copies.start()
        furnish(self._keeper, copies, self._log)
        self._undo.open_rows = copies.open_rows
        self._restores = Restores(self._settings, self._backups, copies.vault, copies.scratch, self._control, self._errands)
        self._undo.restore_in_place = self._restores.in_place
        self._errands.protector = copies.before_danger

    async def _upstream(self) -> Upstream:
        upstream = self._settings.server
        if upstream is not None:
            return upstream
        self._embedded = EmbeddedPostgres(self._settings.data_dir / "postgres")
        self._stack.push_async_callback(self._embedded.stop)
        await self._embedded.start()
        return Upstream.from_url(self._embedded.url)

    def _add_metrics(self) -> None:
        metrics, settings = self._metrics, self._settings
        metrics.describe(settings.mode, settings.profile, settings.effective_environment)
        metrics.add_source("pghold_holds_pending", "gauge", "Holds that wait for a decision.", self._book.pending_count)
        metrics.add_source("pghold_audit_failures", "counter", "Failed writes of the audit log.", lambda: self._audit.failures)
        self._care.add_metrics(metrics)
        metrics.add_source(
            "pghold_upstream_up", "gauge", "Whether the server could be reached last.", lambda: float(bool(self._connector.reachable))
        )
        for name, read in (("hit", lambda: self._judging.policies.hits), ("miss", lambda: self._judging.policies.misses)):
            metrics.add_source("pghold_verdict_cache", "counter", "Look-ups of judgements by outcome.", read, f"outcome={name}")

    def _make_notifier(self, routes: tuple[Route, ...]) -> None:
        settings = self._settings
        self._notifier = Notifier(
            routes,
            store=self._store,
            book=self._book,
            audit=self._audit,
            clock=self._clock,
            environment=settings.effective_environment,
            console_url=self._console_url,
            problems=self._problems,
            chain=ChainWatch(self._audit.path, settings.audit_check_s, self._log.warning),
            log=self._log.warning,
        )
        self._operators.on_locked = self._notifier.locked_out
        self._metrics.registry.register(NotifyMetrics(self._notifier))

    def _make_health(self) -> None:
        async def audit() -> tuple[str, list[str]]:
            failing = "the audit log cannot be written: dangerous statements are refused" if self._audit.failing else ""
            broken = self._notifier.chain_problem or self._care.chain_problem()
            return failing or broken, await asyncio.to_thread(self._care.warnings)

        around = Surroundings(
            book=self._book,
            backups=self._backups,
            sessions=lambda: self._server.list(),
            reachable=lambda: self._connector.reachable,
            audit=audit,
            record=self._audit,
            tell=self._notifier.tell,
        )
        self._health = HealthMonitor(self._settings, self._control, around, self._clock)
        self._metrics.registry.register(HealthMetrics(lambda: self._health.report))
        self._schemas = SchemaHistory(self._settings, self._control, self._book, around.sessions, self._audit, self._clock)
        self._health.extra.append(self._schemas.check)

    def _changed(self, requester: Requester, judgement: Judgement) -> None:
        """DDL that nobody had to decide on has succeeded."""
        self._notifier.changed(requester, judgement)
        self._health.changed(requester, judgement)
        self._schemas.changed(requester, judgement)

    def _console_url(self) -> str:
        return self._settings.console_url or f"{self._scheme}://{self._console_address}"

    async def _start_server(self) -> None:
        settings = self._settings
        self._isolated = IsolatedJudges()
        self._policy_text = _policy_text(settings)
        self._judging = Judging(load_policies(settings, announces=True), self._metrics.judging_seconds, self._isolated)
        if settings.mode != "off":
            self._tasks.spawn(self._isolated.warm(), "judge for long scripts")
        core = CoreSettings(
            environment=settings.effective_environment,
            mode=Mode(settings.mode),
            hold_timeout_s=settings.hold_timeout_s,
            hold_timeout_in_transaction_s=settings.hold_timeout_in_transaction_s,
            heartbeat_s=settings.heartbeat_s,
            drain_timeout_s=settings.drain_timeout_s,
            high_water_bytes=settings.hold_high_water_bytes,
            max_script_bytes=settings.max_script_bytes,
            looks=settings.look_before_release,
            protects=settings.backup_before_danger,
            copy_lock_timeout_s=settings.backup_lock_timeout_s,
            retry_timeout_s=settings.retry_timeout_s,
        )
        self._grants = SqlGrants(
            self._store, self._book, self._audit, self._clock, settings.retry_timeout_s, lambda session_id: self._server.has(session_id)
        )
        totals = Totals()
        self._services: Services
        self._server = Server(
            settings,
            connector=self._connector,
            judging=self._judging,
            runtime=lambda on_closed: SessionRuntime(
                book=self._book,
                grants=self._grants,
                protector=self._copies.before_danger,
                audit=self._audit,
                counters=self._metrics,
                settings=core,
                clock=self._clock,
                tasks=self._tasks,
                totals=totals,
                log=self._log.info,
                on_closed=on_closed,
                on_change=self._changed,
            ),
            metrics=self._metrics,
            tasks=self._tasks,
            admin=lambda reader, writer, startup: serve_admin(reader, writer, startup, self._services),
            log=self._log.warning,
        )
        activity = Activity(self._clock, self._server.allowed)
        self._metrics.on_judged = activity.judged
        foresight = make_foresight(
            settings, self._book, self._control, self._clock, lambda: self._judging.policies, self._metrics, self._log.warning
        )
        self._foreseeing = self._tasks.spawn(foresight.run(), "foresight")
        self._sampling = self._tasks.spawn(_sample(activity), "activity")
        self._following_trash = self._tasks.spawn(self._trash.follow(), "trash")
        self._sweeping = self._tasks.spawn(self._keep_sweeping(), "grants")
        self._keeping = self._tasks.spawn(self._keeper.run(), "copies")
        self._services = Services(
            settings=settings,
            store=self._store,
            book=self._book,
            grants=self._grants,
            approvals=SqlApprovals(self._store, self._clock),
            audit=self._audit,
            audit_care=self._care,
            sessions=self._server,
            operators=self._operators,
            judging=self._judging,
            activity=activity,
            metrics=self._metrics,
            clock=self._clock,
            reload=self._reload,
            problems=self._problems,
            spawn=self._tasks.spawn,
            console_url=self._console_url,
            notifier=self._notifier,
            control=self._control,
            backups=self._backups,
            health=self._health,
            schemas=self._schemas,
            errands=self._errands,
            restores=self._restores,
            trash=self._trash,
            undo=self._undo,
            keeper=self._keeper,
            forecast=Forecast(settings, self._control),
        )
        await self._server.start()
        self._watching = [
            self._tasks.spawn(self._health.run(), "checks"),
            self._tasks.spawn(self._schemas.run(), "schema history"),
        ]

    def _start_tracing(self) -> None:
        self._tracing: Tracing | None = None
        if self._settings.otel_endpoint:
            # Here, since nobody else should wait for these packages, or need them.
            from proxy.tracing import Tracing

            self._tracing = Tracing(self._settings.otel_endpoint, self._settings.effective_environment)
            self._stack.push_async_callback(self._tracing.close)
            self._tasks.spawn(self._tracing.follow(self._book), "traces")

    async def _start_console(self) -> None:
        self._console_tls = console_context(self._settings)
        try:
            sock = listen(address(self._settings.console))
        except ConfigError as error:
            raise ConfigError(f"console: {error}") from None
        self._console_address = shown(sock)
        application = make_console(self._services)
        if self._tracing is not None:
            application = self._tracing.wrap(application)
        self._console = make_server(application, self._console_tls, self._settings.console_proxies)
        self._tasks.spawn(_serve_http(self._console, sock), "console")
        # Where commands on this machine find it, whatever its port.
        url = self._settings.data_dir / CONSOLE_FILE
        try:
            url.write_text(f"{self._scheme}://{self._console_address}\n")
        except OSError as error:
            raise ConfigError(f"{url}: {error.strerror}") from None
        self._stack.callback(url.unlink, missing_ok=True)

    @property
    def _scheme(self) -> str:
        return "https" if self._settings.console_has_tls else "http"

    # --- running ------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload_signal)

    def _stop_signal(self) -> None:
        if self._stop.is_set():
            self._again.set()
        self._stop.set()

    def _reload_signal(self) -> None:
        self._tasks.spawn(self._reload_logged(), "reload")

    async def _reload_logged(self) -> None:
        try:
            self._log.info("reloaded", what=await self._reload("SIGHUP"))
        except ConfigError as error:
            self._log.error("not reloaded", error=str(error))

    async def _reload(self, operator: str) -> str:
        """Policy and certificates, all or nothing. Raises ConfigError."""
        fresh = load({"policy": self._settings.policy} if self._settings.policy else {})
        given = self._settings.model_copy(update={"profile": fresh.profile} if self._settings.policy else {})
        # Off the loop: what apprise knows is a hundred modules, read when the first route is.
        routes = await asyncio.to_thread(load_routes, given.policy)
        policies = load_policies(given, announces=True)
        console_context(self._settings)  # raises before anything is changed
        self._server.reload_tls()
        if self._console_tls is not None:
            load_console_chain(self._console_tls, self._settings)
        self._judging.replace(policies)
        self._notifier.replace(routes)
        with suppress(AuditError):
            await self._audit.append(AuditEntry(AuditEvent.RELOADED, operator=operator))
            text = _policy_text(settings := self._settings)
            if text != self._policy_text:
                diff = "".join(unified_diff(self._policy_text.splitlines(True), text.splitlines(True), "before", "now", n=1))
                detail: dict[str, str | int | float | bool | None] = {"diff": diff[:_DIFF_CHARACTERS]}
                await self._audit.append(
                    AuditEntry(AuditEvent.POLICY_CHANGED, environment=settings.effective_environment, operator=operator, detail=detail)
                )
                self._policy_text = text
        return f"profile {policies.profile}, {len(policies.file.rules)} policy rules, {len(routes)} notification routes, certificates"

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._grants.sweep()
            except (StoreError, AuditError) as error:
                self._log.warning("grants not swept", error=str(error))

    async def _problems(self) -> list[str]:
        found: list[str] = []
        if not self._connector.reachable:
            found.append(self._connector.problem or "the server was not reached yet")
        if self._audit.failing:
            found.append("the audit log cannot be written: dangerous statements are refused")
        try:
            await self._book.check()
        except StoreError as error:
            found.append(f"{error}: dangerous statements are refused")
        return found

    def _announce(self) -> None:
        settings = self._settings
        if settings.mode != "enforce":
            what = "records what it would hold, and holds nothing" if settings.mode == "observe" else "judges nothing at all"
            print(f"pghold: WARNING: mode is {settings.mode}: it {what}", file=sys.stderr)
            self._log.warning("not enforcing", mode=settings.mode)
        if not settings.backup_before_danger:
            print("pghold: WARNING: copies are switched off: what an approved statement destroys is lost", file=sys.stderr)
            self._log.warning("copies are switched off", setting="backup_before_danger")
        elif not self._control.has_credentials:
            self._log.warning(
                "no credentials for copies: approved destructive statements run only where the server lets the session's role in without any",
                setting="control",
            )
        listening = self._server.addresses[0]
        print(f"pghold ready listen={listening} console={self._scheme}://{self._console_address}", file=sys.stderr, flush=True)
        if self._embedded is not None:
            _say_how(sys.stderr, listening)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; a second one ends the draining."""
        # What is there now stays: the collector need not look at it again, and trees of statements are no reason to look often.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        await self._stop.wait()
        self._log.info("stopping", sessions=len(self._server.list()))
        await self._errands.close()
        drain = asyncio.ensure_future(self._server.stop(self._settings.drain_timeout_s))
        again = asyncio.ensure_future(self._again.wait())
        await asyncio.wait({drain, again}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (drain, again):
            waiting.cancel()
        self._console.should_exit = True
        for endless in (self._foreseeing, self._sampling, self._sweeping, self._following_trash, self._keeping, *self._watching):
            endless.cancel()  # they never end by themselves, and would be waited for
        self._care.rest()
        await self._keeper.close()
        await self._tasks.wait(3)
        await self._notifier.close(2)
        await self._isolated.close()
        with suppress(AuditError):
            await self._audit.append(AuditEntry(AuditEvent.STOPPED, environment=self._settings.effective_environment))
        await self._care.stop()


async def _serve_http(server: uvicorn.Server, sock: object) -> None:
    # Signals are ours: uvicorn's own handling would end the process before the sessions are drained.
    await server._serve(sockets=[sock])  # type: ignore[list-item]  # a socket; serve() differs only in taking the signals


def _policy_text(settings: Settings) -> str:
    """What the file says, for the difference that a reload makes. A secret in it stays out of the record."""
    try:
        text = settings.policy.read_text() if settings.policy is not None else ""
    except OSError:
        return ""
    text = without_addresses(text)
    return re.sub(r"(?m)^(\s*\w*(?:secret|password|token|upstream)\w*\s*=).*$", r"\1 …", text)


async def _sample(activity: Activity) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_S)
        activity.sample()


def _abandoned(hold: Hold) -> AuditEntry:
    running = " while it ran" if hold.state is HoldState.RELEASED else ""
    decision = hold.decision
    # Decided in the store, but the proxy ended before it was on record: nothing ran, and the decision is not lost.
    operator, reason = (decision.operator, decision.reason) if decision is not None else ("", "")
    return about(AuditEvent.ABANDONED, hold, operator=operator, reason=reason, outcome=f"the proxy was restarted{running}")


def _raise_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _lock(settings: Settings) -> TextIO:
    """One pghold for one data directory."""
    file = (settings.data_dir / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(f"data_dir {settings.data_dir} is in use by another pghold") from None
    return file


def _say_how(out: TextIO, listening: str) -> None:
    bold, end = ("\x1b[1m", "\x1b[0m") if out.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(
        f"""
  An embedded PostgreSQL 18 with a sample database runs behind it. Connect, and try something dangerous:

    {bold}pghold psql{end}                     (or: psql postgresql://postgres@{listening}/sample)
    sample=# DROP TABLE "Cards";

  It waits. In another terminal:

    {bold}pghold holds{end}                    see what waits
    {bold}pghold approve 1{end}                or: pghold deny 1

  Ctrl-C stops everything.
""",
        file=out,
        flush=True,
    )
