"""A browser without a screen: cookies, forms, and the token in them."""

from __future__ import annotations

import html
import re
import threading
from typing import Any, ClassVar

import httpx
import psycopg

from tests.servers import Pghold

PHRASE = "YES I UNDERSTAND THE RISKS"


class Browser:
    """Signed in with the first operator's token, unless told otherwise. `Browser.close_all` ends a test."""

    _open: ClassVar[list[httpx.Client]] = []

    def __init__(self, proxy: Pghold, token: str | None = "", **options: Any) -> None:
        self.http = httpx.Client(base_url=proxy.console, trust_env=False, timeout=20, **options)
        self._open.append(self.http)
        if token is not None:
            answer = self.sign_in("", token or proxy.token)
            assert answer.status_code == 303, answer.text

    @classmethod
    def close_all(cls) -> None:
        while cls._open:
            cls._open.pop().close()

    def sign_in(self, name: str, password: str, target: str = "/") -> httpx.Response:
        return self.http.post("/login", data={"name": name, "password": password, "next": target})

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path, follow_redirects=True)

    @property
    def csrf(self) -> str:
        page = self.get("/account").text
        found = re.search(r'data-csrf="([^"]+)"', page)
        assert found is not None, page
        return found[1]

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.http.post(path, data={"csrf": self.csrf, **fields})

    def approve(self, hold_id: int, **fields: str) -> httpx.Response:
        return self.post(f"/holds/{hold_id}/decide", **{"action": "approve", "phrase": PHRASE, "reason": "tested", **fields})

    def problem(self, answer: httpx.Response) -> str:
        found = re.search(r'class="problem"[^>]*>(.*?)</', answer.text, re.DOTALL)
        return html.unescape(found[1]).strip() if found else ""


class Client(threading.Thread):
    """A database client that runs one script and keeps what came of it."""

    def __init__(self, proxy: Pghold, script: str, dbname: str = "postgres", parameters: list[str] | None = None, **options: Any) -> None:
        super().__init__(daemon=True)
        self.script = script
        self.parameters = parameters
        self.error: psycopg.Error | None = None
        self._connection = proxy.connect(dbname, **options)
        self.start()

    def run(self) -> None:
        try:
            self._connection.execute(self.script, self.parameters)  # type: ignore[call-overload]
        except psycopg.Error as error:
            self.error = error
        finally:
            self._connection.close()

    def cancel(self) -> None:
        """As Ctrl-C in psql does."""
        self._connection.cancel_safe()
