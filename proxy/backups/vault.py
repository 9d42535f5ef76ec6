"""Where copies lie: a folder for each, with its files and a manifest, below the backup folder; and the same at each further place.

    BACKUPS/20261125T014500Z-12/archive.dump      pg_dump's custom format; its own compression (gzip)
                                rows.copy.gz      or: the rows as they were, in COPY's text format
                                manifest.json     written last; a folder without it is no copy
                                outcome.json      what became of the statement, written afterwards

While it is taken the folder's name begins with a dot and ends in `.part`; it gets its name when all is written and flushed to the disk. With a
key, the files end in `.sealed` (sealing.py); the manifest never is encrypted: it has the statement and the names of tables, no rows of theirs.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Final

from proxy.backups.model import Backup, BackupId, ProtectError
from proxy.backups.sealing import Key, Sealer, SealError, unsealed
from proxy.backups.targets import Target, TargetError

MANIFEST: Final = "manifest.json"
OUTCOME: Final = "outcome.json"
ARCHIVE: Final = "archive.dump"
ROWS: Final = "rows.copy.gz"
SEALED: Final = ".sealed"
_READ_BYTES: Final = 1 << 20

#: What json can write.
Json = dict[str, object]


class VaultError(ProtectError):
    """A copy cannot be written, is not there, or is not as it was written. The message is for people."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file of a copy, as the manifest has it.

    Attributes:
        name: in the copy's folder.
        bytes, sha256: of the file as it lies there.
        sealed_with: the key's id; empty when it is not encrypted.
    """

    name: str
    bytes: int
    sha256: str
    sealed_with: str = ""

    @property
    def plain_name(self) -> str:
        return self.name.removesuffix(SEALED)


class Draft:
    """A copy that is being taken: files first, then `finish`. Whatever goes wrong: `discard`.

    Attributes:
        folder: its name, once it is finished.
        path: where its files are now.
    """

    def __init__(self, root: Path, folder: str, key: Key | None) -> None:
        self.folder = folder
        self.path = root / f".{folder}.part"
        self.files: list[KeptFile] = []
        self._root = root
        self._key = key
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.mkdir(mode=0o700)
        except OSError as error:
            raise VaultError(f"no copy can be written below {root}: {error.strerror}") from None

    @property
    def is_sealed(self) -> bool:
        return self._key is not None

    async def take(self, name: str, source: AsyncIterator[bytes]) -> KeptFile:
        """A file from a stream, encrypted where there is a key. Raises VaultError."""
        key = self._key
        sealer = Sealer(key) if key is not None else None
        path = self.path / (name + SEALED if sealer else name)
        digest, size = hashlib.sha256(), 0
        try:
            with _private(path) as file:

                def write(data: bytes) -> int:
                    digest.update(data)
                    return file.write(data)

                async for piece in source:
                    size += await asyncio.to_thread(write, sealer.update(piece) if sealer else piece)
                if sealer:
                    size += await asyncio.to_thread(write, sealer.finish())
                await asyncio.to_thread(_flush, file)
        except OSError as error:
            raise VaultError(f"the copy could not be written: {error.strerror}") from None
        return self._keep(KeptFile(path.name, size, digest.hexdigest(), key.id if key else ""))

    async def take_rows(self, source: AsyncIterator[bytes]) -> tuple[KeptFile, int]:
        """Rows in COPY's text format, compressed; and how many they are: each ends with the only newline in it (sql-copy.html, File Formats)."""
        rows = 0

        async def compressed() -> AsyncIterator[bytes]:
            nonlocal rows
            packer = zlib.compressobj(6, zlib.DEFLATED, 31)
            pile = bytearray()  # a server sends each row by itself, and a turn of another thread costs more than a row
            async for piece in source:
                rows += piece.count(b"\n")
                pile += piece
                if len(pile) >= _READ_BYTES:
                    out = await asyncio.to_thread(packer.compress, bytes(pile))
                    pile.clear()
                    if out:
                        yield out
            yield await asyncio.to_thread(lambda: packer.compress(bytes(pile)) + packer.flush())

        kept = await self.take(ROWS, compressed())
        return kept, rows

    async def adopt(self, name: str) -> KeptFile:
        """A file that something else has written into the folder: flush it, and take its digest. Raises VaultError."""
        path = self.path / name

        def measured() -> KeptFile:
            path.chmod(0o600)
            with path.open("rb+") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
                return KeptFile(name, file.tell(), digest)

        try:
            return self._keep(await asyncio.to_thread(measured))
        except OSError as error:
            raise VaultError(f"the copy could not be written: {error.strerror}") from None

    async def drop(self, name: str) -> None:
        """A file that is to be written once more, whole or not. Raises VaultError."""
        self.files = [f for f in self.files if f.name not in (name, name + SEALED)]
        try:
            for path in (self.path / name, self.path / (name + SEALED)):
                await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            raise VaultError(f"the copy could not be written: {error.strerror}") from None

    def _keep(self, file: KeptFile) -> KeptFile:
        self.files.append(file)
        return file

    async def finish(self, manifest: Json) -> str:
        """Write the manifest, give the folder its name; return the manifest's SHA-256. Raises VaultError."""
        listed = [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256, "sealed_with": f.sealed_with} for f in self.files]
        data = json.dumps({**manifest, "files": listed}, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"

        def finished() -> None:
            with _private(self.path / MANIFEST) as file:
                file.write(data)
                _flush(file)
            _flush_folder(self.path)
            self.path.rename(self._root / self.folder)
            self.path = self._root / self.folder
            _flush_folder(self._root)

        try:
            await asyncio.to_thread(finished)
        except OSError as error:
            raise VaultError(f"the copy could not be written: {error.strerror}") from None
        return hashlib.sha256(data).hexdigest()

    async def discard(self) -> None:
        """As if it had never been."""
        await asyncio.to_thread(shutil.rmtree, self.path, True)


class Opened:
    """A copy that can be read: its digests are right, and what was encrypted is plain for as long as it is open.

    Attributes:
        manifest: as it was written.
        files: by their plain names.
    """

    def __init__(self, manifest: Json, files: dict[str, Path]) -> None:
        self.manifest = manifest
        self.files = files

    def path(self, name: str) -> Path:
        """Raises VaultError."""
        try:
            return self.files[name]
        except KeyError:
            raise VaultError(f"the copy has no {name}") from None

    @property
    def archive(self) -> Path:
        """Of pg_dump's custom format. Raises VaultError."""
        return self.path(ARCHIVE)

    def rows(self) -> Iterator[bytes]:
        """The copied rows, in COPY's text format, in pieces of any size. Raises VaultError."""
        with gzip.open(self.path(ROWS), "rb") as file:
            while piece := file.read(_READ_BYTES):
                yield piece


class Vault:
    """All copies.

    Attributes:
        root: the backup folder.
        targets: further places; each has every copy before what it protects may run.
        using: what keeps a copy from being removed while it is open.
    """

    def __init__(self, root: Path, *, key: Key | None = None, targets: tuple[Target, ...] = (), min_free_bytes: int = 0) -> None:
        self.root = root
        self.targets = targets
        self.using: Callable[[BackupId], AbstractContextManager[None]] = lambda backup_id: nullcontext()
        self._key = key
        self._min_free_bytes = min_free_bytes

    def free_bytes(self) -> int:
        """Of the disk that the backup folder is on, or will be. Raises VaultError."""
        place = self.root
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            found = os.statvfs(place)
        except OSError as error:
            raise VaultError(f"{self.root}: {error.strerror}") from None
        return found.f_bavail * found.f_frsize

    def check_space(self, wanted_bytes: int = 0) -> None:
        """Raises VaultError when so much cannot be written with the reserve left."""
        free = self.free_bytes()
        if free - wanted_bytes < self._min_free_bytes:
            raise VaultError(
                f"the disk of {self.root} has {free >> 20} MB free; the copy may take {wanted_bytes >> 20} MB,"
                f" and backup_min_free_bytes keeps {self._min_free_bytes >> 20} MB"
            )

    def draft(self, backup: Backup) -> Draft:
        """Begin a copy. Raises VaultError."""
        return Draft(self.root, f"{backup.created_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{backup.id}", self._key)

    async def spread(self, folder: str, files: list[KeptFile]) -> tuple[str, ...]:
        """Take a finished copy to every further place, the manifest last; return their names. Raises VaultError, with nothing left there."""
        done: list[Target] = []
        try:
            for target in self.targets:
                done.append(target)
                for file in files:
                    await target.put(folder, self.root / folder / file.name, file.sha256)
                path = self.root / folder / MANIFEST
                await target.put(folder, path, hashlib.sha256(path.read_bytes()).hexdigest())
        except BaseException as error:
            for target in done:
                with suppress(TargetError):
                    await asyncio.wait_for(target.remove(folder), 30)
            if isinstance(error, TargetError):
                raise VaultError(str(error)) from None
            raise
        return tuple(t.name for t in self.targets)

    async def put_outcome(self, folder: str, outcome: Json) -> None:
        """Beside the manifest, which says nothing of it, for it was written before. Raises VaultError."""
        path = self.root / folder / OUTCOME

        def write() -> bytes:
            data = json.dumps(outcome, indent=2, ensure_ascii=False).encode() + b"\n"
            with _private(path) as file:
                file.write(data)
                _flush(file)
            return data

        try:
            data = await asyncio.to_thread(write)
            for target in self.targets:
                await target.put(folder, path, hashlib.sha256(data).hexdigest())
        except (OSError, TargetError) as error:
            raise VaultError(f"the outcome of {folder} was not written: {error}") from None

    def manifest(self, folder: str) -> Json:
        """Of a copy here. Raises VaultError."""
        return _manifest(self.root / folder)

    @asynccontextmanager
    async def open(self, backup: Backup | str) -> AsyncIterator[Opened]:
        """A copy for reading, by its row or its folder; from a further place when it is not here any more. Raises VaultError.

        Every digest is checked; where the row is given, the manifest's as well. What is encrypted lies plain in a temporary folder, readable for
        nobody else, as long as it is open.
        """
        folder = backup if isinstance(backup, str) else backup.folder
        if not folder or folder != Path(folder).name or folder.startswith("."):
            raise VaultError(f"{folder!r} is no copy's folder")
        with (
            nullcontext() if isinstance(backup, str) else self.using(backup.id),
            tempfile.TemporaryDirectory(prefix=".open-", dir=self._made_root(), ignore_cleanup_errors=True) as temporary,
        ):
            place = self.root / folder
            if not (place / MANIFEST).exists():
                place = await self._fetched(folder, Path(temporary))
            manifest = await asyncio.to_thread(_manifest, place)
            if not isinstance(backup, str) and backup.manifest_sha256:
                digest = hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()
                if digest != backup.manifest_sha256:
                    raise VaultError(f"the manifest of {folder} is not the one that was written")
            yield Opened(manifest, await asyncio.to_thread(self._plain, place, manifest, Path(temporary)))

    def _made_root(self) -> Path:
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise VaultError(f"{self.root}: {error.strerror}") from None
        return self.root

    async def _fetched(self, folder: str, temporary: Path) -> Path:
        problems = [f"{self.root} has no {folder}"]
        for number, target in enumerate(self.targets):
            place = temporary / str(number)
            place.mkdir(mode=0o700)
            try:
                await target.fetch(folder, place)
            except TargetError as error:
                problems.append(str(error))
            else:
                return place
        raise VaultError("; ".join(problems))

    def _plain(self, place: Path, manifest: Json, temporary: Path) -> dict[str, Path]:
        found = {}
        for file in files_of(manifest):
            path = place / file.name
            digest = hashlib.sha256()
            try:
                if not file.sealed_with:
                    for piece in _pieces(path):
                        digest.update(piece)
                    plain = path
                else:
                    plain = temporary / file.plain_name

                    def read(path: Path = path, digest: hashlib._Hash = digest) -> Iterator[bytes]:
                        for piece in _pieces(path):
                            digest.update(piece)
                            yield piece

                    with _private(plain) as out:
                        for piece in unsealed(read(), self._key):
                            out.write(piece)
            except OSError as error:
                raise VaultError(f"{path.name} of {place.name}: {error.strerror}") from None
            except SealError as error:
                raise VaultError(f"{path.name} of {place.name}: {error}") from None
            if digest.hexdigest() != file.sha256:
                raise VaultError(f"{path.name} of {place.name} is damaged: its SHA-256 is not the manifest's")
            found[file.plain_name] = plain
        return found

    async def remove(self, backup: Backup) -> None:
        """A copy, at every place; the local one last, so that a failure leaves it to be tried again. Raises VaultError."""
        if not backup.folder or backup.folder != Path(backup.folder).name or backup.folder.startswith("."):
            return
        try:
            for target in self.targets:
                await target.remove(backup.folder)
            place = self.root / backup.folder

            def removed() -> None:
                if place.exists():
                    (place / MANIFEST).unlink(missing_ok=True)
                    shutil.rmtree(place)

            await asyncio.to_thread(removed)
        except TargetError as error:
            raise VaultError(str(error)) from None
        except OSError as error:
            raise VaultError(f"{self.root / backup.folder} could not be removed: {error.strerror}") from None

    def folders(self) -> list[str]:
        """Of all finished copies here, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if not p.name.startswith(".") and (p / MANIFEST).exists())

    def orphans(self, known: set[str]) -> list[str]:
        """Folders of finished copies that nobody knows of."""
        return [f for f in self.folders() if f not in known]

    async def sweep(self) -> list[str]:
        """At start, when nothing runs: remove what a process that died had begun; return its names."""

        def swept() -> list[str]:
            left = (
                [p for p in self.root.glob(".*") if p.name.endswith(".part") or p.name.startswith(".open-")] if self.root.is_dir() else []
            )
            for place in left:
                shutil.rmtree(place, ignore_errors=True)
            return [p.name for p in left]

        return await asyncio.to_thread(swept)


def files_of(manifest: Json) -> list[KeptFile]:
    """Raises VaultError."""
    try:
        found = [KeptFile(str(f["name"]), int(f["bytes"]), str(f["sha256"]), str(f["sealed_with"])) for f in manifest["files"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError):
        raise VaultError("the manifest does not list its files") from None
    if any(f.name != Path(f.name).name or f.name.startswith(".") for f in found):
        raise VaultError("the manifest lists a file outside of its folder")
    return found


def _manifest(place: Path) -> Json:
    try:
        found = json.loads((place / MANIFEST).read_bytes())
    except OSError as error:
        raise VaultError(f"the manifest of {place.name}: {error.strerror}") from None
    except ValueError:
        raise VaultError(f"the manifest of {place.name} is damaged") from None
    if not isinstance(found, dict):
        raise VaultError(f"the manifest of {place.name} is damaged")
    return found


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece


def _private(path: Path) -> io.BufferedWriter:
    """A new or emptied file that nobody else may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _flush(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
