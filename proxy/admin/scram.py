"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; sasl-authentication.html). Sans-IO, no channel binding."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

MECHANISM = b"SCRAM-SHA-256"


class ScramError(Exception):
    """The exchange is malformed; the message is for the log."""


@dataclass(frozen=True, slots=True)
class Verifier:
    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`. Raises ValueError."""
        match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", text)
        if match is None:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        return cls(int(match[1]), b64decode(match[2]), b64decode(match[3]), b64decode(match[4]))

    @classmethod
    def mock(cls, user: str, secret: bytes) -> Verifier:
        """For a user who does not exist: the same salt each time, and keys that nothing matches."""
        salt = hmac.digest(secret, user.encode("utf-8", "replace"), "sha256")[:16]
        return cls(4096, salt, os.urandom(32), os.urandom(32))


class ScramServer:
    """One exchange: first message in, challenge out; final message in, verdict out."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._bare = ""
        self._server_first = ""
        self._nonce = ""
        self._gs2 = ""

    def first(self, message: bytes) -> bytes:
        """The client-first-message; returns the server-first-message. Raises ScramError."""
        text = _text(message)
        match = re.fullmatch(r"([ny]|p=[^,]+),([^,]*),((?:m=[^,]*,)?n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)", text)
        if match is None or match[3].startswith("m="):
            raise ScramError("malformed SCRAM message")
        if match[1].startswith("p="):
            raise ScramError("channel binding was not offered")
        if match[2]:
            raise ScramError("an authorization identity is not supported")
        self._gs2 = f"{match[1]},{match[2]},"
        self._bare = match[3]
        self._nonce = match[4] + b64encode(os.urandom(18)).decode()
        salt = b64encode(self._verifier.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={self._verifier.iterations}"
        return self._server_first.encode()

    def final(self, message: bytes) -> bytes | None:
        """The client-final-message; returns the server-final-message, None when the proof is wrong. Raises ScramError."""
        text = _text(message)
        without_proof, _, proof_text = text.rpartition(",p=")
        match = re.fullmatch(r"c=([^,]+),r=([^,]+)(?:,.*)?", without_proof)
        if match is None or not hmac.compare_digest(match[2], self._nonce):
            raise ScramError("malformed SCRAM message")
        try:
            if b64decode(match[1], validate=True) != self._gs2.encode():
                raise ScramError("unexpected SCRAM channel-binding attribute")
            proof = b64decode(proof_text, validate=True)
        except ValueError:
            raise ScramError("malformed SCRAM message") from None
        if len(proof) != 32:
            raise ScramError("malformed SCRAM message")
        signed = f"{self._bare},{self._server_first},{without_proof}".encode()
        signature = hmac.digest(self._verifier.stored_key, signed, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            return None
        return b"v=" + b64encode(hmac.digest(self._verifier.server_key, signed, "sha256"))


def _text(message: bytes) -> str:
    try:
        return message.decode("ascii")
    except UnicodeDecodeError:
        raise ScramError("malformed SCRAM message") from None
