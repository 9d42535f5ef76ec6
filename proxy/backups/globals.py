"""Roles and tablespaces of a server, which belong to no database: kept beside a full copy, so that owners and privileges can come back.

Without passwords: `pg_dumpall --no-role-passwords` reads what every role may read, and a folder of copies is no place for them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from proxy.backups.dump import Tools, die_with_parent
from proxy.backups.model import ProtectError
from proxy.control import Control

#: Its name in a copy's folder.
GLOBALS: Final = "globals.sql"
_TIMEOUT_S: Final = 60.0


async def read_globals(control: Control, tools: Tools, database: str) -> bytes:
    """As SQL; empty where that is not permitted, or cannot be read: a copy of a database is worth having without it. Never raises but for cancellation."""
    try:
        program = tools.path("pg_dumpall")
        process = await asyncio.create_subprocess_exec(
            str(program),
            "--globals-only",
            "--no-role-passwords",
            "--no-password",
            f"--database={database}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **control.environment(database), "LC_ALL": "C"},
            preexec_fn=die_with_parent,
            cwd="/",
        )
    except (OSError, ProtectError):
        return b""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return out if process.returncode == 0 else b""


async def as_stream(data: bytes) -> AsyncIterator[bytes]:
    """For Draft.take."""
    yield data
