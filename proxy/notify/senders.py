"""How a message gets to a service: signed JSON over HTTP, or whatever apprise can reach.

A sender makes one try, within a deadline, and raises DeliveryError with a reason that holds no secret. apprise blocks, and a service can
hang longer than any of its timeouts (a byte each second), so its work is done in daemon threads that are left behind when their time is
over; of those only so many may be left behind at once. A pool was tried and dropped: the interpreter waits for its threads at exit.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import apprise
import httpx

from policy.verdict import Severity
from proxy.holds_json import Json
from proxy.notify.message import Message, Topic
from proxy.notify.routes import Route, open_url
from proxy.notify.words import harmless

#: Tries of one route that hang; with more of them it fails at once.
_HANGING_LIMIT: Final = 4
#: Besides connecting and reading.
_GRACE_S: Final = 1.0
_ERROR_CHARACTERS: Final = 200
_BODY_CHARACTERS: Final = 6000
#: Of the messages in a digest; how many there are, is told.
_MANY_LISTED: Final = 500


class DeliveryError(Exception):
    """This try failed; the message is for people and without secrets.

    `after_s`: the service asks not to be called again before.
    """

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery.

    Attributes:
        delivery: the same over all tries.
        supersedes: the delivery that this makes stale, at this route.
        link: to the page in the console; empty: none.
        many: of a digest, the messages in it.
    """

    delivery: str
    message: Message
    link: str
    source: str
    supersedes: str = ""
    many: tuple[Message, ...] = ()


class Sender(Protocol):
    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryError."""
        ...


def sender_for(route: Route) -> Sender:
    return WebhookSender(route) if route.webhook.get_secret_value() else AppriseSender(route)


# --- signed JSON --------------------------------------------------------------------------------------------------------


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What X-Pghold-Signature has: of the timestamp, a point and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def as_json(parcel: Parcel) -> dict[str, Json]:
    """The body of a webhook. Text of strangers is in it as it is; JSON escapes it."""
    message = parcel.message
    told: dict[str, Json] = {
        "version": 1,
        "delivery": parcel.delivery,
        "event": "digest" if parcel.many else str(message.topic),
        "severity": message.severity,
        "at": message.at,
        "source": parcel.source,
        "environment": message.environment,
        "database": message.database,
        "subject": message.subject,
        "text": "\n".join(message.lines),
        "link": parcel.link,
        "thread": message.thread,
        "supersedes": parcel.supersedes or None,
        **message.facts,
    }
    if parcel.many:
        told["messages"] = [
            {"event": str(m.topic), "thread": m.thread, "severity": m.severity, "subject": m.subject} for m in parcel.many[:_MANY_LISTED]
        ]
    return told


class WebhookSender:
    """One POST; any answer of 200 to 299 is an arrival. Redirects are not followed: the signature is for one place."""

    def __init__(self, route: Route) -> None:
        self._route = route
        #: Reading the certificates that are trusted takes some 20 ms, which is too long for the loop, and for each message.
        self._tls: ssl.SSLContext | None = None

    async def send(self, parcel: Parcel) -> None:
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        body = json.dumps(as_json(parcel), ensure_ascii=True).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "pghold",
            "X-Pghold-Event": "digest" if parcel.many else str(parcel.message.topic),
            "X-Pghold-Delivery": parcel.delivery,
            "X-Pghold-Timestamp": timestamp,
            "X-Pghold-Signature": signature(self._route.secret.get_secret_value(), timestamp, body),
        }
        timeout_s = self._route.timeout_s
        try:
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(follow_redirects=False, timeout=timeout_s, verify=self._tls) as client,
                client.stream("POST", self._route.webhook.get_secret_value(), content=body, headers=headers) as response,
            ):
                status = response.status_code
                after_s = _seconds(response.headers.get("retry-after", ""))
        except TimeoutError:
            raise DeliveryError(f"no answer within {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise DeliveryError(self._route.without_secrets(words)[:_ERROR_CHARACTERS]) from None
        if 300 <= status < 400:
            raise DeliveryError(f"it answered {status}, a redirect, and those are not followed")
        if not 200 <= status < 300:
            raise DeliveryError(f"it answered {status}", after_s)


def _seconds(text: str) -> float:
    """Of Retry-After; a date there is ignored."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


# --- everything that apprise knows --------------------------------------------------------------------------------------

_TYPES: Final = {
    Severity.LOW: apprise.NotifyType.INFO,
    Severity.MEDIUM: apprise.NotifyType.WARNING,
    Severity.HIGH: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}
#: What is taken of an exception's text, which can hold anything that was sent: the system's error, or the answer's code.
_CAUSE: Final = re.compile(r"\[Errno -?\d+\] [A-Za-z ]+|timed out|certificate verify failed|\b[45]\d\d(?=, b['\"])")
_GOOD: Final = {Topic.SOLVED, Topic.TEST}


def subject_of(parcel: Parcel) -> str:
    """One line that nothing can act on."""
    return harmless(parcel.message.subject).replace("\r", " ").replace("\n", " ")


def text_of(parcel: Parcel) -> str:
    """Plain text; our own link is the only one in it."""
    lines = [harmless(line) for line in parcel.message.lines]
    text = "\n".join(lines)[:_BODY_CHARACTERS]
    return f"{text}\n{parcel.link}" if parcel.link else text


class AppriseSender:
    """One message to each address of a route; what arrived is not sent again when another address failed."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._hanging = 0
        self._arrived: dict[str, set[int]] = {}

    async def send(self, parcel: Parcel) -> None:
        route = self._route
        arrived = self._arrived.setdefault(parcel.delivery, set())
        problems = []
        for number, url in enumerate(route.urls):
            if number in arrived:
                continue
            problem = await self._in_a_thread(lambda url=url: _notify(url.get_secret_value(), parcel, route.timeout_s))  # type: ignore[misc]
            if problem is None:
                arrived.add(number)
            else:
                problems.append(route.without_secrets(problem))
        if problems:
            while len(self._arrived) > 1000:
                self._arrived.pop(next(iter(self._arrived)))
            raise DeliveryError("; ".join(dict.fromkeys(problems))[:_ERROR_CHARACTERS])
        self._arrived.pop(parcel.delivery, None)

    async def _in_a_thread(self, work: Callable[[], str | None]) -> str | None:
        if self._hanging >= _HANGING_LIMIT:
            return f"{self._hanging} tries before this one still hang"
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()

        def settle(problem: str | None) -> None:
            self._hanging -= 1
            if not answer.done():
                answer.set_result(problem)

        def run() -> None:
            try:
                problem = work()
            except Exception as error:  # a plugin is a stranger's code, and its thread must come to an end that is told
                problem = f"{type(error).__name__}"
            try:
                loop.call_soon_threadsafe(settle, problem)
            except RuntimeError:
                pass  # the process has ended meanwhile

        self._hanging += 1
        threading.Thread(target=run, name=f"notify {self._route.name}", daemon=True).start()
        try:
            # Connecting and reading may each take the time that one try may.
            async with asyncio.timeout(2 * self._route.timeout_s + _GRACE_S):
                return await answer
        except TimeoutError:
            return "it hangs"


class _Overheard(logging.Handler):
    """What apprise says while one thread sends: the reason of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread or len(self.words) >= 5:
            return
        words = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            self.words.append(words)
        elif words.startswith("Socket Exception") and (cause := _CAUSE.search(words)):
            self.words.append(cause[0])


def _notify(url: str, parcel: Parcel, timeout_s: float) -> str | None:
    """Blocks. None when it arrived, else why not."""
    overheard = _Overheard()
    logger = logging.getLogger("apprise")
    logger.addHandler(overheard)
    try:
        # A fresh one each time: they keep state between messages.
        service = open_url(url)
        if service is None:
            return "apprise does not know this address"
        service.socket_connect_timeout = service.socket_read_timeout = timeout_s
        headers = getattr(service, "headers", None)
        if parcel.message.thread and service.service_name == "E-Mail" and isinstance(headers, dict):
            # All of a thread refer to one id that no message has: its replies, for a mail program.
            thread = f"<{parcel.message.thread}.{hashlib.sha256(parcel.source.encode()).hexdigest()[:12]}@pghold>"
            headers.update({"References": thread, "In-Reply-To": thread})
        kind = apprise.NotifyType.SUCCESS if parcel.message.topic in _GOOD else _TYPES[parcel.message.rank]
        # Of the service itself: apprise's own loop over services sends from a pool, and the interpreter waits for that at exit.
        good = service.notify(body=text_of(parcel), title=subject_of(parcel), notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
        return None if good else "; ".join(dict.fromkeys(overheard.words)) or "not sent"
    finally:
        logger.removeHandler(overheard)
