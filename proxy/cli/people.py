"""Two ways to the list of operators: through the running proxy, or in the data directory while no proxy runs."""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from proxy.cli.client import Client, ClientError, data_dir
from proxy.holds_json import iso
from proxy.model import Role

if TYPE_CHECKING:
    from proxy.people import People, Scope

T = TypeVar("T")
Json = dict[str, Any]  # any: JSON


class Directory(Protocol):
    """What `pghold operator` does. Everything raises ClientError with words for people."""

    def list(self) -> list[Json]: ...
    def get(self, name: str) -> Json: ...
    def add(self, operator: Json) -> Json: ...
    def change(self, name: str, changes: Json) -> None: ...
    def remove(self, name: str) -> None: ...
    def add_token(self, name: str, token: str, expires_in_s: float | None) -> Json: ...
    def revoke_token(self, name: str, token: str) -> None: ...
    def asks_for_current(self, name: str) -> bool: ...
    def set_password(self, name: str, password: str, current: str) -> None: ...
    def is_me(self, name: str) -> bool: ...
    def begin_device(self, name: str) -> tuple[str, str]: ...
    def confirm_device(self, name: str, secret: str, code: str) -> None: ...
    def remove_device(self, name: str, code: str) -> None: ...


def directory(console: str | None, token: str | None) -> Directory:
    """The proxy that is named or runs on the data directory; else the data directory itself."""
    place = data_dir()
    if console or token or _in_use(place):
        return Remote(Client(console, token))
    return Direct(place)


def _in_use(data_dir: Path) -> bool:
    """Whether a pghold runs on it: app.py keeps its lock as long as it does."""
    try:
        with (data_dir / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise ClientError(f"{data_dir}: {error.strerror}") from None
    return False


class Remote:
    """Through the API of a proxy that runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _ask(self, method: str, *path: str, **arguments: Any) -> Any:
        return self._client.request(method, "/operators" + "".join(f"/{quote(part, safe='')}" for part in path), **arguments)

    def list(self) -> list[Json]:
        return list(self._ask("GET"))

    def get(self, name: str) -> Json:
        return dict(self._ask("GET", name))

    def add(self, operator: Json) -> Json:
        return dict(self._ask("POST", json=operator))

    def change(self, name: str, changes: Json) -> None:
        self._ask("PATCH", name, json=changes)

    def remove(self, name: str) -> None:
        self._ask("DELETE", name)

    def add_token(self, name: str, token: str, expires_in_s: float | None) -> Json:
        return dict(self._ask("POST", name, "tokens", json={"name": token, "expires_in_s": expires_in_s}))

    def revoke_token(self, name: str, token: str) -> None:
        self._ask("DELETE", name, "tokens", token)

    def is_me(self, name: str) -> bool:
        return bool(self._client.request("GET", "/me")["name"] == name)

    def asks_for_current(self, name: str) -> bool:
        return self.is_me(name) and bool(self.get(name)["has_password"])

    def set_password(self, name: str, password: str, current: str) -> None:
        self._ask("PUT", name, "password", json={"password": password, "current": current})

    def begin_device(self, name: str) -> tuple[str, str]:
        begun = self._ask("POST", name, "second-factor")
        return begun["secret"], begun["uri"]

    def confirm_device(self, name: str, secret: str, code: str) -> None:
        self._ask("PUT", name, "second-factor", json={"secret": secret, "code": code})

    def remove_device(self, name: str, code: str) -> None:
        self._ask("DELETE", name, "second-factor", json={"code": code})


class Direct:
    """In the store, with the proxy's lock and the audit log open meanwhile, so that no proxy starts in between."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        try:
            owner = data_dir.stat().st_uid
        except FileNotFoundError:
            owner = os.geteuid()
        if os.geteuid() == 0 and owner != 0:
            # Files that root made could not be opened by the proxy afterwards.
            raise ClientError(f"{data_dir} belongs to another user (id {owner}): run this as that user")
        print(f"pghold: no pghold runs on {data_dir}: working in it directly", file=sys.stderr)

    def _with(self, work: Callable[[People], Awaitable[T]]) -> T:
        from proxy.operators import OperatorError

        try:
            return asyncio.run(self._go(work))
        except OperatorError as error:
            raise ClientError(str(error)) from None

    async def _go(self, work: Callable[[People], Awaitable[T]]) -> T:
        from proxy.audit import JsonlAuditLog
        from proxy.clock import SystemClock
        from proxy.operators import SqlOperators
        from proxy.people import People
        from proxy.store import open_store

        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        clock = SystemClock()
        with (self._data_dir / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClientError("a pghold has just started: try again") from None
            async with AsyncExitStack() as stack:
                store = await open_store(self._data_dir)
                stack.push_async_callback(store.close)
                audit = JsonlAuditLog(self._data_dir / "audit.jsonl", clock)
                stack.push_async_callback(audit.close)
                return await work(People(SqlOperators(store, clock), audit))

    def list(self) -> list[Json]:
        from proxy.people import person_as_json

        return [person_as_json(p) for p in self._with(lambda people: people.everybody())]

    def get(self, name: str) -> Json:
        from proxy.people import person_as_json

        return person_as_json(self._with(lambda people: people.find(name)))

    def add(self, operator: Json) -> Json:
        name, role = operator["name"], Role(operator["role"])
        return {"name": name, "token": self._with(lambda people: people.add(_who(), name, role, _scope(operator)))}

    def change(self, name: str, changes: Json) -> None:
        if "disabled" in changes:
            self._with(lambda people: people.disable(_who(), name, changes["disabled"]))
            return
        role = Role(changes["role"]) if "role" in changes else None
        self._with(lambda people: people.change(_who(), name, role, _scope(changes)))

    def remove(self, name: str) -> None:
        self._with(lambda people: people.remove(_who(), name))

    def add_token(self, name: str, token: str, expires_in_s: float | None) -> Json:
        made = self._with(lambda people: people.add_token(_who(), name, token, expires_in_s))
        expires_at = None if expires_in_s is None else iso(datetime.now(UTC) + timedelta(seconds=expires_in_s))
        return {"operator": name, "name": token, "token": made, "expires_at": expires_at}

    def revoke_token(self, name: str, token: str) -> None:
        self._with(lambda people: people.revoke_token(_who(), name, token))

    def is_me(self, name: str) -> bool:
        """Whoever can write the data directory is nobody in the list; no code is asked of him."""
        return False

    def asks_for_current(self, name: str) -> bool:
        return False

    def set_password(self, name: str, password: str, current: str) -> None:
        self._with(lambda people: people.set_password(_who(), name, password))

    def begin_device(self, name: str) -> tuple[str, str]:
        from pyotp import TOTP

        secret = self._with(lambda people: people.begin_second_factor(name))
        return secret, TOTP(secret).provisioning_uri(name=name, issuer_name="pghold")

    def confirm_device(self, name: str, secret: str, code: str) -> None:
        if not self._with(lambda people: people.confirm_second_factor(_who(), name, secret, code)):
            raise ClientError("the code does not fit; try the next one", 4)

    def remove_device(self, name: str, code: str) -> None:
        self._with(lambda people: people.remove_second_factor(_who(), name))


def _scope(given: Json) -> Scope:
    from proxy.people import Scope

    return Scope(given.get("databases"), given.get("max_severity"), given.get("database_roles"), given.get("may_skip_backup"))


def _who() -> str:
    """For the record: no operator, but somebody who can write the data directory."""
    return f"{getpass.getuser()} (data directory)"
