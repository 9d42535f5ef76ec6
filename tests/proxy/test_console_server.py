"""The HTTP server under the console, in this process, with short deadlines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.console import server
from proxy.console.security import SECURITY_HEADERS, Guard

Start = Callable[..., Awaitable[int]]


async def _echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())}")


async def _broken(request: Request) -> Response:
    raise RuntimeError("a bug")


async def _slow(request: Request) -> Response:
    async def parts() -> AsyncIterator[str]:
        for _ in range(5):
            yield "x"
            await asyncio.sleep(0.2)

    return StreamingResponse(parts())


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setattr(server, "HEAD_S", 0.4)
    monkeypatch.setattr(server, "BODY_S", 0.4)
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
    routes = [Route("/", _echo, methods=["GET", "POST"]), Route("/broken", _broken), Route("/slow", _slow)]

    async def go(proxies: list[str] | None = None) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        made = server.make_server(Guard(Starlette(routes=routes)), None, proxies or [])
        task = asyncio.get_running_loop().create_task(made._serve(sockets=[sock]))
        running.append((made, task))
        return int(sock.getsockname()[1])

    yield go
    for made, task in running:
        made.should_exit = True
        await task


async def say(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """All that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_whoever_says_nothing_is_let_go(start: Start) -> None:
    assert await say(await start()) == b""


async def test_headers_that_drip_are_cut_off(start: Start) -> None:
    port = await start()
    drops = [b"GET / HTTP/1.1\r\n", b"Host: x\r\n", *(b"A: b\r\n" for _ in range(40))]
    assert await say(port, *drops, pause_s=0.05) == b""


async def test_a_body_that_drips_is_cut_off(start: Start) -> None:
    port = await start()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    assert b"200 OK" not in await say(port, head, *(b"x" for _ in range(40)), pause_s=0.05)
    assert b"200 OK" in await say(port, head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"x" * 60, b"x" * 40, pause_s=0.05)


async def test_a_body_has_longer_than_the_headers(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_S", 20.0)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
    assert b"200 OK" in await say(await start(), head, *(b"x" for _ in range(20)), pause_s=0.05)


async def test_a_connection_that_is_kept_is_not_kept_for_ever(start: Start) -> None:
    answer = await say(await start(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_long_answer_is_not_cut_off(start: Start) -> None:
    """As the events are: the deadlines are for what comes in."""
    answer = await say(await start(), b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"\r\nx\r\n") == 5


async def test_connections_are_counted_and_one_address_cannot_have_them_all(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_OF_ONE", 3)
    monkeypatch.setattr(server, "CONNECTIONS", 6)
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for proxies, room in (([], 3), (["127.0.0.0/8"], 6)):
        port = await start(proxies)
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(room - 1)]
        assert b"200 OK" in await say(port, request)
        open_ones.append(await asyncio.open_connection("127.0.0.1", port))
        assert await say(port, request) == b""
        open_ones.pop()[1].close()
        async with asyncio.timeout(5):
            while b"200 OK" not in await say(port, request):
                pass
        for _, writer in open_ones:
            writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 500),
        (b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 33_000, 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 33_000 + b"\r\n\r\n", 431),
    ],
    ids=lambda v: v if isinstance(v, int) else "",
)
async def test_every_answer_has_the_headers(start: Start, request_bytes: bytes, status: int, caplog: Any) -> None:
    answer = (await say(await start(), request_bytes)).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    head = answer.partition("\r\n\r\n")[0].lower()
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}".lower() in head
    assert "cache-control: no-store" in head
    assert "a bug" not in answer
