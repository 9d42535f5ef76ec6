"""Listening sockets: TCP, and Unix sockets with their stale files."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from proxy.config import Address
from proxy.errors import ConfigError

BACKLOG = 4096


def listen(address: Address) -> socket.socket:
    """A non-blocking listening socket. Raises ConfigError naming the address."""
    host, port = address
    if host.startswith("/"):
        return _listen_unix(Path(host) / f".s.PGSQL.{port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        why = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"listen {host}:{port}: {why}") from None
    sock.setblocking(False)
    return sock


def _listen_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            _remove_stale(path)
        sock.bind(str(path))
        # As PostgreSQL's unix_socket_permissions: who may connect is decided by authentication.
        os.chmod(path, 0o777)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"listen {path}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink()
    except OSError:
        pass
    else:
        raise OSError(errno.EADDRINUSE, "another process listens there")
    finally:
        probe.close()


def shown(sock: socket.socket) -> str:
    """The bound address as people write it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return str(name)
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
