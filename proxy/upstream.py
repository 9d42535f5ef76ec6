"""Connections to the server: TCP or Unix socket, TLS as sslmode says, and whether it can be reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass

from protocol import SSLRequest
from proxy.config import Upstream
from proxy.errors import BackendLostError
from proxy.links import Intake
from proxy.tls import backend_context


@dataclass(frozen=True, slots=True)
class BackendConnection:
    transport: asyncio.Transport
    intake: Intake
    certificate: bytes | None  # the server's, in DER; None without TLS


class Connector:
    """Connects to one server.

    Attributes:
        reachable: how the last attempt ended; None before the first.
        problem: why it failed.
    """

    def __init__(self, upstream: Upstream, timeout_s: float) -> None:
        self.upstream = upstream
        self.reachable: bool | None = None
        self.problem = ""
        self._timeout_s = timeout_s
        self._context = backend_context(upstream)

    def reload(self) -> None:
        """Read the certificates again. Raises ConfigError, and keeps the old ones."""
        self._context = backend_context(self.upstream)

    async def connect(self, wake: asyncio.Event) -> BackendConnection:
        """Raises BackendLostError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connect(wake)
        except TimeoutError:
            raise self._failed(f"no answer within {self._timeout_s:g} s", "timeout") from None
        except ssl.SSLError as error:
            raise self._failed(f"TLS: {error.reason or error}", "tls") from None
        except socket.gaierror as error:
            raise self._failed(str(error.strerror), "name") from None
        except OSError as error:
            raise self._failed(error.strerror or str(error), "refused") from None
        self.reachable = True
        self.problem = ""
        return connection

    def _failed(self, why: str, reason: str) -> BackendLostError:
        self.reachable = False
        self.problem = f"could not connect to the server at {self.upstream}: {why}"
        return BackendLostError(self.problem, reason)

    async def _connect(self, wake: asyncio.Event) -> BackendConnection:
        loop = asyncio.get_running_loop()
        sock = await self._socket()
        try:
            context = await self._negotiate(sock)
            name = self.upstream.host if context is not None else None
            intake = Intake(wake)
            transport, _ = await loop.create_connection(lambda: intake, sock=sock, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        tls = transport.get_extra_info("ssl_object")
        return BackendConnection(transport, intake, tls.getpeercert(True) if tls is not None else None)

    async def _socket(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        path = self.upstream.socket_path
        if path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            await _connect_socket(sock, path)
            return sock
        found = await loop.getaddrinfo(self.upstream.host, self.upstream.port, type=socket.SOCK_STREAM)
        problem: OSError = OSError(f"no address for {self.upstream.host}")
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await _connect_socket(sock, place)
            except OSError as error:
                problem = error
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
        raise problem

    async def _negotiate(self, sock: socket.socket) -> ssl.SSLContext | None:
        """Ask for TLS; read exactly the one byte that answers (protocol-flow.html#PROTOCOL-FLOW-SSL)."""
        if self._context is None:
            return None
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, SSLRequest().encode())
        answer = await loop.sock_recv(sock, 1)
        if answer == b"S":
            return self._context
        if answer == b"N" and self.upstream.sslmode in ("allow", "prefer"):
            return None
        if answer == b"N":
            raise ConnectionError(f"the server does not support TLS, and sslmode={self.upstream.sslmode} requires it")
        raise ConnectionError("the server closed the connection" if not answer else "the server's answer is not PostgreSQL's")

    async def probe(self) -> None:
        """Connect, ask for TLS as a client would, and hang up: leaves no trace in the server's log."""
        try:
            async with asyncio.timeout(self._timeout_s):
                sock = await self._socket()
                try:
                    loop = asyncio.get_running_loop()
                    if self.upstream.socket_path is None:
                        await loop.sock_sendall(sock, SSLRequest().encode())
                        if not await loop.sock_recv(sock, 1):
                            raise ConnectionError("the server closed the connection")
                finally:
                    sock.close()
        except (OSError, TimeoutError) as error:
            self._failed(getattr(error, "strerror", None) or str(error) or "no answer", "probe")
        else:
            self.reachable = True
            self.problem = ""


async def _connect_socket(sock: socket.socket, place: str | tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> None:
    try:
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
