"""Where records and checkpoints go, as the settings write it: a URL, whose secrets are shown nowhere.

    stdout
    syslog+udp://HOST[:514], syslog+tcp://HOST[:601], syslog+unix:/dev/log     [?facility=audit]
    postgresql://[user[:password]@]HOST/DATABASE                               [?table=NAME&sslmode=…]
    https://HOST/PATH                                                          [#hmac=SECRET&authorization=…]
    otlp+https://HOST:4318[/v1/logs]                                           [#authorization=…]
    file:/PATH                                                                 (checkpoints only)

What stands behind `#` is never sent: `hmac` signs each request, `authorization` is the header's value (percent-encoded). `hmac-file` and
`authorization-file` name files that hold them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

SINKS: Final = ("stdout", "syslog+udp", "syslog+tcp", "syslog+unix", "postgresql", "https", "http", "otlp+https", "otlp+http")
PLACES: Final = ("file", "https", "http", "postgresql")
FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13, **{f"local{n}": 16 + n for n in range(8)}}
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?\Z")
_SECRETS: Final = ("hmac", "authorization")


@dataclass(frozen=True)
class Target:
    """One of them, read.

    Attributes:
        kind: its scheme.
        name: what people and metrics are shown: no user, password, path of a webhook, query or fragment.
        key: the same as long as it is the same place, whatever its secrets; names the file with the position.
        url: what is connected to, without our own options.
    """

    kind: str
    name: str
    key: str
    url: str = field(repr=False)
    host: str = ""
    port: int = 0
    path: str = ""
    table: str = ""
    facility: int = 13
    hmac: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def scrubbed(self, text: str) -> str:
        """An error's text without what only the settings may know, on one line."""
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return " ".join(text.split())[:300]


def read_target(text: str, kinds: tuple[str, ...] = SINKS) -> Target:
    """Raises ValueError, whose words hold nothing of the text but its scheme."""
    text = text.strip()
    if text in ("stdout", "stdout:") and "stdout" in kinds:
        return Target("stdout", "stdout", "stdout", "")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("the URL cannot be read") from None
    kind = {"postgres": "postgresql"}.get(parts.scheme, parts.scheme)
    if kind not in kinds:
        raise ValueError(f"expected one of {', '.join(k if k == 'stdout' else k + ':' for k in kinds)}")
    if kind in ("file", "syslog+unix"):
        return _local(kind, parts)
    if not parts.hostname and kind != "postgresql":
        raise ValueError(f"{kind}: a host is needed")
    if kind.startswith("syslog"):
        return _syslog(kind, parts, port)
    if kind == "postgresql":
        return _postgresql(parts, port)
    return _http(kind, parts, port)


def _local(kind: str, parts: SplitResult) -> Target:
    path = unquote(parts.path)
    if not path.startswith("/") or parts.netloc:
        raise ValueError(f"{kind}: expected {kind}:/PATH")
    options = _options(kind, parts.query, {"facility"} if kind != "file" else set())
    return Target(kind, f"{kind}:{path}", f"{kind}:{path}", "", path=path, facility=_facility(options))


def _syslog(kind: str, parts: SplitResult, port: int | None) -> Target:
    options = _options(kind, parts.query, {"facility"})
    port = port or (514 if kind == "syslog+udp" else 601)
    name = f"{kind}://{_host(parts)}:{port}"
    return Target(kind, name, name, "", host=parts.hostname or "", port=port, facility=_facility(options))


def _postgresql(parts: SplitResult, port: int | None) -> Target:
    query = dict(parse_qsl(parts.query))
    table = query.pop("table", "")
    if table and not _TABLE.match(table):
        raise ValueError("postgresql: table: expected a name, or SCHEMA.NAME")
    url = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))
    host = f"{_host(parts)}{f':{port}' if port else ''}" if parts.hostname else query.get("host", "localhost")
    name = f"postgresql://{host}{parts.path}"
    password = unquote(parts.password or query.get("password", ""))
    return Target(
        "postgresql",
        name,
        f"{name}?{table}",
        url,
        host=parts.hostname or "",
        port=port or 5432,
        table=table,
        secrets=(password, *_as_written(parts)),
    )


def _http(kind: str, parts: SplitResult, port: int | None) -> Target:
    scheme = kind.removeprefix("otlp+")
    options = _options(kind, parts.fragment, {"hmac", "authorization", "hmac-file", "authorization-file"})
    for secret in _SECRETS:
        if file := options.get(f"{secret}-file"):
            try:
                options[secret] = Path(file).read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise ValueError(f"{kind}: {secret}-file cannot be read") from None
    path = parts.path
    if kind.startswith("otlp") and path in ("", "/"):
        path = "/v1/logs"
    url = urlunsplit((scheme, parts.netloc, path or "/", parts.query, ""))
    # The path and the query of a webhook are often its secret.
    name = f"{kind}://{_host(parts)}{f':{port}' if port else ''}"
    where = hashlib.sha256(f"{path}?{parts.query}".encode()).hexdigest()
    hmac, authorization = options.get("hmac", ""), options.get("authorization", "")
    secrets = (hmac, authorization, unquote(parts.password or ""), parts.path.strip("/"), parts.query, parts.fragment, *_as_written(parts))
    return Target(
        kind, name, f"{name}/{where}", url, host=parts.hostname or "", hmac=hmac, authorization=authorization,
        secrets=secrets if not kind.startswith("otlp") else (hmac, authorization, parts.fragment, *_as_written(parts)),
    )  # fmt: skip


def _as_written(parts: SplitResult) -> tuple[str, ...]:
    return (parts.password or "", f"{parts.username or ''}:{parts.password}" if parts.password else "")


def _options(kind: str, text: str, known: set[str]) -> dict[str, str]:
    options = dict(parse_qsl(text, keep_blank_values=True))
    if unknown := set(options) - known:
        raise ValueError(f"{kind}: unknown option; known are {', '.join(sorted(known)) or 'none'}" + f" ({len(unknown)} given)")
    return options


def _facility(options: dict[str, str]) -> int:
    name = options.get("facility", "audit")
    if name not in FACILITIES:
        raise ValueError(f"facility: expected one of {', '.join(FACILITIES)}")
    return FACILITIES[name]


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host
