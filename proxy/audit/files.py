"""The files of a log: `audit.jsonl`, which is written, and before it those that were rotated, `audit-FIRST-LAST.jsonl` with the numbers of
their records in the name, compressed (`.gz`) or not.

Readers take no lock. A rotation gives the live file a second name before it is replaced, and a compressed copy is whole before the plain
file goes; so a reader that opens the live file first and looks for rotated ones then misses none.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

_DIGITS: Final = 12
_ROTATED: Final = re.compile(r"(?P<stem>.+)-(?P<first>\d{12,18})-(?P<last>\d{12,18})\.jsonl(?P<gz>\.gz)?\Z", re.DOTALL)
#: The new live file while it is prepared, and a compressed one.
NEXT_SUFFIX: Final = ".next"
PART_SUFFIX: Final = ".part"


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the log.

    Attributes:
        first, last: numbers of its records, by its name; 0 and None for the live one.
    """

    path: Path
    first: int = 0
    last: int | None = None

    @property
    def compressed(self) -> bool:
        return self.path.suffix == ".gz"

    @property
    def live(self) -> bool:
        return self.last is None

    @property
    def name(self) -> str:
        return self.path.name


def rotated_name(live: Path, first: int, last: int) -> Path:
    return live.with_name(f"{live.stem}-{first:0{_DIGITS}}-{last:0{_DIGITS}}.jsonl")


def as_rotated(path: Path) -> LogFile | None:
    """What this name says, when it is a rotated file's."""
    match = _ROTATED.fullmatch(path.name)
    return LogFile(path, int(match["first"]), int(match["last"])) if match else None


def rotated_files(live: Path, live_status: os.stat_result | None = None) -> list[LogFile]:
    """In order. A file that is both plain and compressed is taken plain; a second name of the live file is left out."""
    found: dict[tuple[int, int], LogFile] = {}
    try:
        names = os.listdir(live.parent)
    except FileNotFoundError:
        return []
    for name in names:
        file = as_rotated(live.with_name(name)) if name.startswith(f"{live.stem}-") else None
        if file is None or file.last is None or _stem(name) != live.stem:
            continue
        key = (file.first, file.last)
        if key not in found or found[key].compressed:
            found[key] = file
    if live_status is None:
        with suppress(OSError):
            live_status = live.stat()
    files = sorted(found.values(), key=lambda f: (f.first, f.last))
    # Only the newest can be a second name of the live file.
    if files and live_status is not None:
        with suppress(OSError):
            if os.path.samestat(files[-1].path.stat(), live_status):
                files.pop()
    return files


def _stem(name: str) -> str:
    match = _ROTATED.fullmatch(name)
    return match["stem"] if match else ""


class LogReader:
    """Lines of one file from an offset in its plain text; compressed ones are read transparently.

    Attributes:
        offset: behind the last line that was given out.
    """

    def __init__(self, file: LogFile, offset: int = 0) -> None:
        self.file = file
        self._raw: BinaryIO = file.path.open("rb")
        self._stream: BinaryIO = self._raw
        try:
            if file.compressed:
                self._stream = cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=self._raw)))
            if offset:
                self._stream.seek(offset)
        except BaseException:
            self.close()
            raise
        self.offset = offset

    def status(self) -> os.stat_result:
        return os.fstat(self._raw.fileno())

    @property
    def bytes_read(self) -> int:
        """On disk, for a picture of the progress."""
        return self._raw.tell()

    def line(self) -> bytes:
        """The next line, empty at the end. One without a newline is what a writer has not finished, or never will; it comes again.

        Raises OSError.
        """
        try:
            line = self._stream.readline()
            if line and not line.endswith(b"\n"):
                self._stream.seek(self.offset)
                return line
        except (EOFError, gzip.BadGzipFile) as error:
            raise OSError(f"{self.file.name} is not whole: {error}") from None
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise OSError(f"{self.file.name} is not whole: {error}") from None
            raise
        self.offset += len(line)
        return line

    def lines(self) -> Iterator[bytes]:
        """All that are there; the last one may lack its newline, when it did not get one in a while."""
        while line := self.line():
            if not line.endswith(b"\n"):
                line = self._finished(line)
                yield line
                return
            yield line

    def _finished(self, line: bytes) -> bytes:
        for _ in range(5 if self.file.live else 0):
            time.sleep(0.02)
            again = self.line()
            if again.endswith(b"\n"):
                return again
            line = again or line
        return line

    def close(self) -> None:
        if self._stream is not self._raw:
            self._stream.close()
        self._raw.close()


def walk(live: Path) -> Iterator[LogReader]:
    """Each file of the log, open, oldest first and the live one last; files that are rotated meanwhile are not missed. Raises OSError.

    Given a rotated file itself, only that.
    """
    alone = as_rotated(live)
    if alone is not None:
        reader = LogReader(alone)
        try:
            yield reader
        finally:
            reader.close()
        return
    done = -1
    while True:
        current = _open_live(live)
        try:
            rest = [f for f in rotated_files(live, current.status() if current else None) if f.first > done]
            if not rest:
                if current is None and done < 0:
                    raise FileNotFoundError(2, "No such file or directory", str(live))
                if current is not None:
                    yield current
                return
        finally:
            if current is not None:
                current.close()
        try:
            reader = LogReader(rest[0])
        except FileNotFoundError:
            continue  # compressed meanwhile
        done = rest[0].first
        try:
            yield reader
        finally:
            reader.close()


def _open_live(live: Path) -> LogReader | None:
    try:
        return LogReader(LogFile(live))
    except FileNotFoundError:
        return None


def size_on_disk(live: Path) -> int:
    """Of all files."""
    total = 0
    for path in [f.path for f in rotated_files(live)] + [live]:
        with suppress(OSError):
            total += path.stat().st_size
    return total


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_line(file: LogFile) -> bytes:
    """The last whole line. Raises OSError."""
    if file.compressed:
        reader = LogReader(file)
        last = b""
        try:
            for line in reader.lines():
                last = line
        finally:
            reader.close()
        return last
    with file.path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        data, block = b"", 65536
        while end > 0 and data.count(b"\n", 0, max(0, len(data) - 1)) < 1:
            start = max(0, end - block)
            stream.seek(start)
            data = stream.read(end - start) + data
            end = start
    return data.splitlines(keepends=True)[-1] if data else b""
