"""Guesses of passwords, counted so that a guesser must wait, and nobody else.

The idea. Failures are counted for each name from each address: five in a row make that address wait for that name, and nobody else. A
guesser with many addresses is met by a second, higher count for the name from everywhere. An attempt counts before its password is
looked at, and is taken back when it was right: a thousand at once are a thousand. Names that do not exist are counted as others are, so that
waiting tells nothing. In memory, in tables that forget the oldest first: after a restart the counting begins anew, which no guesser can cause.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from proxy.seams import Clock, LockedOutError

#: In a row, from one address, before it must wait; each further failure doubles the time.
LOCKOUT_AFTER: Final = 5
LOCKOUT_S: Final = 30.0
LOCKOUT_LIMIT_S: Final = 3600.0
#: In a row, from everywhere. A guesser can make the name's owner wait so long at most, and only for his password.
NAME_LOCKOUT_AFTER: Final = 100
NAME_LOCKOUT_LIMIT_S: Final = 300.0
_FORGOTTEN_S: Final = 86400.0
_KEYS: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    at: datetime
    locked_until: datetime | None


class Attempts:
    """All of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def begin(self, name: str, address: str) -> None:
        """One more; it counts as failed until `succeeded`. Raises LockedOutError."""
        keys = ((name, network(address)), (name, ""))
        now = self._clock.now()
        for key in keys:
            found = self._failures.get(key)
            if found is not None and found.locked_until is not None and found.locked_until > now:
                raise LockedOutError(found.locked_until)
        for key, after, limit_s in zip(keys, (LOCKOUT_AFTER, NAME_LOCKOUT_AFTER), (LOCKOUT_LIMIT_S, NAME_LOCKOUT_LIMIT_S), strict=True):
            self._add(key, after, limit_s, now)

    def _add(self, key: tuple[str, str], after: int, limit_s: float, now: datetime) -> None:
        before = self._failures.pop(key, None)
        count = 1 if before is None or now - before.at > timedelta(seconds=_FORGOTTEN_S) else before.count + 1
        until = None
        if count >= after:
            until = now + timedelta(seconds=min(LOCKOUT_S * 2 ** min(count - after, 12), limit_s))
        self._failures[key] = _Failures(count, now, until)
        if len(self._failures) > _KEYS:
            self._failures.popitem(last=False)

    def locked_until(self, name: str, address: str) -> datetime | None:
        """Until when this name, from there, is not listened to; None when it is."""
        found = [self._failures.get(key) for key in ((name, network(address)), (name, ""))]
        return max((f.locked_until for f in found if f is not None and f.locked_until is not None), default=None)

    def locked(self) -> dict[str, datetime]:
        """Names that are not listened to from somewhere, and until when."""
        now = self._clock.now()
        found: dict[str, datetime] = {}
        for (name, _), failures in self._failures.items():
            if failures.locked_until is not None and failures.locked_until > now:
                found[name] = max(failures.locked_until, found.get(name, failures.locked_until))
        return found

    def succeeded(self, name: str, address: str) -> None:
        """What was counted against this name from there is forgotten."""
        self._failures.pop((name, network(address)), None)
        self._failures.pop((name, ""), None)

    def forget(self, name: str) -> None:
        """By an admin: from everywhere."""
        for key in [k for k in self._failures if k[0] == name]:
            del self._failures[key]


def network(address: str) -> str:
    """What one guesser has for certain: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address or "local"
    if found.version == 6:
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
