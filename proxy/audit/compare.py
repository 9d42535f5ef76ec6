"""`pghold audit verify`: the log against every set of signed checkpoints that can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.audit.chain import log_id_of, read_record
from proxy.audit.checkpoints import read_lines, verify_against
from proxy.audit.files import walk
from proxy.audit.keys import KeyFileError, KeyRing, PublicKey, read_public_keys
from proxy.audit.places import PlaceUnreadableError, read_place
from proxy.audit.targets import PLACES, Target, read_target
from proxy.audit.verify import Progress, VerifyReport, verify
from proxy.errors import ConfigError


class VerificationImpossibleError(Exception):
    """The log, the checkpoints that were named, or the key cannot be read."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was found.

    Attributes:
        report: of the first thing that is wrong; `checkpoints` counts those of all places.
        places: whose checkpoints were compared.
        unread: places of the configuration that could not be, and why.
    """

    report: VerifyReport
    places: list[str]
    unread: list[str]


def verify_everything(path: Path, checkpoints: str | None, key: Path | None, progress: Progress | None = None) -> Results:
    """Raises VerificationImpossibleError."""
    try:
        if checkpoints == "none":
            return Results(verify(path, progress), [], [])
        sets, unread = _named(path, checkpoints) if checkpoints is not None else _configured(path)
        keys = read_public_keys(key) if key is not None else KeyRing(path.parent).public_keys()
        if checkpoints is not None and not keys:
            raise VerificationImpossibleError("no public key to trust: give --key FILE")
        if not sets or not keys:
            return Results(verify(path, progress), [], unread)
        return _compare(path, sets, keys, progress, unread)
    except (OSError, KeyFileError, PlaceUnreadableError) as error:
        raise VerificationImpossibleError(f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)) from None


def _compare(
    path: Path, sets: list[tuple[str, list[bytes]]], keys: Iterable[PublicKey], progress: Progress | None, unread: list[str]
) -> Results:
    """One place after the other; the progress is that of the first, since the others are as long."""
    count, report = 0, VerifyReport(0, "")
    trusted = list(keys)
    for name, lines in sets:
        report = verify_against(path, lines, trusted, progress, name)
        count += report.checkpoints
        if report.problem is not None:
            break
    return Results(replace(report, checkpoints=count), [name for name, _ in sets], unread)


def _named(path: Path, where: str) -> tuple[list[tuple[str, list[bytes]]], list[str]]:
    if ":" not in where or Path(where).exists():
        target = Target("file", where, where, "", path=where)
    else:
        try:
            target = read_target(where, PLACES)
        except ValueError as error:
            raise VerificationImpossibleError(f"--checkpoints: {error}") from None
    lines = read_place(target, _log_id(path)) or read_place(target, None)
    if not lines:
        raise VerificationImpossibleError(f"{target.name}: there is no checkpoint in it")
    return [(target.name, lines)], []


def _configured(path: Path) -> tuple[list[tuple[str, list[bytes]]], list[str]]:
    sets: list[tuple[str, list[bytes]]] = []
    unread: list[str] = []
    local = path.with_name(f"{path.stem}.checkpoints.jsonl")
    if local.exists():
        sets.append((local.name, read_lines(local.read_bytes())))
    for url in _urls(path.parent, unread):
        target = read_target(url, PLACES)
        try:
            # Where there is none of this log, those of others show that this one took another's place.
            lines = read_place(target, _log_id(path)) or read_place(target, None)
        except PlaceUnreadableError as error:
            unread.append(str(error))
            continue
        if lines:
            sets.append((target.name, lines))
        else:
            unread.append(f"{target.name}: there is no checkpoint yet")
    return sets, unread


def _urls(folder: Path, unread: list[str]) -> list[str]:
    from proxy.config import load

    try:
        return [u for u in load({"data_dir": folder}).audit_checkpoints if not u.startswith("http")]
    except ConfigError as error:
        unread.append(f"the configuration cannot be read: {error}")
        return []


def _log_id(path: Path) -> str | None:
    """None when the log itself is gone: then all that the place has is of interest."""
    for reader in walk(path):
        record = read_record(reader.line())
        return log_id_of(record) if record is not None else None
    return None
