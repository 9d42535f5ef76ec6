"""What arrives at real services: HTTP and SMTP servers on this machine, and the plugins of chat services turned to them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from proxy.notify import compose, senders
from proxy.notify.message import Message
from proxy.notify.routes import Route, open_url
from proxy.notify.senders import DeliveryError, Parcel, sender_for
from tests.proxy.notifying import NOW, a_hold, a_route, decided
from tests.servers import free_port
from tests.sinks import HttpSink, SmtpSink

HOSTILE = "x @channel <!here> [a](https://evil.example) \r\nBcc: victim@example.com\r\nSubject: all is well"


def hook(http: HttpSink, **settings: Any) -> Route:
    return a_route(webhook=f"{http.url}/T0KEN/hook", secret="0123456789abcdef", **settings)


def parcel(message: Message | None = None, **changes: Any) -> Parcel:
    message = message or compose.opened(a_hold(), NOW)
    return replace(Parcel("delivery-1", message, "https://console.example.com/holds/1", "https://console.example.com"), **changes)


async def problem(route: Route, sent: Parcel | None = None) -> str:
    with pytest.raises(DeliveryError) as caught:
        await sender_for(route).send(sent or parcel())
    return str(caught.value)


# --- signed JSON ------------------------------------------------------------------------------------------------------


def verified(secret: str, headers: dict[str, str], body: bytes, now: float) -> bool:
    """As docs/notifications.md tells receivers to do."""
    timestamp = headers["x-pghold-timestamp"]
    if abs(now - int(timestamp)) > 300:
        return False
    expected = "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, headers["x-pghold-signature"])


async def test_a_webhook_is_signed_and_says_which_delivery_it_is(http: HttpSink) -> None:
    await sender_for(hook(http)).send(parcel(supersedes="delivery-0"))
    (received,) = http.received
    assert received.path == "/T0KEN/hook"
    assert received.headers["x-pghold-delivery"] == "delivery-1"
    assert received.headers["x-pghold-event"] == "hold.opened"
    assert received.headers["content-type"] == "application/json"
    assert verified("0123456789abcdef", received.headers, received.body, time.time())
    assert not verified("another secret xx", received.headers, received.body, time.time())
    assert not verified("0123456789abcdef", received.headers, received.body + b" ", time.time())
    assert not verified("0123456789abcdef", received.headers, received.body, time.time() + 3600)
    body = received.json
    assert (body["version"], body["event"], body["thread"], body["supersedes"]) == (1, "hold.opened", "hold-1", "delivery-0")
    assert body["link"] == "https://console.example.com/holds/1"
    assert body["hold"]["script"] == "DROP TABLE account"


async def test_a_digest_says_what_is_in_it(http: HttpSink) -> None:
    many = tuple(compose.opened(a_hold(i), NOW) for i in range(1, 41))
    await sender_for(hook(http)).send(parcel(compose.digest(many, NOW), many=many))
    body = http.received[0].json
    assert (body["event"], body["count"]) == ("digest", 40)
    assert [m["thread"] for m in body["messages"]] == [f"hold-{i}" for i in range(1, 41)]


async def test_trusted_certificates_are_read_once_and_not_for_each_message(http: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the loop so long that, in a burst, the store's deadline passed and holds were refused."""
    made: list[object] = []
    make = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    sender = sender_for(hook(http))
    for number in range(5):
        await sender.send(parcel(delivery=f"delivery-{number}"))
    assert len(http.received) == 5
    assert len(made) == 1


@pytest.mark.parametrize("status", [301, 307, 308, 400, 401, 404, 429, 500, 503])
async def test_only_success_is_an_arrival_and_redirects_are_not_followed(http: HttpSink, status: int) -> None:
    http.answers = [status]
    http.headers = {"Location": f"{http.url}/elsewhere"}
    said = await problem(hook(http))
    assert str(status) in said
    assert len(http.received) == 1


async def test_a_service_may_say_when_to_come_again(http: HttpSink) -> None:
    http.answers = [429, 429]
    http.headers = {"Retry-After": "7"}
    with pytest.raises(DeliveryError) as caught:
        await sender_for(hook(http)).send(parcel())
    assert caught.value.after_s == 7
    http.headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    with pytest.raises(DeliveryError) as caught:
        await sender_for(hook(http)).send(parcel())
    assert caught.value.after_s == 0


async def test_a_hanging_webhook_is_left_after_its_time(http: HttpSink) -> None:
    http.hanging.set()
    assert await problem(hook(http, timeout_s=0.3)) == "no answer within 0.3 s"


async def test_a_service_that_is_not_there_is_told_without_its_address() -> None:
    port = free_port()
    said = await problem(a_route(webhook=f"http://127.0.0.1:{port}/T0KEN", secret="0123456789abcdef"))
    assert said
    assert "T0KEN" not in said


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Any) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from tests.conftest import make_certificate

    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the handshake's failure is what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        said = await problem(a_route(webhook=f"https://127.0.0.1:{server.server_address[1]}/", secret="0123456789abcdef"))
        assert "certificate" in said.lower()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- e-mail -----------------------------------------------------------------------------------------------------------


async def test_mail_arrives_as_plain_text_in_a_thread_of_its_own(smtp: SmtpSink) -> None:
    sender = sender_for(a_route(urls=[smtp.url]))
    await sender.send(parcel())
    await sender.send(parcel(compose.settled(decided(a_hold()), NOW), delivery="delivery-2"))
    await sender.send(parcel(compose.opened(a_hold(2), NOW), delivery="delivery-3"))
    first, second, other = smtp.mails
    assert first["Subject"] == "HIGH: DROP TABLE account (hold 1) waits for a decision in shop (production)"
    assert second["Subject"].startswith("Approved by ana")
    assert first["To"] == "ops@example.com"
    assert "pghold@example.com" in first["From"]
    assert first.get_content_type() == "text/plain"
    assert "What: DROP TABLE account" in first.get_content()
    assert first.get_content().rstrip().endswith("https://console.example.com/holds/1")
    assert first["References"] == second["References"] != other["References"]
    assert first["In-Reply-To"] == second["In-Reply-To"]
    assert len({m["Message-ID"] for m in smtp.mails}) == 3


async def test_names_and_statements_make_no_headers_and_no_recipients(smtp: SmtpSink) -> None:
    hold = a_hold(script=HOSTILE, application=HOSTILE, database=HOSTILE, role=HOSTILE)
    await sender_for(a_route(urls=[smtp.url])).send(parcel(compose.opened(hold, NOW)))
    await sender_for(a_route(urls=[smtp.url])).send(
        parcel(compose.settled(decided(hold, reason=HOSTILE, operator=HOSTILE), NOW), delivery="delivery-2")
    )
    for mail in smtp.mails:
        assert mail["Bcc"] is None
        assert len(mail.get_all("Subject", [])) == 1
        assert "victim@example.com" not in str(mail["To"]) + str(mail["Cc"])
        assert "\n" not in str(mail["Subject"])
        assert "@channel" not in mail.get_content()


async def test_mail_that_is_refused_is_told_without_the_password(smtp: SmtpSink) -> None:
    smtp.refuse = True
    said = await problem(a_route(urls=[smtp.url]))
    assert "failed" in said
    assert "hunter2pass" not in said
    smtp.stop()
    said = await problem(a_route(urls=[smtp.url]))
    assert "Connection refused" in said
    smtp.start()
    wrong = smtp.url.replace("hunter2pass", "wr0ngpass")
    said = await problem(a_route(urls=[wrong]))
    assert said
    assert "wr0ngpass" not in said


# --- apprise's other services -----------------------------------------------------------------------------------------


async def test_json_by_apprise(http: HttpSink) -> None:
    await sender_for(a_route(urls=[f"json://user:hunter2pass@127.0.0.1:{http.port}/path"])).send(parcel())
    (received,) = http.received
    assert received.headers["authorization"] == "Basic " + base64.b64encode(b"user:hunter2pass").decode()
    assert received.json["title"].startswith("HIGH: DROP TABLE account")
    assert received.json["message"].endswith("https://console.example.com/holds/1")


async def test_a_redirect_is_not_followed_by_apprise_either(http: HttpSink) -> None:
    http.answers = [307]
    http.headers = {"Location": f"{http.url}/elsewhere"}
    assert await problem(a_route(urls=[f"json://127.0.0.1:{http.port}/path"]))
    assert [r.path for r in http.received] == ["/path"]


async def test_when_one_address_of_a_route_fails_the_others_are_not_told_twice(http: HttpSink) -> None:
    route = a_route(urls=[f"json://127.0.0.1:{http.port}/one", f"json://127.0.0.1:{http.port}/two"])
    sender = sender_for(route)
    http.answers = [200, 500]
    with pytest.raises(DeliveryError):
        await sender.send(parcel())
    await sender.send(parcel())
    assert [(r.path, r.status) for r in http.received] == [("/one", 200), ("/two", 500), ("/two", 200)]
    await sender.send(parcel(delivery="delivery-2"))
    assert [r.path for r in http.received[3:]] == ["/one", "/two"]


async def test_hanging_services_leave_only_so_many_threads_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(senders, "_notify", lambda *_: stuck.wait(60) and None)
    monkeypatch.setattr(senders, "_GRACE_S", 0.01)
    sender = sender_for(a_route(urls=["json://127.0.0.1:1/"], timeout_s=0.01))
    said = []
    for _ in range(6):
        with pytest.raises(DeliveryError) as caught:
            await sender.send(parcel())
        said.append(str(caught.value))
    assert said == ["it hangs"] * 4 + ["4 tries before this one still hang"] * 2
    stuck.set()
    # Once they have come back, it is tried again.
    async with asyncio.timeout(10):
        while True:
            try:
                await sender.send(parcel())
                break
            except DeliveryError:
                await asyncio.sleep(0.01)


CHATS = [
    ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "webhook_url"),
    ("discord://123456789012345678/abcdefghijkTOKEN", "notify_url"),
    ("mmost://127.0.0.1:{port}/mattermostTOKEN", ""),
]


@pytest.mark.parametrize(("url", "attribute"), CHATS, ids=["slack", "discord", "mattermost"])
async def test_in_a_chat_nobody_is_mentioned_and_nothing_is_linked_but_our_page(
    http: HttpSink, monkeypatch: pytest.MonkeyPatch, url: str, attribute: str
) -> None:
    url = url.format(port=http.port)
    if attribute:
        service = open_url(url)
        assert service is not None
        monkeypatch.setattr(type(service), attribute, http.url)
    hold = a_hold(script=HOSTILE, application="<@U123> @everyone", database="&lt;!channel&gt;")
    await sender_for(a_route(urls=[url])).send(parcel(compose.opened(hold, NOW)))
    (received,) = http.received
    text = str(received.json)
    for word in ("@channel", "@everyone", "<!", "<@", "&lt;!", "](", "https://evil"):
        assert word not in text, text
    assert "https://console.example.com/holds/1" in text
    assert "waits for a decision" in text


async def test_apprise_says_nothing_of_addresses_on_our_log(
    http: HttpSink, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    http.answers = [500]
    said = await problem(a_route(urls=[f"json://user:hunter2pass@127.0.0.1:{http.port}/T0KENPATH"]))
    assert "hunter2pass" not in said
    assert "T0KENPATH" not in said
    out = "".join(capfd.readouterr())
    assert "hunter2pass" not in out + "".join(r.getMessage() for r in caplog.records if r.name.startswith("apprise"))
    assert "T0KENPATH" not in out
