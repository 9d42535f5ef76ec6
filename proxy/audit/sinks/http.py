"""What webhook and OTLP share: one POST, its signature, and what counts as taken."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final

import httpx

from proxy.audit.sinks.base import SinkError
from proxy.audit.targets import Target

_TIMEOUT_S: Final = 15.0
#: Of an answer that says why not.
_SHOWN_CHARACTERS: Final = 120


class Poster:
    """Keeps one connection; follows no redirect, since the body is not for others."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http: httpx.Client | None = None

    def post(self, body: bytes, headers: dict[str, str], media_type: str = "application/json") -> bytes:
        """The answer's body. Raises SinkError unless the status is 2xx."""
        target = self._target
        headers = {**headers, "Content-Type": media_type, "User-Agent": "pghold"}
        if target.authorization:
            headers["Authorization"] = target.authorization
        if target.hmac:
            moment = str(int(time.time()))
            headers["X-Pghold-Timestamp"] = moment
            headers["X-Pghold-Signature"] = "sha256=" + signature(target.hmac, moment, body)
        if self._http is None:
            self._http = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False)
        try:
            answer = self._http.post(target.url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            self.close()
            raise SinkError(target.scrubbed(f"{type(error).__name__}: {error}")) from None
        if not answer.is_success:
            why = "".join(c if c.isprintable() else " " for c in answer.text[:_SHOWN_CHARACTERS])
            raise SinkError(target.scrubbed(f"HTTP {answer.status_code} {why}"))
        return answer.content

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None


def signature(secret: str, moment: str, body: bytes) -> str:
    """HMAC-SHA256 over the time, a dot, and the body; so that an old request cannot be sent again as new."""
    return hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
