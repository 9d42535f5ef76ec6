"""Where copies go besides the local folder: S3 and what speaks like it.

A copy has arrived when each of its files was read back and has the size and the SHA-256 that it had here.

    s3://BUCKET/PREFIX?endpoint=https://…&region=…&key_id_env=NAME&secret_env=NAME

Credentials are those of AWS's environment variables, or of the variables named in the address; never in the address itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from proxy.errors import ConfigError

_OPTIONS: Final = frozenset({"endpoint", "region", "key_id_env", "secret_env"})
_RETRIES: Final = 2
_RETRY_FOR_S: Final = 20
_READ_BYTES: Final = 4 << 20


class TargetError(Exception):
    """A place does not take a copy, or does not have it. The message is for people, without credentials."""


class Target:
    """One place.

    Attributes:
        name: for people and the register: "s3://BUCKET/PREFIX".
    """

    def __init__(self, name: str, store: ObjectStore) -> None:
        self.name = name
        self._store = store

    async def put(self, folder: str, path: Path, sha256: str) -> None:
        """Take a file below the folder, and look whether it is there as it was. Raises TargetError."""
        place = f"{folder}/{path.name}"
        try:
            await obstore.put_async(self._store, place, path)
            digest, size = hashlib.sha256(), 0
            stream = (await obstore.get_async(self._store, place)).stream(min_chunk_size=_READ_BYTES)
            async for piece in stream:
                digest.update(piece)
                size += len(piece)
        except (BaseError, OSError, ValueError) as error:
            raise TargetError(f"{self.name} did not take the copy: {_said(error)}") from None
        if digest.hexdigest() != sha256:
            raise TargetError(f"{self.name} has not what it was given: {path.name} came back with {size} bytes and another digest")

    async def fetch(self, folder: str, into: Path) -> None:
        """Every file of a copy. Raises TargetError."""
        try:
            found = await obstore.list(self._store, folder + "/").collect_async()
            if not found:
                raise TargetError(f"{self.name} has no {folder}")
            for item in found:
                stream = (await obstore.get_async(self._store, item["path"])).stream(min_chunk_size=_READ_BYTES)
                with os.fdopen(os.open(into / Path(item["path"]).name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    async for piece in stream:
                        file.write(piece)
        except (BaseError, OSError, ValueError) as error:
            raise TargetError(f"{self.name} did not give the copy: {_said(error)}") from None

    async def remove(self, folder: str) -> None:
        """All that is below the folder; nothing there is no error. Raises TargetError."""
        try:
            found = await obstore.list(self._store, folder + "/").collect_async()
            if found:
                # The manifest first: half a copy must not look like one.
                for item in sorted(found, key=lambda i: not i["path"].endswith("manifest.json")):
                    await obstore.delete_async(self._store, item["path"])
        except (BaseError, OSError, ValueError) as error:
            raise TargetError(f"{self.name} did not remove {folder}: {_said(error)}") from None

    async def folders(self) -> list[str]:
        """Of all copies that are there. Raises TargetError."""
        try:
            found = await obstore.list_with_delimiter_async(self._store)
        except (BaseError, OSError, ValueError) as error:
            raise TargetError(f"{self.name} does not answer: {_said(error)}") from None
        return sorted(str(p).strip("/").rpartition("/")[2] for p in found["common_prefixes"])


def _said(error: BaseException) -> str:
    """The first line; what the library adds to it is about itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def open_targets(urls: list[str]) -> tuple[Target, ...]:
    """Raises ConfigError."""
    return tuple(_targets(urls))


def _targets(urls: list[str]) -> Iterator[Target]:
    for url in urls:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path.rstrip('/')}"
        options = dict(parse_qsl(parts.query))
        if parts.scheme != "s3" or not parts.hostname or parts.username:
            raise ConfigError(
                f"backup_targets: {shown} is not s3://BUCKET/PREFIX?endpoint=…&region=…; credentials come from the environment"
            )
        if unknown := sorted(set(options) - _OPTIONS):
            raise ConfigError(f"backup_targets: {shown}: there is no option {unknown[0]}; known are {', '.join(sorted(_OPTIONS))}")
        credentials = {}
        for option, variable, key in (
            ("key_id_env", "AWS_ACCESS_KEY_ID", "aws_access_key_id"),
            ("secret_env", "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
        ):
            name = options.get(option, variable)
            if value := os.environ.get(name):
                credentials[key] = value
            elif option in options:
                raise ConfigError(f"backup_targets: {shown}: the environment has no {name}")
        endpoint = options.get("endpoint")
        given = {"aws_endpoint": endpoint} if endpoint else {}
        try:
            store = S3Store(
                parts.hostname,
                prefix=parts.path.strip("/") or None,
                config={**credentials, **given, "aws_region": options.get("region", os.environ.get("AWS_REGION", "us-east-1"))},  # type: ignore[arg-type]  # keys by their names for S3
                client_options={"allow_http": bool(endpoint and endpoint.startswith("http://")), "timeout": "60s", "connect_timeout": "5s"},
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_FOR_S)},
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(f"backup_targets: {shown}: {_said(error)}") from None
        yield Target(shown, store)
