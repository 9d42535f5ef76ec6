"""Accepting clients: from the first byte to a running session.

One coroutine takes a client from the accepted socket through TLS, the startup packet, the connection to the server and the login; then
a Session owns both transports. It has one deadline for all of that, as authentication_timeout in PostgreSQL. Nothing is read from the raw
socket beyond the packet that is being answered, so that TLS begins exactly where the client begins it.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from policy import Context, Verdict
from policy.engine import startup_settings
from protocol import (
    CancelRequest,
    GSSENCRequest,
    ProtocolError,
    RemoteProtocolError,
    SSLRequest,
    StartupFramer,
    StartupMessage,
    decode_startup,
)
from proxy import replies
from proxy.authentication import LoginRelay
from proxy.config import Settings, address
from proxy.errors import BackendLostError, ConfigError
from proxy.judging import Judging
from proxy.links import Intake
from proxy.listeners import listen, shown
from proxy.metrics import Metrics
from proxy.model import Requester, SessionId, SessionInfo
from proxy.policies import Identity
from proxy.shell import Session, SessionRuntime
from proxy.tasks import Tasks
from proxy.tls import ALPN, DIFFERENT_CERTIFICATES, client_names, frontend_context, leaf
from proxy.upstream import BackendConnection, Connector

ADMIN_DATABASE: Final = b"pghold"
#: What a client sets, in `options` or as a parameter, to choose between waiting for a decision and being refused at once.
ON_HOLD: Final = "pghold.on_hold"

#: "The frontend might also send SSLRequest after GSSENCRequest": a client that goes on asking is not one.
_PREAMBLE_LIMIT: Final = 4
_TLS_HANDSHAKE: Final = 0x16
#: Cancel requests relayed at the same time.
_CANCELS_LIMIT: Final = 100
_PROBE_EVERY_S: Final = 5.0

AdminHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, StartupMessage], Awaitable[None]]


class _Refused(Exception):
    """The client gets this reply and is let go."""

    def __init__(self, reply: replies.Reply, reason: str) -> None:
        super().__init__(reply.message)
        self.reply = reply
        self.reason = reason


class _Gone(Exception):
    """The client left, or is to be left without a word."""


@dataclass(slots=True)
class _Client:
    """A client on its way in."""

    transport: asyncio.Transport
    intake: Intake
    wake: asyncio.Event
    tls: bool
    peer: str
    certificate: str = ""
    emails: tuple[str, ...] = ()


class Server:
    """The proxy's front door. Implements seams.Sessions.

    Attributes:
        addresses: where it listens, once started.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connector: Connector,
        judging: Judging,
        runtime: Callable[[Callable[[Session], None]], SessionRuntime],
        metrics: Metrics,
        tasks: Tasks,
        admin: AdminHandler,
        log: Callable[..., None],
    ) -> None:
        self.addresses: list[str] = []
        self._settings = settings
        self._connector = connector
        self._judging = judging
        self._runtime = runtime(self._session_closed)
        self._metrics = metrics
        self._tasks = tasks
        self._admin = admin
        self._log = log
        self._tls = frontend_context(settings)
        self._own_leaf = leaf(settings.tls_cert) if self._tls is not None and settings.tls_cert else None
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._sessions: dict[SessionId, Session] = {}
        self._keys: dict[int, list[tuple[bytes, Session]]] = {}
        self._next_session = 0
        self._starting = 0
        self._cancels = 0
        self._stopping = False
        metrics.add_source("pghold_sessions", "gauge", "Sessions that are open.", lambda: len(self._sessions))
        totals = self._runtime.totals
        for direction, done, live in (
            ("from_frontend", lambda: totals.bytes_from_frontend, lambda s: s.bytes_from_frontend),
            ("from_backend", lambda: totals.bytes_from_backend, lambda s: s.bytes_from_backend),
        ):
            metrics.add_source(
                "pghold_bytes",
                "counter",
                "Bytes relayed, by where they came from.",
                lambda done=done, live=live: done() + sum(live(s) for s in self._sessions.values()),  # type: ignore[misc]
                f"direction={direction}",
            )
        metrics.add_source(
            "pghold_allowed_scripts",
            "counter",
            "Scripts and executions that passed without a finding.",
            self.allowed,
        )

    def allowed(self) -> int:
        """Scripts and executions that were forwarded as harmless, so far."""
        return self._runtime.totals.allowed + sum(s.core.allowed for s in self._sessions.values())

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen on all addresses. Raises ConfigError."""
        await self._check_certificates()
        for part in self._settings.listen.split(","):
            sock = listen(address(part))
            self._listeners.append(sock)
            self.addresses.append(shown(sock))
        for sock in self._listeners:
            self._accepting.append(self._tasks.spawn(self._accept(sock), f"listener {shown(sock)}"))
        self._accepting.append(self._tasks.spawn(self._keep_probing(), "upstream probe"))

    async def _check_certificates(self) -> None:
        """FIELD's matrix: with TLS on both legs only the server's own certificate lets every client log in."""
        await self._connector.probe()
        if self._own_leaf is None or not self._connector.reachable:
            return
        try:
            connection = await self._connector.connect(asyncio.Event())
        except BackendLostError as error:
            self._log("server not reachable", error=str(error))
            return
        connection.transport.abort()
        if connection.certificate is not None and connection.certificate != self._own_leaf:
            raise ConfigError(f"tls_cert: {DIFFERENT_CERTIFICATES}")

    def reload_tls(self) -> None:
        """Read the certificates again, for new connections. Raises ConfigError, and keeps the old ones."""
        tls = frontend_context(self._settings)
        own = leaf(self._settings.tls_cert) if tls is not None and self._settings.tls_cert else None
        self._connector.reload()
        self._tls, self._own_leaf = tls, own

    async def stop(self, drain_s: float) -> None:
        """Accept no more, end holds, let transactions finish for a time, end the rest."""
        self._stopping = True
        for task in self._accepting:
            task.cancel()
        for sock in self._listeners:
            name = sock.getsockname()
            sock.close()
            if sock.family == socket.AF_UNIX or isinstance(name, str):
                with suppress(OSError):
                    os.unlink(str(name))
        for session in list(self._sessions.values()):
            session.stop_requested()
        deadline = asyncio.get_running_loop().time() + drain_s + 6
        while self._sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    # --- seams.Sessions -----------------------------------------------------------------------------------------

    def list(self) -> list[SessionInfo]:
        return [session.info() for session in self._sessions.values()]

    def has(self, session_id: SessionId) -> bool:
        return session_id in self._sessions

    def kill(self, session_id: SessionId, operator: str) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.kill(operator)
        return True

    def _session_closed(self, session: Session) -> None:
        self._sessions.pop(session.requester.session_id, None)
        process_id = session.process_id
        if process_id is None:
            return
        left = [(key, s) for key, s in self._keys.get(process_id, []) if s is not session]
        if left:
            self._keys[process_id] = left
        else:
            self._keys.pop(process_id, None)

    # --- accepting ----------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as error:
                # Out of descriptors, most likely: wait for some to come free.
                self._log("accept failed", error=error.strerror or str(error))
                await asyncio.sleep(0.1)
                continue
            self._metrics.connected()
            if self._starting + len(self._sessions) > self._settings.max_connections + 1000:
                self._metrics.refused("flood")
                sock.close()
                continue
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            where = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "local"
            self._tasks.spawn(self._serve(sock, where), f"client {where}")

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        self._starting += 1
        client: _Client | None = None
        said_hello = False
        try:
            async with asyncio.timeout(self._settings.startup_timeout_s):
                client = await self._open(sock, peer)
                packet = await self._startup_packet(client)
                said_hello = True
                await self._welcome(client, packet)
        except TimeoutError:
            self._metrics.refused("timeout")
            if client is not None and said_hello:
                self._say(client, replies.login_timeout())
        except _Refused as refused:
            self._metrics.refused(refused.reason)
            if client is not None:
                self._say(client, refused.reply)
        except ProtocolError as error:
            self._metrics.protocol_violation("startup")
            if client is not None:
                self._say(client, replies.violation(error))
        except (_Gone, OSError, ssl.SSLError):
            self._metrics.refused("gone")
        finally:
            self._starting -= 1
            if client is None:
                sock.close()
            elif isinstance(client.transport.get_protocol(), Intake):
                client.transport.close()

    def _say(self, client: _Client, reply: replies.Reply) -> None:
        if not client.transport.is_closing():
            client.transport.write(reply.encode())

    # --- encryption ---------------------------------------------------------------------------------------------

    async def _open(self, sock: socket.socket, peer: str) -> _Client:
        """Answer requests for encryption until something else comes. Raises _Gone."""
        loop = asyncio.get_running_loop()
        head = b""
        for _ in range(_PREAMBLE_LIMIT):
            first = await _peek(sock)
            if not first:
                raise _Gone
            if first[0] == _TLS_HANDSHAKE:
                return await self._encrypt(sock, peer, direct=True)
            head = await _exactly(sock, 8)
            try:
                request = decode_startup(head[4:]) if head[:4] == b"\0\0\0\x08" else None
            except RemoteProtocolError:
                request = None
            if isinstance(request, SSLRequest):
                if _pending(sock):
                    # Safety: what came in clear ahead of the handshake must not be taken for encrypted (CVE-2021-23214).
                    self._metrics.protocol_violation("bytes before TLS")
                    raise _Gone
                await loop.sock_sendall(sock, b"N" if self._tls is None else b"S")
                if self._tls is not None:
                    return await self._encrypt(sock, peer, direct=False)
            elif isinstance(request, GSSENCRequest):
                await loop.sock_sendall(sock, b"N")
            else:
                break
        else:
            raise _Gone
        wake = asyncio.Event()
        intake = Intake(wake, head)
        transport, _ = await loop.connect_accepted_socket(lambda: intake, sock)
        return _Client(transport, intake, wake, False, peer)

    async def _encrypt(self, sock: socket.socket, peer: str, *, direct: bool) -> _Client:
        if self._tls is None:
            raise _Gone
        wake = asyncio.Event()
        intake = Intake(wake)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: intake, sock, ssl=self._tls)
        link = transport.get_extra_info("ssl_object")
        chosen = link.selected_alpn_protocol()
        client = _Client(transport, intake, wake, True, peer, *client_names(link.getpeercert()))
        if direct and chosen != ALPN:
            transport.close()
            self._metrics.protocol_violation("direct TLS without ALPN")
            raise _Gone
        return client

    # --- the startup packet -------------------------------------------------------------------------------------

    async def _startup_packet(self, client: _Client) -> StartupMessage | CancelRequest:
        framer = StartupFramer()
        while (body := framer.feed(client.intake.take())) is None:
            await self._more(client)
        client.intake.data_received(framer.leftover)
        packet = decode_startup(body)
        if isinstance(packet, SSLRequest | GSSENCRequest):
            raise RemoteProtocolError("encryption was requested on an encrypted connection")
        if isinstance(packet, StartupMessage) and packet.major != 3:
            version = f"{packet.major}.{packet.minor}"
            raise _Refused(replies.unsupported_protocol(version), "protocol version")
        return packet

    async def _more(self, client: _Client, backend: BackendConnection | None = None) -> None:
        """Wait until either side has sent something. Raises _Gone."""
        client.wake.clear()
        if client.intake.closed:
            raise _Gone
        if backend is not None and backend.intake.closed:
            return
        await client.wake.wait()

    async def _welcome(self, client: _Client, packet: StartupMessage | CancelRequest) -> None:
        if isinstance(packet, CancelRequest):
            await self._cancel(packet)
            return
        if self._settings.tls == "require" and not client.tls and client.peer != "local":
            raise _Refused(replies.tls_required(), "plaintext")
        if packet.get(b"database", packet.get(b"user")) == ADMIN_DATABASE:
            await self._to_admin(client, packet)
            return
        packet = self._check(client, packet)
        await self._login(client, packet)

    def _check(self, client: _Client, packet: StartupMessage) -> StartupMessage:
        """Refuse what may not log in. Return the packet to send on."""
        if self._stopping:
            raise _Refused(replies.shutting_down(), "stopping")
        if len(self._sessions) >= self._settings.max_connections:
            raise _Refused(replies.too_many(), "too many")
        if not packet.get(b"user"):
            raise _Refused(replies.no_user(), "no user")
        if packet.get(b"replication").lower() not in (b"", b"false", b"off", b"no", b"0") and not self._settings.replication:
            raise _Refused(replies.no_replication(), "replication")
        if (chosen := _startup(packet).get(ON_HOLD, "wait").lower()) not in ("wait", "reject"):
            raise _Refused(replies.unknown_choice(ON_HOLD, chosen), "startup settings")
        if self._settings.mode == "enforce":
            parameters = {_text(k): _text(v) for k, v in packet.parameters}
            engine = self._judging.policies.engine(self._identity(client, packet))
            judgement = engine.judge_startup(parameters, self._context(packet))
            if judgement.verdict >= Verdict.HOLD:
                self._metrics.judged(judgement.verdict.name.lower(), judgement.rule_ids)
                raise _Refused(replies.startup_refused(judgement), "startup settings")
            if engine.view.read_only:
                # So that what is not seen here (functions, triggers) cannot write either.
                return replace(packet, parameters=(*packet.parameters, (b"default_transaction_read_only", b"on")))
        return packet

    def _rejects(self, client: _Client, packet: StartupMessage) -> bool:
        chosen = _startup(packet).get(ON_HOLD, "").lower()
        return chosen == "reject" if chosen else self._judging.policies.rejects(self._identity(client, packet))

    def _identity(self, client: _Client, packet: StartupMessage) -> Identity:
        context = self._context(packet)
        address = client.peer if client.peer == "local" else client.peer.rpartition(":")[0]
        return Identity(context.role, context.database, context.application_name, address)

    def _context(self, packet: StartupMessage) -> Context:
        user = _text(packet.get(b"user"))
        search_path = _startup(packet).get("search_path")
        return Context(
            role=user,
            search_path=search_path,
            trusts_temp="pg_temp" not in (search_path or ""),
            database=_text(packet.get(b"database")) or user,
            application_name=_text(packet.get(b"application_name")),
            environment=self._settings.effective_environment,
            profile=self._judging.policies.profile,
        )

    async def _to_admin(self, client: _Client, packet: StartupMessage) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 20, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        reader.feed_data(client.intake.take())
        client.transport.set_protocol(protocol)
        protocol.connection_made(client.transport)
        writer = asyncio.StreamWriter(client.transport, protocol, reader, loop)
        # It has a login deadline of its own, and none after.
        self._tasks.spawn(self._serve_admin(reader, writer, packet), f"admin {client.peer}")

    async def _serve_admin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packet: StartupMessage) -> None:
        try:
            await self._admin(reader, writer, packet)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            writer.close()

    # --- the login ----------------------------------------------------------------------------------------------

    async def _login(self, client: _Client, packet: StartupMessage) -> None:
        try:
            backend = await self._connector.connect(client.wake)
        except BackendLostError as error:
            self._metrics.upstream_connect_failed(error.reason)
            self._log("server not reachable", error=str(error))
            raise _Refused(replies.server_unreachable(str(error)), "upstream") from None
        try:
            await self._relay_login(client, packet, backend)
        finally:
            if isinstance(backend.transport.get_protocol(), Intake):
                backend.transport.close()

    async def _relay_login(self, client: _Client, packet: StartupMessage, backend: BackendConnection) -> None:
        relay = LoginRelay(strip_plus=not client.tls and backend.certificate is not None)
        backend.transport.write(packet.encode())
        while not relay.ready:
            from_backend = backend.intake.take()
            if from_backend:
                out = relay.from_backend(from_backend)
                if relay.offers_plus and client.tls and backend.certificate not in (None, self._own_leaf):
                    raise _Refused(replies.different_certificates(DIFFERENT_CERTIFICATES), "certificates")
                if relay.ready:
                    self._begin(client, packet, backend, relay, out)
                    return
                client.transport.write(out)
            from_frontend = client.intake.take()
            if from_frontend:
                backend.transport.write(relay.from_frontend(from_frontend))
            if not from_backend and not from_frontend:
                if backend.intake.closed:
                    if relay.failed:
                        raise _Gone
                    self._metrics.upstream_connect_failed("closed")
                    raise _Refused(replies.server_unreachable("the server closed the connection during login"), "upstream")
                await self._more(client, backend)

    def _begin(self, client: _Client, packet: StartupMessage, backend: BackendConnection, relay: LoginRelay, greeting: bytes) -> None:
        """Hand both transports to a session; from here on nothing is read by us."""
        self._next_session += 1
        context = self._context(packet)
        requester = Requester(
            SessionId(self._next_session),
            context.role,
            context.database,
            context.application_name,
            client.peer,
            client.certificate,
            client.emails,
            relay.key.process_id if relay.key is not None else 0,
        )
        session = Session(
            runtime=self._runtime,
            frontend=client.transport,
            backend=backend.transport,
            requester=requester,
            context=context,
            judge=self._judging.for_session(self._identity(client, packet)),
            settings_seen=relay.parameters,
            tls=client.tls,
            started_at=self._runtime.clock.now(),
            rejects=self._rejects(client, packet),
        )
        self._sessions[requester.session_id] = session
        if relay.key is not None:
            session.process_id = relay.key.process_id
            self._keys.setdefault(relay.key.process_id, []).append((relay.key.secret_key, session))
        client.transport.set_protocol(session.frontend_link)
        backend.transport.set_protocol(session.backend_link)
        client.transport.write(greeting)
        session.start(relay.backend_leftover + backend.intake.take(), relay.finish() + client.intake.take())
        for intake, link in ((client.intake, session.frontend_link), (backend.intake, session.backend_link)):
            if intake.closed:
                link.connection_lost(None)

    # --- cancel -------------------------------------------------------------------------------------------------

    async def _cancel(self, request: CancelRequest) -> None:
        """End our own hold, or pass the request on: any process can, since keys are the server's own."""
        for key, session in self._keys.get(request.process_id, []):
            if hmac.compare_digest(key, request.secret_key) and session.has_hold:
                has_step = session.has_step
                session.cancel_requested()
                if not has_step:
                    return
        if self._cancels >= _CANCELS_LIMIT:
            self._metrics.refused("too many cancels")
            return
        self._cancels += 1
        try:
            wake = asyncio.Event()
            backend = await self._connector.connect(wake)
            backend.transport.write(request.encode())
            while not backend.intake.closed:
                # "The server will close the connection": when it has, the request was taken up.
                wake.clear()
                await wake.wait()
            backend.transport.close()
        except BackendLostError as error:
            self._metrics.upstream_connect_failed(error.reason)
        finally:
            self._cancels -= 1

    # --- health -------------------------------------------------------------------------------------------------

    async def _keep_probing(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            await self._connector.probe()


def _startup(packet: StartupMessage) -> dict[str, str]:
    """The settings that the client asks for, by name in lower case."""
    return startup_settings({_text(k): _text(v) for k, v in packet.parameters})


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _peek(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)


def _pending(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def _exactly(sock: socket.socket, size: int) -> bytes:
    """Raises _Gone when the client leaves before."""
    data = b""
    while len(data) < size:
        try:
            part = sock.recv(size - len(data))
        except BlockingIOError:
            await _readable(sock)
            continue
        if not part:
            raise _Gone
        data += part
    return data
