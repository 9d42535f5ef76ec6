"""Byte tables: each message encodes to its bytes, and decodes whole, byte by byte, and never when cut short or too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocol as p
from protocol.framing import BACKEND_LIMITS, FRONTEND_LIMITS

FRONTEND: list[tuple[p.Message, bytes]] = [
    (p.Query(b"SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
    (p.Parse(b"s", b"SELECT $1", (23,)), b"P\0\0\0\x16s\0SELECT $1\0\0\1\0\0\0\x17"),
    (p.Bind(b"p", b"s", (0,), (b"7", None), (1,)), b"B\0\0\0\x1bp\0s\0\0\1\0\0\0\2\0\0\0\x017\xff\xff\xff\xff\0\1\0\1"),
    (p.Describe(p.ObjectKind.STATEMENT, b"s"), b"D\0\0\0\x07Ss\0"),
    (p.Execute(b"p", 5), b"E\0\0\0\x0ap\0\0\0\0\x05"),
    (p.Close(p.ObjectKind.PORTAL, b"p"), b"C\0\0\0\x07Pp\0"),
    (p.Sync(), b"S\0\0\0\4"),
    (p.Flush(), b"H\0\0\0\4"),
    (p.Terminate(), b"X\0\0\0\4"),
    (p.CopyData(b"1\n"), b"d\0\0\0\x061\n"),
    (p.CopyDone(), b"c\0\0\0\4"),
    (p.CopyFail(b"no"), b"f\0\0\0\x07no\0"),
    (p.FunctionCall(952, (1,), (b"\0\1",), 1), b"F\0\0\0\x16\0\0\x03\xb8\0\1\0\1\0\1\0\0\0\2\0\1\0\1"),
    (p.PasswordMessage(b"pw"), b"p\0\0\0\7pw\0"),
]
BACKEND: list[tuple[p.Message, bytes]] = [
    (p.AuthenticationOk(), b"R\0\0\0\x08\0\0\0\0"),
    (p.AuthenticationKerberosV5(), b"R\0\0\0\x08\0\0\0\2"),
    (p.AuthenticationCleartextPassword(), b"R\0\0\0\x08\0\0\0\3"),
    (p.AuthenticationMD5Password(b"salt"), b"R\0\0\0\x0c\0\0\0\5salt"),
    (p.AuthenticationGSS(), b"R\0\0\0\x08\0\0\0\7"),
    (p.AuthenticationGSSContinue(b"x"), b"R\0\0\0\x09\0\0\0\x08x"),
    (p.AuthenticationSSPI(), b"R\0\0\0\x08\0\0\0\x09"),
    (p.AuthenticationSASL((b"SCRAM-SHA-256",)), b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"),
    (p.AuthenticationSASLContinue(b"x"), b"R\0\0\0\x09\0\0\0\x0bx"),
    (p.AuthenticationSASLFinal(b"x"), b"R\0\0\0\x09\0\0\0\x0cx"),
    (p.BackendKeyData(7, b"keys"), b"K\0\0\0\x0c\0\0\0\7keys"),
    (p.BackendKeyData(7, b"k" * 32), b"K\0\0\0\x28\0\0\0\7" + b"k" * 32),
    (p.NegotiateProtocolVersion(0x30000, (b"_pq_.x",)), b"v\0\0\0\x13\0\3\0\0\0\0\0\1_pq_.x\0"),
    (p.ParseComplete(), b"1\0\0\0\4"),
    (p.BindComplete(), b"2\0\0\0\4"),
    (p.CloseComplete(), b"3\0\0\0\4"),
    (p.NoData(), b"n\0\0\0\4"),
    (p.PortalSuspended(), b"s\0\0\0\4"),
    (p.EmptyQueryResponse(), b"I\0\0\0\4"),
    (p.ParameterDescription((23, 25)), b"t\0\0\0\x0e\0\2\0\0\0\x17\0\0\0\x19"),
    (p.RowDescription((p.Column(b"a", 1, 2, 23, 4, -1, 0),)), b"T\0\0\0\x1a\0\1a\0\0\0\0\1\0\2\0\0\0\x17\0\4\xff\xff\xff\xff\0\0"),
    (p.DataRow((b"7", None)), b"D\0\0\0\x0f\0\2\0\0\0\x017\xff\xff\xff\xff"),
    (p.CommandComplete(b"SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
    (p.ReadyForQuery(p.TransactionStatus.IDLE), b"Z\0\0\0\5I"),
    (p.ErrorResponse(((b"S", b"ERROR"), (b"C", b"42601"))), b"E\0\0\0\x13SERROR\0C42601\0\0"),
    (p.NoticeResponse(((b"M", b"hi"),)), b"N\0\0\0\x09Mhi\0\0"),
    (p.NotificationResponse(7, b"c", b"x"), b"A\0\0\0\x0c\0\0\0\7c\0x\0"),
    (p.ParameterStatus(b"a", b"b"), b"S\0\0\0\x08a\0b\0"),
    (p.CopyInResponse(0, (0,)), b"G\0\0\0\x09\0\0\1\0\0"),
    (p.CopyOutResponse(1, (1,)), b"H\0\0\0\x09\1\0\1\0\1"),
    (p.CopyBothResponse(0, ()), b"W\0\0\0\x07\0\0\0"),
    (p.FunctionCallResponse(b"ok"), b"V\0\0\0\x0a\0\0\0\2ok"),
    (p.FunctionCallResponse(None), b"V\0\0\0\x08\xff\xff\xff\xff"),
]
ALL = [(m, b, p.decode_frontend, FRONTEND_LIMITS) for m, b in FRONTEND] + [(m, b, p.decode_backend, BACKEND_LIMITS) for m, b in BACKEND]
IDS = [type(m).__name__ for m, *_ in ALL]


@pytest.mark.parametrize(("message", "data", "decode", "limits"), ALL, ids=IDS)
def test_encodes_and_decodes(message, data, decode, limits) -> None:  # type: ignore[no-untyped-def]
    assert message.encode() == data
    assert decode(data[0], data[5:]) == message
    framer = p.Framer(limits)
    frames = [frame for index in range(len(data)) for frame in framer.feed(data[index : index + 1])]
    assert frames == [(data[0], data[5:])]


@pytest.mark.parametrize(("message", "data", "decode", "limits"), ALL, ids=IDS)
def test_cut_short_or_too_long_is_refused_or_another_message(message, data, decode, limits) -> None:  # type: ignore[no-untyped-def]
    for body in [data[5:end] for end in range(5, len(data))] + [data[5:] + b"\0"]:
        try:
            assert decode(data[0], body) != message
        except p.RemoteProtocolError:
            pass


@pytest.mark.parametrize(("message", "data", "decode", "limits"), ALL, ids=IDS)
def test_repr_shows_no_secrets(message, data, decode, limits) -> None:  # type: ignore[no-untyped-def]
    for secret in ("'salt'", "'keys'", "'pw'", "b'7'", "1\\n"):
        assert secret not in repr(message)


def test_every_message_type_has_a_row() -> None:
    from protocol.messages import BACKEND_MESSAGES, FRONTEND_MESSAGES

    assert {b[0] for _, b in FRONTEND} == set(FRONTEND_MESSAGES) == set(FRONTEND_LIMITS)
    assert {b[0] for _, b in BACKEND} - {ord("R")} == set(BACKEND_MESSAGES) - set(b"dc")


def test_startup_packets() -> None:
    startup = p.StartupMessage(3, 2, ((b"user", b"a"), (b"_pq_.x", b"1")))
    for packet in (startup, p.SSLRequest(), p.GSSENCRequest(), p.CancelRequest(7, b"keys"), p.CancelRequest(7, b"k" * 256)):
        framer = p.StartupFramer()
        data = packet.encode()
        found = [body for index in range(len(data)) if (body := framer.feed(data[index : index + 1])) is not None]
        assert p.decode_startup(found[0]) == packet
    for broken in (b"\x04\xd2\x16\x2e\0\0\0\7abc", b"\x04\xd2\x16\x2e\0\0\0\7" + b"k" * 257, b"\0\3\0\0user\0a\0", b"\0\3\0\0user\0a\0\0x"):
        with pytest.raises(p.RemoteProtocolError):
            p.decode_startup(broken)


@pytest.mark.parametrize("data", [b"Q\0\0\0\3", b"?\0\0\0\4", b"S\0\0\xff\xff", b"Q\xff\xff\xff\xff"])
def test_framing_refuses(data: bytes) -> None:
    with pytest.raises(p.RemoteProtocolError):
        list(p.Framer(FRONTEND_LIMITS).feed(data))


def test_nul_inside_a_string_is_refused() -> None:
    with pytest.raises(p.LocalProtocolError):
        p.Query(b"SELECT 1\0DROP").encode()
    with pytest.raises(p.RemoteProtocolError):
        p.decode_frontend(ord("Q"), b"SELECT 1\0DROP\0")


@given(st.lists(st.sampled_from([b for _, b in FRONTEND]), max_size=10), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_gives_the_same_frames(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    places = sorted({min(c, len(stream)) for c in cuts})
    framer = p.Framer(FRONTEND_LIMITS)
    frames = [f for a, b in zip([0, *places], [*places, len(stream)], strict=True) for f in framer.feed(stream[a:b])]
    assert frames == [(d[0], d[5:]) for d in parts]


@given(st.binary(max_size=300))
def test_garbage_raises_a_documented_error_or_nothing(data: bytes) -> None:
    for limits, decode in ((FRONTEND_LIMITS, p.decode_frontend), (BACKEND_LIMITS, p.decode_backend)):
        try:
            for kind, body in p.Framer(limits).feed(data):
                decode(kind, body)
        except p.ProtocolError:
            pass
    try:
        p.decode_startup(data)
    except p.ProtocolError:
        pass
