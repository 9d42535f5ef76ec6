"""Before the decision: whether a copy will be made. So that whoever approves knows what his approval rests on."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.config import Settings
from proxy.control import Control, ControlError
from proxy.model import Hold, HoldState
from proxy.sight_words import size

#: An answer is good for so long.
_KEPT_S: Final = 30.0
#: A page waits for it.
_ANSWER_S: Final = 3.0
_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of an approval.

    Attributes:
        state: "copy": one is made first. "off": none is made. "denied": none can be made, so the statement would not run.
        text: for people.
    """

    state: str
    text: str


class Forecast:
    """Asks the server whether pghold's own connection works, and the disk whether there is room."""

    def __init__(self, settings: Settings, control: Control, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._control = control
        self._now = now
        self._known: dict[tuple[str, str], tuple[float, Outlook]] = {}

    async def of(self, hold: Hold) -> Outlook:
        """Of one that can still be decided. Never raises."""
        settings = self._settings
        if hold.request.protocol == "practice":
            return Outlook("off", "none: this is a hold to practise on, and nothing runs")
        if not settings.backup_before_danger:
            return Outlook("off", "NONE: copies are switched off (backup_before_danger), and what is lost is lost")
        who = hold.request.requester
        key = (who.database, "" if self._control.has_credentials else who.role)
        at, known = self._known.get(key, (0.0, None))
        if known is None or self._now() - at > _KEPT_S:
            known = await self._ask(*key)
            if len(self._known) > _KEPT:
                self._known.clear()
            self._known[key] = self._now(), known
        return known

    async def _ask(self, database: str, role: str) -> Outlook:
        settings = self._settings
        try:
            free = await asyncio.to_thread(free_bytes, settings.backup_folder)
        except OSError as error:
            return Outlook("denied", f"it could not be made, and the statement would not run: {settings.backup_folder}: {error.strerror}")
        if free <= settings.backup_min_free_bytes:
            wanted = size(settings.backup_min_free_bytes)
            return Outlook("denied", f"it could not be made, and the statement would not run: {size(free)} are free, {wanted} must stay so")
        try:
            async with asyncio.timeout(_ANSWER_S), self._control.connection(database, role=role, statement_timeout_s=_ANSWER_S):
                pass
        except ControlError as error:
            return Outlook("denied", f"it could not be made, and the statement would not run: {error}")
        except TimeoutError:
            return Outlook(
                "denied", "it may not be made, and then the statement would not run: the server does not answer pghold's connection"
            )
        proven = size(settings.backup_prove_first_bytes)
        return Outlook("copy", f"made before it runs; up to {proven} of tables it is proven first. {size(free)} are free for it")


async def outlook_as_json(forecast: Forecast, hold: Hold) -> dict[str, str] | None:
    """None for a hold that nobody decides on any more."""
    if hold.state is not HoldState.PENDING:
        return None
    found = await forecast.of(hold)
    return {"state": found.state, "text": found.text}


def disk_of(folder: Path) -> tuple[int, int]:
    """Total and free bytes of the disk that the folder is on, or will be. Raises OSError."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    usage = shutil.disk_usage(place)
    return usage.total, usage.free


def free_bytes(folder: Path) -> int:
    """Raises OSError."""
    return disk_of(folder)[1]
