"""Holds, routes and services for the tests of notifications."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.model import Decision, HeldFinding, HeldStatement, Hold, HoldId, HoldRequest, HoldState, Requester, SessionId
from proxy.notify.routes import Route
from proxy.notify.senders import DeliveryError, Parcel

NOW = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


class FixedClock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


def a_hold(number: int = 1, script: str = "DROP TABLE account", **changes: Any) -> Hold:
    who = Requester(
        SessionId(1), changes.pop("role", "app"), changes.pop("database", "shop"), changes.pop("application", "sync"), "192.0.2.7:5000"
    )
    request = HoldRequest(
        requester=who,
        environment=changes.pop("environment", "production"),
        script=script,
        script_sha256="0" * 64,
        rule_ids=("drop-table",),
        findings=(HeldFinding("drop-table", "DROP TABLE account", "", 0, (0, 4), ("account",), "", "high", True),),
        statements=(HeldStatement("DROP TABLE", script, ("account",)),),
        relations=("account",),
        protocol="simple",
        in_transaction=False,
        expires_in_s=600,
        severity=changes.pop("severity", "high"),
    )
    return replace(Hold(HoldId(number), HoldState.PENDING, request, NOW, NOW + timedelta(seconds=600)), **changes)


def decided(hold: Hold, approved: bool = True, **changes: Any) -> Hold:
    decision = replace(Decision(approved, "ana", "agreed", NOW, approvers=("ana",)), **changes)
    return replace(hold, state=HoldState.APPROVED if approved else HoldState.DENIED, decision=decision)


def a_route(**settings: Any) -> Route:
    if "urls" not in settings:
        settings = {"webhook": "https://hooks.example.com/x", "secret": "0123456789abcdef", **settings}
    return Route.model_validate({"name": "ops", "digest_s": 0, "retry_from_s": 0.001, "retry_up_to_s": 0.001, **settings})


class FakeSender:
    """Keeps what it is given; `problems` are the reasons why the next tries fail."""

    def __init__(self) -> None:
        self.sent: list[Parcel] = []
        self.tried: list[Parcel] = []
        self.problems: list[str] = []

    async def send(self, parcel: Parcel) -> None:
        self.tried.append(parcel)
        if self.problems:
            raise DeliveryError(self.problems.pop(0))
        self.sent.append(parcel)

    def topics(self) -> list[str]:
        return [str(p.message.topic) for p in self.sent]
