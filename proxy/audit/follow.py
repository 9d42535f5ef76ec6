"""Reading on in the log from where one was, in the order of the log, however often it is rotated or compressed meanwhile.

A position is the number of the last record that was dealt with, and where the next one stands: the number that the file begins with, and
an offset in its plain text. All three stay true when the file gets another name or is compressed. Only records that the writer has flushed are
given out: what a failed write leaves for a moment is no record.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy.audit.chain import read_record
from proxy.audit.files import LogFile, LogReader, rotated_files


@dataclass(frozen=True, slots=True)
class Position:
    """Attributes: sequence: of the last record dealt with; first, offset: of the file, and in it."""

    sequence: int = 0
    first: int = 0
    offset: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)


class LogFollower:
    """The audit log as a source for one sink. For one thread.

    Args:
        flushed: number of the last record on disk.

    Attributes:
        skipped: records that were gone before they could be read.
    """

    def __init__(self, live: Path, flushed: Callable[[], int]) -> None:
        self._live = live
        self._flushed = flushed
        self._file: LogFile | None = None
        self._plain = -1
        self._reader: LogReader | None = None
        self._first = 0
        self.skipped = 0

    def lag(self, position: Position) -> int:
        return max(0, self._flushed() - position.sequence)

    def read(self, position: Position, limit: int, limit_bytes: int) -> tuple[list[bytes], Position]:
        """Up to so many lines behind the position, and the position behind them; nothing when there is nothing new.

        At least one line is read, however long it is. Raises OSError.
        """
        flushed = self._flushed()
        for _ in range(3):
            if position.sequence >= flushed:
                return [], position
            position = self._open(position)
            lines, after = self._lines(position, flushed, limit, limit_bytes)
            if lines:
                return lines, after
            self.close()  # the end of a file that was rotated: the next one begins behind it
        return [], position

    def close(self) -> None:
        if self._plain >= 0:
            os.close(self._plain)
        if self._reader is not None:
            self._reader.close()
        self._plain, self._reader, self._file = -1, None, None

    def _open(self, position: Position) -> Position:
        """Have the file open in which the next record stands."""
        if self._file is not None and self._first == position.first:
            return position
        self.close()
        live = os.open(self._live, os.O_RDONLY | os.O_CLOEXEC)
        try:
            rotated = rotated_files(self._live, os.fstat(live))
            wanted = position.sequence + 1
            file = next((f for f in rotated if f.last is not None and f.last >= wanted), None)
            if file is None:
                first = _first_number(live)
                if not first:
                    return position
                self._file, self._plain, self._first = LogFile(self._live), live, first
                live = -1
            elif file.compressed:
                self._file, self._reader, self._first = file, LogReader(file), file.first
            else:
                self._file, self._plain, self._first = file, os.open(file.path, os.O_RDONLY | os.O_CLOEXEC), file.first
        finally:
            if live >= 0:
                os.close(live)
        if self._first > wanted:
            self.skipped += self._first - wanted
            return Position(self._first - 1, self._first, 0)
        offset = position.offset if position.first == self._first else 0
        if self._reader is not None:
            self._reader.close()
            self._reader = LogReader(self._file, offset)
        return Position(position.sequence, self._first, offset)

    def _lines(self, position: Position, flushed: int, limit: int, limit_bytes: int) -> tuple[list[bytes], Position]:
        found: list[bytes] = []
        sequence, offset = position.sequence, position.offset
        size = 0
        for line in self._some(offset, limit_bytes):
            record = read_record(line)
            number = record.get("seq") if record is not None else None
            if type(number) is not int:
                raise OSError(f"{self._file.name if self._file else ''}: no record behind record {sequence}")
            if number > flushed or (found and (len(found) == limit or size + len(line) > limit_bytes)):
                break
            offset += len(line)
            if number <= sequence:
                continue  # the file is read from its start, to find the place
            found.append(line)
            size += len(line)
            sequence = number
        return found, Position(sequence, position.first, offset)

    def _some(self, offset: int, wanted: int) -> list[bytes]:
        if self._reader is not None:
            if self._reader.offset != offset:
                assert self._file is not None
                self._reader.close()
                self._reader = LogReader(self._file, offset)
            lines: list[bytes] = []
            size = 0
            while size < wanted and (line := self._reader.line()).endswith(b"\n"):
                lines.append(line)
                size += len(line)
            return lines
        if self._plain < 0:
            return []
        # Read anew each time, never buffered: a failed write is cut off again, and other bytes come to its place.
        while True:
            data = os.pread(self._plain, wanted, offset)
            end = data.rfind(b"\n") + 1
            if end or len(data) < wanted:
                return [line + b"\n" for line in data[:end].split(b"\n")[:-1]]
            wanted *= 2


def _first_number(live: int) -> int:
    size = 65536
    while True:
        data = os.pread(live, size, 0)
        line, newline, _ = data.partition(b"\n")
        if newline:
            record = read_record(line)
            return int(str(record["seq"])) if record is not None else 0
        if len(data) < size:
            return 0
        size *= 2


class LinesFollower:
    """A file of lines that only grows, such as that of the checkpoints. `sequence` counts lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lag(self, position: Position) -> int:
        try:
            with self._path.open("rb") as file:
                file.seek(position.offset)
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0

    def read(self, position: Position, limit: int, limit_bytes: int) -> tuple[list[bytes], Position]:
        """As LogFollower.read."""
        lines: list[bytes] = []
        offset = position.offset
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < offset:
                    position, offset = Position(), 0  # it was begun anew
                file.seek(offset)
                while len(lines) < limit and (line := file.readline()).endswith(b"\n"):
                    lines.append(line)
                    offset += len(line)
        except FileNotFoundError:
            return [], position
        return lines, Position(position.sequence + len(lines), 0, offset)

    def close(self) -> None:
        return
