"""Very many clients at once, each with a statement that waits."""

from __future__ import annotations

import socket
import struct
import time

from tests.servers import Pghold, wait_for


class RawClient:
    """A client of so few parts that thousands cost little: startup, one Query, and no thread."""

    def __init__(self, port: int, application: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        body = struct.pack("!I", 196608)
        for word in ("user", "postgres", "database", "postgres", "application_name", application, ""):
            body += word.encode() + b"\0"
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self._read_until_ready()

    def _read_until_ready(self) -> None:
        received = b""
        while not received.endswith(b"Z\0\0\0\5I"):
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError("the proxy closed the session")
            received += chunk

    def close(self) -> None:
        self.socket.close()

    def query(self, script: str) -> float:
        """Send it; return the time just before."""
        body = script.encode() + b"\0"
        message = b"Q" + struct.pack("!I", len(body) + 4) + body
        sent_at = time.time()
        self.socket.sendall(message)
        return sent_at


def crowd(proxy: Pghold, count: int, *, alike: bool) -> list[RawClient]:
    """So many holds; alike ones are one group, others a group each."""
    clients = []
    for index in range(count):
        client = RawClient(proxy.port, "sync" if alike else f"program {index}")
        client.query(f'DROP TABLE IF EXISTS "table_{index}" CASCADE')
        clients.append(client)
    wait_for(lambda: pending(proxy) >= count, 60)
    return clients


def pending(proxy: Pghold) -> int:
    return len(proxy.http.get("/api/v1/holds", params={"limit": 1000}).json())
