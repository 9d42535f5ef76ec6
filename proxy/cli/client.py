"""The HTTP client behind the operator's commands."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from proxy.config import CONSOLE_FILE, default_data_dir

DEFAULT_CONSOLE = "http://127.0.0.1:8432"


class ClientError(Exception):
    """What the operator is told. exit_code: 1 failed, 3 no longer pending, 4 not allowed or wrong phrase."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find_token() -> str:
    """PGHOLD_TOKEN, else the file that the first start wrote. Raises ClientError."""
    token = os.environ.get("PGHOLD_TOKEN", "").strip()
    if token:
        return token
    path = data_dir() / "operator.token"
    try:
        return path.read_text().strip()
    except OSError:
        raise ClientError(f"no operator token: set PGHOLD_TOKEN, or run where {path} can be read") from None


def base_url(console: str | None) -> str:
    """The console's address: given, PGHOLD_CONSOLE, that of the pghold on the data directory, or the default. Raises ClientError."""
    base = console or os.environ.get("PGHOLD_CONSOLE") or _running() or DEFAULT_CONSOLE
    base = base if "://" in base else f"http://{base}"
    try:
        good = httpx.URL(base).scheme in ("http", "https") and bool(httpx.URL(base).host)
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good:
        raise ClientError(f"{printable(base)[:200]}: expected HOST:PORT or http://HOST:PORT (--console, PGHOLD_CONSOLE)", 2)
    return base


def data_dir() -> Path:
    return Path(os.environ.get("PGHOLD_DATA_DIR") or default_data_dir())


def _running() -> str:
    try:
        return (data_dir() / CONSOLE_FILE).read_text().strip()
    except (OSError, ValueError):
        return ""


def authorization(token: str | None) -> dict[str, str]:
    """The header that proves who asks. Raises ClientError."""
    secret = token or find_token()
    if not secret.isascii() or not secret.isprintable():
        raise ClientError("the operator's token has characters that no token has", 4)
    return {"Authorization": f"Bearer {secret}"}


def json_of(response: httpx.Response, address: str) -> Any:  # any: JSON, checked by what reads it
    """Raises ClientError when something else than pghold answers."""
    try:
        return response.json()
    except ValueError:
        raise ClientError(f"what answers at {address} is no pghold console") from None


class Client:
    """Talks to one console."""

    def __init__(self, console: str | None = None, token: str | None = None) -> None:
        self._base = base_url(console)
        self._http = httpx.Client(base_url=self._base, headers=authorization(token), timeout=30, trust_env=False, verify=authorities())

    def request(self, method: str, path: str, **arguments: Any) -> Any:  # any: JSON, checked by what reads it
        """The answer's JSON. Raises ClientError."""
        try:
            response = self._http.request(method, f"/api/v1{path}", **arguments)
        except httpx.HTTPError as error:
            raise ClientError(
                f"cannot reach the console at {self._base}: {error}; is pghold running? (--console, PGHOLD_CONSOLE)"
            ) from None
        if response.status_code >= 400:
            raise refused(response)
        return json_of(response, self._base) if response.content else None

    def events(self) -> Iterator[dict[str, Any]]:
        """Holds as they change. Raises ClientError when the console goes away."""
        try:
            with self._http.stream("GET", "/api/v1/events", timeout=httpx.Timeout(30, read=60)) as response:
                if response.status_code >= 400:
                    response.read()
                    raise refused(response)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
        except httpx.HTTPError as error:
            raise ClientError(f"lost the console at {self._base}: {error}") from None


def authorities() -> ssl.SSLContext:
    """Whose word about a console's certificate counts: PGHOLD_CONSOLE_CA, else this machine's. Raises ClientError."""
    file = os.environ.get("PGHOLD_CONSOLE_CA", "")
    try:
        return ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise ClientError(f"PGHOLD_CONSOLE_CA={file}: {error.strerror or error}; expected a PEM file of certificates") from None


def refused(response: httpx.Response) -> ClientError:
    """The error in an answer, for the operator."""
    try:
        problem = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem, detail = {}, f"HTTP {response.status_code}"
    code = {401: 4, 403: 4, 422: 4, 409: 3 if "hold" in problem else 4}.get(response.status_code, 1)
    return ClientError(printable(detail), code)


def printable(text: str) -> str:
    """On one line of a terminal, whoever wrote it."""
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in " ".join(text.split()))
