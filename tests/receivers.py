"""Real receivers of audit records for tests: syslog over UDP, TCP and Unix sockets, and an HTTP server that can be told to fail."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_RFC5424 = re.compile(
    rb"<(\d{1,3})>1 (\S+) (\S+) pghold (\d+) (\S+) \[pghold@32473 ((?:[a-z]+=\"(?:[^\"\\\]]|\\.)*\" ?)+)\] \xef\xbb\xbf(.*)", re.DOTALL
)


def parse_syslog(message: bytes) -> dict[str, Any]:
    """The record in an RFC 5424 message, with its priority."""
    match = _RFC5424.fullmatch(message)
    assert match is not None, message
    record = json.loads(match[7])
    assert f'seq="{record["seq"]}"'.encode() in match[6]
    assert match[2].decode() == record["at"]
    return {**record, "priority": int(match[1])}


class Datagrams:
    """A syslog server for datagrams, UDP or Unix."""

    def __init__(self, path: Path | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(str(path) if path else ("127.0.0.1", 0))
        self.url = f"syslog+unix:{path}" if path else f"syslog+udp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.messages: list[bytes] = []
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while True:
            try:
                message = self.socket.recv(1 << 20)
            except OSError:
                return
            if not message:
                return
            self.messages.append(message)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR) if self.socket.family == socket.AF_UNIX else None
        self.socket.close()


class Stream:
    """A syslog server over TCP with octet counting. It can drop its connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"syslog+tcp://127.0.0.1:{self.listener.getsockname()[1]}?facility=local3"
        self.messages: list[bytes] = []
        self.links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            self.links.append(link)
            threading.Thread(target=self._receive, args=(link,), daemon=True).start()

    def _receive(self, link: socket.socket) -> None:
        data = b""
        while True:
            try:
                chunk = link.recv(1 << 16)
            except OSError:
                return
            if not chunk:
                return
            data += chunk
            while (space := data.find(b" ")) > 0 and len(data) > space + int(data[:space]):
                end = space + 1 + int(data[:space])
                self.messages.append(data[space + 1 : end])
                data = data[end:]

    def drop(self) -> None:
        while self.links:
            link = self.links.pop()
            link.shutdown(socket.SHUT_RDWR)
            link.close()

    def close(self) -> None:
        self.drop()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Http:
    """Keeps what is posted. `answer` decides status and body for a request's body."""

    def __init__(self, answer: Callable[[bytes], tuple[int, bytes]] = lambda _: (200, b"{}"), port: int = 0) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        outer = self
        self.answer = answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = outer.answer(body)
                if status < 300:
                    outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def records(self) -> list[dict[str, Any]]:
        """Of a webhook's bodies."""
        return [r for _, _, body in self.requests for r in json.loads(body)["records"]]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
