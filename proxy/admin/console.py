"""The backend's side of one connection to the psql console: login by SCRAM, then simple and extended queries."""

from __future__ import annotations

import asyncio
import os
from typing import Final, TypeVar

from protocol import (
    FRONTEND_LIMITS,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    BackendKeyData,
    Bind,
    BindComplete,
    Close,
    CloseComplete,
    Column,
    CommandComplete,
    DataRow,
    Describe,
    EmptyQueryResponse,
    Execute,
    Flush,
    Framer,
    Message,
    NegotiateProtocolVersion,
    NoData,
    ObjectKind,
    ParameterDescription,
    ParameterStatus,
    Parse,
    ParseComplete,
    ProtocolError,
    Query,
    ReadyForQuery,
    RemoteProtocolError,
    RowDescription,
    SASLInitialResponse,
    SASLResponse,
    StartupMessage,
    Sync,
    Terminate,
    TransactionStatus,
    decode_frontend,
)
from protocol.wire import BodyReader
from proxy import replies
from proxy.admin.commands import Answer, CommandError, bound, columns_of, parse, run
from proxy.admin.scram import MECHANISM, ScramError, ScramServer, Verifier
from proxy.admin.syntax import Token
from proxy.model import AuditEntry, AuditEvent, Operator
from proxy.seams import AuditError, LockedOutError, StoreError
from proxy.services import Services

#: Commands are short.
_LIMITS: Final = {kind: min(limit, 64 << 10) for kind, limit in FRONTEND_LIMITS.items()}
_LOGIN_TIMEOUT_S: Final = 60.0
_CONNECTIONS_LIMIT: Final = 100
_TEXT: Final = 25  # the OID of type text
_NAME_CHARACTERS: Final = 200
_INTEGERS: Final = frozenset([20, 21, 23])  # int8, int2, int4
_TEXTS: Final = frozenset([0, 25, 705, 1043])  # unspecified, text, unknown, varchar
_MOCK_SECRET: Final = os.urandom(32)

V = TypeVar("V")

_connections = 0


async def serve_admin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, startup: StartupMessage, services: Services) -> None:
    """Serve one connection until it ends."""
    global _connections
    _connections += 1
    try:
        connection = _Connection(reader, writer, services)
        if _connections > _CONNECTIONS_LIMIT:
            connection.fail(replies.too_many())
            return
        await connection.serve(startup)
    except ProtocolError as error:
        services.metrics.protocol_violation("admin")
        writer.write(replies.violation(error).encode())
    finally:
        _connections -= 1


class _Closed(Exception):
    pass


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, services: Services) -> None:
        self._reader = reader
        self._writer = writer
        self._services = services
        self._framer = Framer(_LIMITS)
        #: The name that was given, and the verifier that it was proved against.
        self._proved = "", ""
        self._frames: list[tuple[int, bytes]] = []
        self._statements: dict[bytes, list[Token]] = {}
        self._types: dict[bytes, tuple[int, ...]] = {}
        self._portals: dict[bytes, list[Token]] = {}

    def send(self, *messages: Message) -> None:
        self._writer.write(b"".join(m.encode() for m in messages))

    def fail(self, reply: replies.Reply) -> None:
        self._writer.write(reply.encode())

    async def _next(self) -> tuple[int, bytes]:
        """Raises _Closed and RemoteProtocolError."""
        while not self._frames:
            await self._writer.drain()
            data = await self._reader.read(65536)
            if not data:
                raise _Closed
            self._frames += self._framer.feed(data)
        return self._frames.pop(0)

    async def serve(self, startup: StartupMessage) -> None:
        try:
            async with asyncio.timeout(_LOGIN_TIMEOUT_S):
                if not await self._login(startup):
                    return
            await self._work()
        except TimeoutError:
            self.fail(replies.login_timeout())
        except _Closed:
            pass

    # --- login --------------------------------------------------------------------------------------------------

    async def _login(self, startup: StartupMessage) -> bool:
        user = startup.get(b"user").decode("utf-8", "replace")
        address = _address(self._writer)
        unknown = tuple(name for name, _ in startup.parameters if name.startswith(b"_pq_."))
        if startup.minor > 2 or unknown:
            self.send(NegotiateProtocolVersion((3 << 16) | min(startup.minor, 2), unknown))
        operators = self._services.operators
        try:
            operators.attempt(user[:_NAME_CHARACTERS], address)
            found = await operators.scram_verifier(user)
        except LockedOutError as error:
            seconds = max(1, round((error.until - self._services.clock.now()).total_seconds()))
            self.fail(replies.Reply("FATAL", "28P01", f"too many failed attempts; try again in {seconds} s"))
            return False
        except StoreError as error:
            self.fail(replies.Reply("FATAL", "58000", f"pghold: {error}"))
            return False
        exchange = ScramServer(Verifier.parse(found[1]) if found else Verifier.mock(user, _MOCK_SECRET))
        self.send(AuthenticationSASL((MECHANISM,)))
        try:
            initial = SASLInitialResponse.decode_body(BodyReader(await self._password()))
            if initial.mechanism != MECHANISM:
                raise RemoteProtocolError("client selected an invalid SASL authentication mechanism")
            self.send(AuthenticationSASLContinue(exchange.first(initial.data or b"")))
            final = exchange.final(SASLResponse.decode_body(BodyReader(await self._password())).data)
        except ScramError as error:
            raise RemoteProtocolError(str(error)) from None
        if final is None or found is None:
            await self._refused(user)
            self.fail(replies.Reply("FATAL", "28P01", f'password authentication failed for user "{user[:63]}"'))
            return False
        operators.attempt_succeeded(user[:_NAME_CHARACTERS], address)
        self._proved = user, found[1]
        self.send(AuthenticationSASLFinal(final), AuthenticationOk())
        for name, value in (
            ("server_version", "18.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("application_name", ""),
        ):
            self.send(ParameterStatus(name.encode(), value.encode()))
        self.send(BackendKeyData(os.getpid(), os.urandom(4)), ReadyForQuery(TransactionStatus.IDLE))
        return True

    async def _operator(self) -> Operator:
        """Who is connected, as he is now: a role, a scope or a lock counts at once. Raises _Closed when his password or token is
        not good any more, and CommandError."""
        user, verifier = self._proved
        try:
            found = await self._services.operators.scram_verifier(user)
        except StoreError as error:
            raise CommandError("58000", str(error)) from None
        if found is None or found[1] != verifier:
            self.fail(replies.Reply("FATAL", "28000", "your password or token was changed, ended or taken back: connect again"))
            raise _Closed
        return found[0]

    async def _password(self) -> bytes:
        kind, body = await self._next()
        if kind != ord("p"):
            raise RemoteProtocolError(f"expected SASL response, got message type {kind}")
        return body

    async def _refused(self, user: str) -> None:
        entry = AuditEntry(AuditEvent.OPERATOR_REFUSED, operator=user[:63], outcome="wrong password at the psql console")
        try:
            await self._services.audit.append(entry)
        except AuditError:
            pass  # the login is refused all the same

    # --- commands -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        skipping = False
        while True:
            kind, body = await self._next()
            if kind == ord("p"):
                raise RemoteProtocolError(f"invalid frontend message type {kind}")
            message = decode_frontend(kind, body)
            if isinstance(message, Terminate):
                return
            if isinstance(message, Sync):
                skipping = False
                self.send(ReadyForQuery(TransactionStatus.IDLE))
                continue
            if skipping:
                continue
            if isinstance(message, Query):
                await self._query(message.query)
                self.send(ReadyForQuery(TransactionStatus.IDLE))
                continue
            try:
                await self._extended(message)
            except CommandError as error:
                self._fail_command(error)
                skipping = True

    def _fail_command(self, error: CommandError) -> None:
        self.fail(replies.Reply("ERROR", error.sqlstate, str(error), "", error.hint))

    async def _query(self, script: bytes) -> None:
        try:
            parts = parse(_decoded(script))
            if not parts:
                self.send(EmptyQueryResponse())
            for words in parts:
                self._give(await run(self._services, await self._operator(), bound(words, ())), describe=True)
        except CommandError as error:
            self._fail_command(error)

    def _give(self, answer: Answer, *, describe: bool) -> None:
        if answer.notice:
            self.fail(replies.Reply("NOTICE", "00000", answer.notice))
        if answer.columns is not None:
            if describe:
                self.send(_row_description(answer.columns))
            for row in answer.rows:
                self.send(DataRow(tuple(None if v is None else v.encode("utf-8", "replace") for v in row)))
        self.send(CommandComplete(answer.tag.encode()))

    async def _extended(self, message: Message) -> None:
        match message:
            case Parse(name, script, types):
                self._statements[name] = self._one(script)
                self._types[name] = types
                self.send(ParseComplete())
            case Bind(portal, statement, formats, values, results):
                words = self._known(self._statements, statement, "26000", "prepared statement")
                texts = _texts(values, formats, self._types.get(statement, ()))
                if 1 in results:
                    raise CommandError("0A000", "the console gives text only", "Ask for results in text format.")
                self._portals[portal] = bound(words, texts)
                self.send(BindComplete())
            case Describe(ObjectKind.STATEMENT, name):
                words = self._known(self._statements, name, "26000", "prepared statement")
                self.send(ParameterDescription((_TEXT,) * max((w.parameter for w in words), default=0)))
                self._describe(words)
            case Describe(_, name):
                self._describe(self._known(self._portals, name, "34000", "portal"))
            case Execute(portal, _):
                words = self._known(self._portals, portal, "34000", "portal")
                if words:
                    self._give(await run(self._services, await self._operator(), words), describe=False)
                else:
                    self.send(EmptyQueryResponse())
            case Close(kind, name):
                if kind is ObjectKind.STATEMENT:
                    self._statements.pop(name, None)
                    self._types.pop(name, None)
                else:
                    self._portals.pop(name, None)
                self.send(CloseComplete())
            case Flush():
                await self._writer.drain()
            case _:
                raise RemoteProtocolError(f"unexpected message {type(message).__name__}")

    def _describe(self, words: list[Token]) -> None:
        columns = columns_of(words) if words else None
        self.send(NoData() if columns is None else _row_description(columns))

    def _one(self, script: bytes) -> list[Token]:
        """The command of a Parse; none for an empty text. Raises CommandError."""
        found = parse(_decoded(script))
        if len(found) > 1:
            raise CommandError("42601", "cannot insert multiple commands into a prepared statement")
        return found[0] if found else []

    def _known(self, names: dict[bytes, V], name: bytes, code: str, what: str) -> V:
        found = names.get(name)
        if found is None:
            raise CommandError(code, f"{what} does not exist")
        return found


def _address(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "local"


def _decoded(script: bytes) -> str:
    return script.decode("utf-8", "replace")


def _texts(values: tuple[bytes | None, ...], formats: tuple[int, ...], types: tuple[int, ...]) -> tuple[str | None, ...]:
    """The values of Bind as text. Drivers send numbers in binary without being asked. Raises CommandError."""
    if len(formats) not in (0, 1, len(values)):
        raise CommandError("08P01", f"bind message has {len(formats)} parameter formats but {len(values)} parameters")
    found: list[str | None] = []
    for index, value in enumerate(values):
        is_binary = bool(formats[index if len(formats) > 1 else 0]) if formats else False
        type_oid = types[index] if index < len(types) else 0
        if value is None:
            found.append(None)
        elif is_binary and type_oid in _INTEGERS:
            found.append(str(int.from_bytes(value, "big", signed=True)))
        elif is_binary and type_oid not in _TEXTS:
            raise CommandError("0A000", f"parameter ${index + 1} is in a binary format that the console does not know", "Bind text.")
        else:
            found.append(value.decode("utf-8", "replace"))
    return tuple(found)


def _row_description(columns: tuple[str, ...]) -> RowDescription:
    return RowDescription(tuple(Column(name.encode(), 0, 0, _TEXT, -1, -1, 0) for name in columns))
