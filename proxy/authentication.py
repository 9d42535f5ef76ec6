"""Relaying the login (auth = relay): both ends talk to each other; we watch, and strip one thing where it cannot work. Sans-IO.

SCRAM-SHA-256-PLUS binds the login to the server's certificate. A client on a plaintext leg refuses a server that offers it, so there
it is taken out of the offer when our own leg to the server has TLS; in every other mix it passes, or was refused at start.
"""

from __future__ import annotations

from typing import Final

from protocol import (
    AuthenticationOk,
    AuthenticationSASL,
    BackendKeyData,
    ErrorResponse,
    Framer,
    ParameterStatus,
    decode_backend,
)
from protocol.framing import AUTHENTICATION_LIMIT_BYTES, BACKEND_LIMITS

PLUS: Final = b"SCRAM-SHA-256-PLUS"
_LOGIN_LIMITS: Final = {kind: min(limit, 1 << 20) for kind, limit in BACKEND_LIMITS.items() if kind in b"RENSKZvA"}
_FRONTEND_LIMITS: Final = {ord("p"): AUTHENTICATION_LIMIT_BYTES, ord("X"): 4}


class LoginRelay:
    """One login.

    Attributes:
        authenticated: the server let the client in.
        ready: the first ReadyForQuery has come; `backend_leftover` is behind it.
        offers_plus: the server's offer held SCRAM-SHA-256-PLUS, and it was not stripped.
        failed: the server refused with an error, which was relayed.
        parameters, key: as the server reported them.
    """

    def __init__(self, strip_plus: bool) -> None:
        self.authenticated = False
        self.ready = False
        self.failed = False
        self.offers_plus = False
        self.parameters: dict[str, str] = {}
        self.key: BackendKeyData | None = None
        self.backend_leftover = b""
        self.frontend_leftover = b""
        self._strip_plus = strip_plus
        self._backend = Framer(_LOGIN_LIMITS)
        self._frontend = Framer(_FRONTEND_LIMITS)

    def from_backend(self, data: bytes) -> bytes:
        """What the frontend is to get for these bytes. Raises RemoteProtocolError."""
        out: list[bytes] = []
        for kind, body in self._backend.feed(data):
            frame = bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body
            message = decode_backend(kind, body)
            match message:
                case AuthenticationSASL(mechanisms):
                    if self._strip_plus and PLUS in mechanisms:
                        frame = AuthenticationSASL(tuple(m for m in mechanisms if m != PLUS)).encode()
                    else:
                        self.offers_plus = PLUS in mechanisms
                case AuthenticationOk():
                    self.authenticated = True
                case ParameterStatus(name, value):
                    self.parameters[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
                case BackendKeyData():
                    self.key = message
                case ErrorResponse():
                    self.failed = True
                case _:
                    pass
            out.append(frame)
            if kind == ord("Z"):
                self.ready = True
                self.backend_leftover = self._backend.leftover
                break
        return b"".join(out)

    def from_frontend(self, data: bytes) -> bytes:
        """What the backend is to get. Raises RemoteProtocolError."""
        if self.authenticated:
            # Sent ahead of ReadyForQuery; the session will judge it.
            self.frontend_leftover += data
            return b""
        out = b""
        for kind, body in self._frontend.feed(data):
            out += bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body
        return out

    def finish(self) -> bytes:
        """Bytes of the frontend that belong to the session."""
        return self._frontend.leftover + self.frontend_leftover
