"""Real services to notify: an HTTP server and an SMTP server, each on a free loopback port."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.servers import free_port


@dataclass(frozen=True)
class Received:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class HttpSink:
    """Takes POSTs. `answers` are the next statuses, then 200; while `hanging` is set, none comes back."""

    def __init__(self, port: int | None = None) -> None:
        self.received: list[Received] = []
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.hanging = threading.Event()
        self._let_go = threading.Event()
        self.port = port or free_port()
        self.start()

    def start(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                if sink.hanging.is_set():
                    sink._let_go.wait(60)
                    return
                status = sink.answers.pop(0) if sink.answers else 200
                sink.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body, status))
                self.send_response(status)
                for name, value in sink.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def arrived(self) -> list[Received]:
        return [r for r in list(self.received) if 200 <= r.status < 300]

    def events(self, event: str = "", thread: str = "") -> list[dict[str, Any]]:
        """Bodies of webhooks that arrived."""
        bodies = [r.json for r in self.arrived]
        return [b for b in bodies if (not event or b["event"] == event) and (not thread or b["thread"] == thread)]

    def stop(self) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class SmtpSink:
    """Takes mail, with the login user/pass and without TLS."""

    mails: list[EmailMessage] = field(default_factory=list)
    refuse: bool = False

    def __post_init__(self) -> None:
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, authenticator=self._login, auth_require_tls=False)
        self._controller.start()

    def _login(self, server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"user", b"hunter2pass")
        return AuthResult(success=good)

    async def handle_DATA(self, server: object, session: Any, envelope: Any) -> str:
        if not session.authenticated:
            return "530 log in first"
        if self.refuse:
            return "451 not now"
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"

    @property
    def url(self) -> str:
        return f"mailto://user:hunter2pass@127.0.0.1:{self.port}?from=pghold@example.com&to=ops@example.com"

    def stop(self) -> None:
        self._controller.stop()
