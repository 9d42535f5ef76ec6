"""`pghold watch` as a process on a terminal of its own: the bytes that reach it, and the state it leaves it in."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, wait_for


class Terminal:
    """A pseudo-terminal with a program on it; all that it writes is kept."""

    def __init__(self, proxy: Pghold, *options: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORTERM") and not k.startswith("PGHOLD_")}
        known = {"TERM": "xterm-256color", "PGHOLD_CONSOLE": proxy.console, "PGHOLD_TOKEN": proxy.token}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "watch", *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**plain, **known, **environment},
            start_new_session=True,
        )
        os.close(slave)
        self.written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self.written += data

    @property
    def text(self) -> str:
        """What was written, without what moves and colours."""
        return re.sub(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|[()][AB0]|[=>])", "", self.written.decode("utf-8", "replace"))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait(self, text: str) -> None:
        try:
            wait_for(lambda: text in self.text, 20)
        except TimeoutError:
            raise TimeoutError(f"no {text!r} in {self.text[-2000:]!r}") from None

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._reader.join(5)
        os.close(self._master)
        return code


@pytest.fixture
def hold(pghold: Pghold, table: str) -> Iterator[tuple[Client, int]]:
    client = Client(pghold, f"TRUNCATE {table} /* \x1b]0;owned\x07\x1b[2J \u202e */")
    hold_id = pghold.wait_for_hold()["id"]
    yield client, hold_id
    pghold.deny(hold_id)
    client.join(10)


def test_it_approves_leaves_and_gives_the_terminal_back(
    pghold: Pghold, postgres18: PostgresServer, table: str, hold: tuple[Client, int]
) -> None:
    client, hold_id = hold
    terminal = Terminal(pghold)
    try:
        terminal.wait("TRUNCATE account")
        terminal.type("a")
        terminal.wait("Type the name of what is lost")
        for text in (table, "by hand", "", PHRASE):  # no grant for the session
            terminal.type(f"{text}\r")
        pghold.wait_for_state(hold_id, "done")
        client.join(10)
        assert client.error is None
        assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(0,)]
        terminal.wait("Nothing waits.")
        terminal.type("q")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()
    assert terminal.written.count(b"\x1b[?1049h") == terminal.written.count(b"\x1b[?1049l") == 1, "the other screen is left as it was"
    assert b"\x1b]0;owned" not in terminal.written
    assert "\u202e" not in terminal.written.decode()


def test_a_new_hold_rings_the_bell(pghold: Pghold, table: str) -> None:
    terminal = Terminal(pghold)
    try:
        terminal.wait("Nothing waits.")
        before = terminal.written.count(b"\x07")
        client = Client(pghold, f"DELETE FROM {table}")
        terminal.wait("1 new")
        assert terminal.written.count(b"\x07") == before + 1
        pghold.deny(pghold.wait_for_hold()["id"])
        client.join(10)
    finally:
        terminal.close()


def test_without_colours_there_are_none(pghold: Pghold, hold: tuple[Client, int]) -> None:
    terminal = Terminal(pghold, NO_COLOR="1")
    try:
        terminal.wait("TRUNCATE account")
        terminal.type("\r")
        terminal.wait("the script, as it was sent")
    finally:
        terminal.close()
    codes = {code for found in re.findall(rb"\x1b\[([0-9;]*)m", terminal.written) for code in found.split(b";")}
    assert codes, "bold and reversed are still there"
    assert not codes & {b"%d" % n for n in [*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108)]}


def test_plain_prints_lines(pghold: Pghold, hold: tuple[Client, int]) -> None:
    terminal = Terminal(pghold, "--plain", columns=120)
    try:
        terminal.wait("TRUNCATE account")
    finally:
        terminal.close()
    assert b"\x1b[?1049h" not in terminal.written
    assert b"\x1b]0;owned" not in terminal.written


def test_a_pipe_gets_lines(pghold: Pghold, hold: tuple[Client, int]) -> None:
    environment = {**os.environ, "PGHOLD_CONSOLE": pghold.console, "PGHOLD_TOKEN": pghold.token}
    process = subprocess.Popen([sys.executable, "-m", "proxy", "watch", "--json"], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        assert f'"id": {hold[1]}' in process.stdout.readline()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_a_wrong_token_is_one_line(pghold: Pghold) -> None:
    terminal = Terminal(pghold, PGHOLD_TOKEN="pghold_wrong")
    try:
        assert terminal.process.wait(20) == 4
    finally:
        terminal.close()
    assert "send a known operator's token" in terminal.text


def test_approve_asks_on_a_terminal(pghold: Pghold, hold: tuple[Client, int], table: str) -> None:
    """The same for the command that decides one hold: what is lost is asked by name."""
    client, hold_id = hold
    master, slave = pty.openpty()
    environment = {**os.environ, "PGHOLD_CONSOLE": pghold.console, "PGHOLD_TOKEN": pghold.token, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "proxy", "approve", str(hold_id)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    os.write(master, f"{PHRASE}\n{table}\nby hand\n".encode())
    seen = b""
    try:
        while data := os.read(master, 65536):
            seen += data
    except OSError:
        pass  # the other side is closed
    assert process.wait(20) == 0, seen
    os.close(master)
    assert f"Hold {hold_id} is approved." in seen.decode()
    assert b"\x1b]0;owned" not in seen
    client.join(10)
    assert client.error is None or not isinstance(client.error, psycopg.errors.InsufficientPrivilege)
