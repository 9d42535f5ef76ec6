"""Encryption of copies: a file is cut into pieces, and none can be changed, left out, moved or cut off unseen.

A file begins with `MAGIC`, the key's id (8 bytes) and a salt (32 bytes); then come pieces of `PIECE` bytes, each under AES-256-GCM with its tag of
16 bytes behind it. Each file has a key of its own, derived from the key file's and the salt (HKDF, SHA-256). The nonce of a piece is its number
(11 bytes) and whether it is the last (1 byte): the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (2015), with no random part, since no
key is used for two files. The header is authenticated with each piece.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.errors import ConfigError

MAGIC: Final = b"pghold1\n"
PIECE: Final = 1 << 20
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 32
_HEADER_BYTES: Final = len(MAGIC) + 8 + _SALT_BYTES
_WORD: Final = "pghold-key-1:"


class SealError(Exception):
    """It was encrypted with another key, or is not as it was written. The message is for people."""


@dataclass(frozen=True, slots=True)
class Key:
    """What copies are encrypted with.

    Attributes:
        id: for manifests; says nothing of the key.
    """

    id: str
    _secret: bytes = field(repr=False)

    def of_file(self, salt: bytes) -> AESGCM:
        """The key of one file."""
        return AESGCM(HKDF(SHA256(), 32, salt, b"pghold copy").derive(self._secret))


def make_key(path: Path) -> Key:
    """Write a new key file, for nobody but its owner. Raises ConfigError when it exists or cannot be written."""
    secret = os.urandom(32)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_WORD + base64.b64encode(secret).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigError(f"{path} exists; a key is never overwritten, for what it encrypted would be lost") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return _key(secret)


def read_key(path: Path) -> Key:
    """Raises ConfigError: it cannot be read, others may read it, or it is no key."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"backup_key_file {path}: others may read it; chmod 600 {path}")
        text = path.read_text("ascii").strip()
        if text.startswith(_WORD):
            secret = base64.b64decode(text[len(_WORD) :], validate=True)
            if len(secret) == 32:
                return _key(secret)
    except OSError as error:
        raise ConfigError(f"backup_key_file {path}: {error.strerror}") from None
    except ValueError:
        pass
    raise ConfigError(f"backup_key_file {path} is no key; make one with: pghold backups key {path}")


def _key(secret: bytes) -> Key:
    return Key(hashlib.sha256(b"pghold key id" + secret).hexdigest()[:16], secret)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class Sealer:
    """Encrypts what is written piece by piece."""

    def __init__(self, key: Key) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._header = MAGIC + bytes.fromhex(key.id) + salt
        self._cipher = key.of_file(salt)
        self._buffer = bytearray(b"")
        self._number = 0
        self._started = False

    def update(self, data: bytes) -> bytes:
        """What of it can be written by now."""
        self._buffer += data
        out = self._begun()
        # A whole piece stays behind until more comes: it may be the last.
        while len(self._buffer) > PIECE:
            out.append(self._seal(bytes(self._buffer[:PIECE]), False))
            del self._buffer[:PIECE]
        return b"".join(out)

    def finish(self) -> bytes:
        return b"".join([*self._begun(), self._seal(bytes(self._buffer), True)])

    def _begun(self) -> list[bytes]:
        if self._started:
            return []
        self._started = True
        return [self._header]

    def _seal(self, piece: bytes, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._number, last), piece, self._header)
        self._number += 1
        return sealed


def unsealed(source: Iterable[bytes], key: Key | None) -> Iterator[bytes]:
    """Decrypt a file given in pieces of any size. What was yielded before a SealError is right, but not all there is."""
    buffer = bytearray()
    pieces = iter(source)
    while len(buffer) < _HEADER_BYTES:
        more = next(pieces, None)
        if more is None:
            raise SealError("it is cut off")
        buffer += more
    header = bytes(buffer[:_HEADER_BYTES])
    if not header.startswith(MAGIC):
        raise SealError("it is not encrypted by pghold")
    key_id = header[len(MAGIC) : len(MAGIC) + 8].hex()
    if key is None:
        raise SealError(f"it is encrypted with key {key_id}, and no backup_key_file is given")
    if key_id != key.id:
        raise SealError(f"it is encrypted with key {key_id}, not with {key.id}")
    cipher = key.of_file(header[-_SALT_BYTES:])
    del buffer[:_HEADER_BYTES]
    number, ended = 0, False
    while not ended:
        while len(buffer) <= PIECE + _TAG_BYTES and not ended:
            more = next(pieces, None)
            if more is None:
                ended = True
            else:
                buffer += more
        sealed = bytes(buffer[: PIECE + _TAG_BYTES])
        del buffer[: PIECE + _TAG_BYTES]
        try:
            yield cipher.decrypt(_nonce(number, ended), sealed, header)
        except InvalidTag:
            raise SealError("it was changed, or is cut off") from None
        number += 1
