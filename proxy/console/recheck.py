"""Whether somebody who listens to events may still do so. The request was allowed when it began; it may last for days."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import HTTPException

from proxy.console.signin import NotAllowedError, NotSignedInError
from proxy.seams import StoreError
from proxy.services import Services

#: Who it is is looked at again so often, and before the next event when an operator was changed by this process.
RECHECK_S: Final = 15.0


class Recheck:
    """One listener. `prove` does again what the request's beginning did, and raises when it would not do now."""

    def __init__(self, services: Services, prove: Callable[[], Awaitable[object]]) -> None:
        self._services = services
        self._prove = prove
        self._generation = services.operators.generation
        self._at = time.monotonic()

    async def still_in(self) -> bool:
        generation = self._services.operators.generation
        if generation == self._generation and time.monotonic() - self._at < RECHECK_S:
            return True
        self._generation, self._at = generation, time.monotonic()
        try:
            await self._prove()
        except (NotSignedInError, NotAllowedError, HTTPException, StoreError):
            # Safety: in doubt the stream ends; a browser comes again by itself, and is asked who it is.
            return False
        return True
