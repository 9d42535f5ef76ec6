"""What every answer of the console has, and what no request may be: headers, sizes, rates, and who is let in.

The idea. One middleware, outside of everything: it refuses bodies that are too large, requests for another host (a name that an attacker
lets point to us, DNS rebinding), requests from other sites that would change something (by Origin and Sec-Fetch-Site; forms carry a token
besides), in header mode whoever does not come through the proxy, and puts the security headers on every answer. The policy for content
allows nothing but our own files: no inline script or style, no other host, no frame around us.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES: Final = 256 << 10
#: Of an address and its headers; a cookie, a token and what proxies add are far from it.
HEAD_LIMIT_BYTES: Final = 32 << 10
_CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer a browser sends "Origin: null" along with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
#: For machines that watch us, which come by address from anywhere; nothing in them is secret.
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware.

    Args:
        own_origin: of the console's public address, as in the Origin header; empty: that of the request's Host.
        tls: whether browsers come by https, so that they may be told to keep to it.
        hosts: names under which we are asked for, besides addresses; None: any, since a certificate says which are ours.
        proxies: networks that all requests come from (header mode); None: any. Programs of this machine reach the API besides.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        own_origin: str = "",
        tls: bool = False,
        hosts: frozenset[str] | None = None,
        proxies: list[str] | None = None,
    ) -> None:
        self._app = app
        self._own_origin = own_origin
        self._tls = tls
        self._hosts = hosts
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        response = self._refusal(scope, headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    out.setdefault(name, value)
                out.setdefault("Cache-Control", "no-store")
                if self._tls:
                    out.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await (response or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if (
            sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope["raw_path"]) + len(scope["query_string"])
            > HEAD_LIMIT_BYTES
        ):
            return _problem(431, "too large", f"an address and its headers have at most {HEAD_LIMIT_BYTES} bytes", scope, close=True)
        size = headers.get("content-length", "0")
        if not (size.isascii() and size.isdigit()) or int(size) > BODY_LIMIT_BYTES or "transfer-encoding" in headers:
            # What comes after it on this connection may be body or request, by whom one asks: nobody reads it.
            return _problem(413, "too large", f"a body has a length, and at most {BODY_LIMIT_BYTES} bytes", scope, close=True)
        if scope["path"] not in _OPEN:
            if not self._is_ours(headers.get("host", "")):
                return _problem(421, "not this host", "the console is not known under this name; set console_url to the one it has", scope)
            if self._proxies is not None and not self._comes_through(scope, self._proxies):
                return _problem(403, "not this way", "the console is reached through its proxy only", scope)
        if scope["method"] not in _SAFE_METHODS and not self._same_site(headers):
            return _problem(403, "from another site", "requests that change something are taken from the console's own pages only", scope)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) and not host.endswith("]") else host
        return self._hosts is None or not host or name.lower() in self._hosts or is_address(name.strip("[]"))

    def _comes_through(self, scope: Scope, proxies: list[str]) -> bool:
        address = scope["client"][0] if scope.get("client") else ""
        return is_from(address, proxies) or (scope["path"].startswith("/api/") and is_from(address, ["127.0.0.0/8", "::1/128"]))

    def _same_site(self, headers: Headers) -> bool:
        """Browsers say where a request comes from; what says nothing is no browser, and has no cookie that another site could use."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        if self._own_origin:
            return origin == self._own_origin
        return urlsplit(origin).netloc == headers.get("host", "")


def _problem(status: int, title: str, detail: str, scope: Scope, *, close: bool = False) -> Response:
    headers = {"Connection": "close"} if close else None
    if scope["path"].startswith("/api/"):
        body = {"title": title, "status": status, "detail": detail}
        return JSONResponse(body, status, headers, media_type="application/problem+json")
    return PlainTextResponse(f"{title}: {detail}\n", status, headers)


class RateLimit:
    """So many failed attempts in so long for each key (an address), in a bounded table that forgets the oldest keys first."""

    def __init__(self, attempts: int, per_s: float, keys: int = 10_000) -> None:
        self._attempts = attempts
        self._per_s = per_s
        self._keys = keys
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Whether one more attempt may be made now."""
        return len(self._recent(key)) < self._attempts

    def take(self, key: str) -> bool:
        """One attempt, which counts as failed until it is given back, so that many at once are many. False: no more now."""
        recent = self._recent(key)
        if len(recent) >= self._attempts:
            return False
        self._seen.pop(key, None)
        self._seen[key] = [*recent, time.monotonic()]
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        return True

    def give_back(self, key: str) -> None:
        """The last attempt was a good one."""
        if recent := self._seen.get(key):
            recent.pop()

    def _recent(self, key: str) -> list[float]:
        now = time.monotonic()
        return [at for at in self._seen.get(key, []) if now - at < self._per_s]


def local_path(target: str, otherwise: str = "/") -> str:
    """A place of our own to go to after signing in; anything that a browser could take for another host is not."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target or any(ord(c) < 33 or ord(c) == 127 for c in target):
        return otherwise
    parts = urlsplit(target)
    return otherwise if parts.scheme or parts.netloc else target


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def client_address(request: Request, proxies: list[str]) -> str:
    """The visitor's address: of X-Forwarded-For the last that no trusted proxy has; what came before it, anybody may have written.

    Without a trusted proxy the header says nothing.
    """
    address = request.client.host if request.client else "local"
    if not is_from(address, proxies):
        return address
    for part in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
        try:
            address = str(ip_address(part.strip()))
        except ValueError:
            break
        if not is_from(address, proxies):
            break
    return address


def is_from(address: str, networks: list[str]) -> bool:
    """Whether an address is in one of the networks; no address (a Unix socket) is not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == n.version and found in n for n in map(ip_network, networks))
