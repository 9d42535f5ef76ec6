"""The console's API, for a program that must go on drawing while it waits for answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from proxy.cli.client import ClientError, authorities, authorization, base_url, json_of, refused

Json = dict[str, Any]  # any: JSON, checked by what reads it

#: The console sends something every 15 s.
_SILENCE_S: Final = 40.0
_PAGE: Final = 1000


class Feed:
    """Every method raises ClientError."""

    def __init__(self, console: str | None = None, token: str | None = None) -> None:
        self.address = base_url(console)
        self._http = httpx.AsyncClient(
            base_url=self.address, headers=authorization(token), timeout=30, trust_env=False, verify=authorities()
        )
        #: What the console's clock is ahead of ours.
        self.skew_s = 0.0

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = await self._http.request(method, f"/api/v1{path}", **arguments)
        except httpx.HTTPError as error:
            raise self._lost(error) from None
        self._compare_clocks(response)
        if response.status_code >= 400:
            raise refused(response)
        return json_of(response, self.address)

    def _lost(self, error: httpx.HTTPError) -> ClientError:
        return ClientError(f"cannot reach the console at {self.address}: {error or type(error).__name__}")

    def _compare_clocks(self, response: httpx.Response) -> None:
        """Time left counts down on our clock; a minute's difference would mislead."""
        try:
            theirs = parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return
        skew = (theirs - datetime.now(UTC)).total_seconds()
        # The header has whole seconds, and the answer took a while.
        self.skew_s = skew if abs(skew) > 2 else 0.0

    async def me(self) -> Json:
        return dict(await self._ask("GET", "/me"))

    async def pending(self) -> list[Json]:
        """All that wait, newest first."""
        found: list[Json] = []
        before: Json = {}
        while True:
            page = await self._ask("GET", "/holds", params={"limit": _PAGE, **before})
            found += page
            if len(page) < _PAGE:
                return found
            before = {"before": page[-1]["id"]}

    async def newest(self, limit: int) -> list[Json]:
        """Ended ones too."""
        return list(await self._ask("GET", "/holds", params={"state": "all", "limit": limit}))

    async def review(self, ids: Sequence[int]) -> Json:
        """What it takes to decide them; of one, everything about it."""
        if len(ids) == 1:
            return dict(await self._ask("GET", f"/holds/{ids[0]}/review"))
        return dict(await self._ask("GET", "/review", params={"ids": ",".join(map(str, ids))}))

    async def settle(self, ids: Sequence[int], approve: bool, answer: Json) -> list[Json]:
        """One result for each, as of `decideTogether`."""
        if len(ids) == 1:
            hold = await self._ask("POST", f"/holds/{ids[0]}/{'approve' if approve else 'deny'}", json=answer)
            return [{**hold, "error": None}]
        return list(await self._ask("POST", "/holds/together", json={**answer, "ids": list(ids), "approve": approve}))

    async def changes(self) -> AsyncGenerator[Json | None]:
        """None once it is connected, when the list should be fetched; then holds as they change, until the connection ends."""
        try:
            async with self._http.stream("GET", "/api/v1/events", timeout=httpx.Timeout(10, read=_SILENCE_S)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise refused(response)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise ClientError(f"what answers at {self.address} is no pghold console")
                yield None
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
        except httpx.HTTPError as error:
            raise self._lost(error) from None
        raise ClientError(f"the console at {self.address} ended the connection")
