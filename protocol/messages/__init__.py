"""All messages of protocol 3.0 to 3.2, and their decoding by type byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.messages.authentication import PasswordMessage, decode_authentication
from protocol.messages.base import BackendMessage, FrontendMessage, Message
from protocol.messages.copy import (
    CopyBothResponse,
    CopyData,
    CopyDone,
    CopyFail,
    CopyInResponse,
    CopyOutResponse,
)
from protocol.messages.extended_query import (
    Bind,
    BindComplete,
    Close,
    CloseComplete,
    Describe,
    Execute,
    Flush,
    NoData,
    ParameterDescription,
    Parse,
    ParseComplete,
    PortalSuspended,
    Sync,
)
from protocol.messages.function_call import FunctionCall, FunctionCallResponse
from protocol.messages.notices import ErrorResponse, NoticeResponse, NotificationResponse, ParameterStatus
from protocol.messages.results import CommandComplete, DataRow, EmptyQueryResponse, ReadyForQuery, RowDescription
from protocol.messages.simple_query import Query, Terminate
from protocol.messages.startup import BackendKeyData, NegotiateProtocolVersion
from protocol.wire import BodyReader

_FRONTEND: Final[tuple[type[FrontendMessage], ...]] = (
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Parse,
    PasswordMessage,
    Query,
    Sync,
    Terminate,
)
_BACKEND: Final[tuple[type[Message], ...]] = (
    BackendKeyData,
    BindComplete,
    CloseComplete,
    CommandComplete,
    CopyBothResponse,
    CopyData,
    CopyDone,
    CopyInResponse,
    CopyOutResponse,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    FunctionCallResponse,
    NegotiateProtocolVersion,
    NoData,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
)

FRONTEND_MESSAGES: Final[Mapping[int, type[FrontendMessage]]] = {cls.type_byte[0]: cls for cls in _FRONTEND}
BACKEND_MESSAGES: Final[Mapping[int, type[Message]]] = {cls.type_byte[0]: cls for cls in _BACKEND}


def decode_frontend(kind: int, body: bytes) -> FrontendMessage:
    """Decode a frontend message; 'p' is taken for a PasswordMessage. Raises RemoteProtocolError."""
    cls = FRONTEND_MESSAGES.get(kind)
    if cls is None:
        raise RemoteProtocolError(f"invalid frontend message type {kind}")
    reader = BodyReader(body)
    message = cls.decode_body(reader)
    reader.finish()
    return message


def decode_backend(kind: int, body: bytes) -> Message:
    """Decode a backend message (CopyData and CopyDone are the frontend's classes). Raises RemoteProtocolError."""
    reader = BodyReader(body)
    message: Message
    if kind == ord("R"):
        message = decode_authentication(reader)
    else:
        cls = BACKEND_MESSAGES.get(kind)
        if cls is None:
            raise RemoteProtocolError(f"invalid backend message type {kind}")
        message = cls.decode_body(reader)
    reader.finish()
    return message


__all__ = ["BACKEND_MESSAGES", "FRONTEND_MESSAGES", "BackendMessage", "decode_backend", "decode_frontend"]
