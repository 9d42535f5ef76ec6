"""The key that signs checkpoints: Ed25519, made at the first start, `DATA_DIR/audit.key` (mode 0600).

`audit.key.pub` has the public halves of all keys that were in use, oldest first. A change of the key is on record in the log, with the new
key signed by the old one: who trusts the first key can follow. `pghold audit key --rotate` only prepares the next key; the proxy, which
writes the log, puts it into use.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from proxy.audit.chain import Record, canonical
from proxy.audit.files import sync_folder
from proxy.model import AuditEntry, AuditEvent

_ID_CHARACTERS: Final = 16
_PUBLIC_PEM: Final = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class KeyFileError(Exception):
    """A key cannot be read or written; the words name the file."""


@dataclass(frozen=True)
class PublicKey:
    key: Ed25519PublicKey

    @property
    def raw(self) -> bytes:
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def id(self) -> str:
        """The start of the SHA-256 of its 32 bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:_ID_CHARACTERS]

    @property
    def pem(self) -> str:
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def accepts(self, message: bytes, signature: str) -> bool:
        try:
            self.key.verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key())

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self.key.sign(message)).decode()


class KeyRing:
    """The keys of one data directory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.key"
        self.next_path = folder / "audit.key.next"
        self.public_path = folder / "audit.key.pub"

    def load(self) -> SigningKey | None:
        """Raises KeyFileError."""
        return _read(self.path)

    def load_or_make(self) -> tuple[SigningKey, bool]:
        """The key, and whether it is new. Raises KeyFileError."""
        key = self.load()
        made = key is None
        if key is None:
            key = _make(self.path)
        self._publish(key.public)
        return key, made

    def prepare_next(self) -> SigningKey:
        """For the proxy to put into use. Raises KeyFileError."""
        return _read(self.next_path) or _make(self.next_path)

    def next(self) -> SigningKey | None:
        """Raises KeyFileError."""
        return _read(self.next_path)

    def use_next(self) -> SigningKey:
        """Raises KeyFileError."""
        try:
            os.replace(self.next_path, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise KeyFileError(f"{self.path}: {error.strerror}") from None
        key = self.load()
        assert key is not None
        self._publish(key.public)
        return key

    def public_keys(self) -> list[PublicKey]:
        """Raises KeyFileError."""
        return read_public_keys(self.public_path) if self.public_path.exists() else []

    def _publish(self, key: PublicKey) -> None:
        try:
            if key.id in {k.id for k in self.public_keys()}:
                return
            with self.public_path.open("a") as file:
                file.write(key.pem)
        except OSError as error:
            raise KeyFileError(f"{self.public_path}: {error.strerror}") from None


def read_public_keys(path: Path) -> list[PublicKey]:
    """All public keys of a PEM file. Raises KeyFileError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: {getattr(error, 'strerror', None) or 'not a PEM file'}") from None
    keys = []
    for pem in _PUBLIC_PEM.findall(text):
        try:
            key = load_pem_public_key(pem.encode())
        except ValueError:
            raise KeyFileError(f"{path}: not a public key in PEM") from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{path}: expected Ed25519 keys")
        keys.append(PublicKey(key))
    if not keys:
        raise KeyFileError(f"{path}: no public key in it (PEM)")
    return keys


def _read(path: Path) -> SigningKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: {getattr(error, 'strerror', None) or 'not a private key in PEM'}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key")
    return SigningKey(key)


def _make(path: Path) -> SigningKey:
    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    return SigningKey(key)


# --- the change, on record --------------------------------------------------------------------------------------------


def _statement(new: PublicKey) -> bytes:
    return canonical({"type": "pghold-audit-key", "key": new.id, "public_key": base64.b64encode(new.raw).decode()})


def key_entry(new: PublicKey, old: SigningKey | None) -> AuditEntry:
    """The record of a key, signed by the one before it."""
    detail: dict[str, str | int | float | bool | None] = {
        "key": new.id,
        "public_key": base64.b64encode(new.raw).decode(),
        "signed_by": old.public.id if old is not None else None,
        "signature": old.sign(_statement(new)) if old is not None else None,
    }
    return AuditEntry(AuditEvent.AUDIT_KEY, outcome="new key" if old is not None else "first key", detail=detail)


def follow_keys(trusted: Iterable[PublicKey], records: Iterable[Record]) -> dict[str, PublicKey]:
    """By id: the trusted keys, and those that they vouch for in these records."""
    keys = {k.id: k for k in trusted}
    for record in records:
        detail = record.get("detail")
        if not isinstance(detail, dict):
            continue
        by = keys.get(str(detail.get("signed_by")))
        try:
            new = PublicKey(Ed25519PublicKey.from_public_bytes(base64.b64decode(str(detail.get("public_key")), validate=True)))
        except ValueError:
            continue
        if by is not None and by.accepts(_statement(new), str(detail.get("signature"))):
            keys[new.id] = new
    return keys
