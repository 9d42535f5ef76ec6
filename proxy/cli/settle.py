"""Approving and denying from the command line: one hold, several, or all that belong to one."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import typer

from proxy.cli.client import Client, ClientError, printable

Json = dict[str, Any]  # any: JSON

_FOLLOW_S: Final = 0.3


@dataclass
class Given:
    """What was said on the command line; the rest is asked on a terminal."""

    approve: bool
    phrase: str | None = None
    reason: str | None = None
    object_name: str | None = None
    code: str = ""
    break_glass: bool = False
    suggestion: str = ""
    without_backup: bool = False
    session_minutes: float = 0

    @property
    def is_complete(self) -> bool:
        return self.reason is not None and (not self.approve or self.phrase is not None)

    @property
    def body(self) -> Json:
        if not self.approve:
            return {"reason": self.reason, "suggestion": self.suggestion}
        body: Json = {"reason": self.reason, "phrase": self.phrase, "code": self.code, "break_glass": self.break_glass}
        if self.without_backup:
            body["without_backup"] = True
        if self.session_minutes:
            body["session_grant_s"] = self.session_minutes * 60
        return body


def settle(client: Client, hold_ids: list[int], like: int | None, count: int | None, given: Given, as_json: bool) -> None:
    """Decide, and tell. Raises ClientError and typer.Exit(3) when some were no longer pending."""
    ids = list(dict.fromkeys(hold_ids))
    if bool(ids) == (like is not None):
        raise ClientError("give the ids of holds, or --all-like ID", 2)
    asking = sys.stdin.isatty()
    if not given.is_complete and not asking:
        wanted = "--phrase and --reason are" if given.approve else "--reason is"
        raise ClientError(f"{wanted} needed when there is no terminal to ask on", 2)
    if like is not None:
        ids = client.request("GET", f"/holds/{like}/review")["group"]["ids"]
        if not ids:
            raise ClientError(f"hold {like} is no longer pending", 3)
        count = _counted(client, ids, count, asking)
    if len(ids) == 1:
        _one(client, ids[0], given, as_json)
    else:
        _several(client, ids, count or len(ids), given, as_json)


def _counted(client: Client, ids: list[int], count: int | None, asking: bool) -> int:
    """Who decides on a group says how many it has: nobody approves more than he saw."""
    if count is None:
        if not asking:
            raise ClientError(f"--count is needed when there is no terminal to ask on: they are {len(ids)}", 2)
        from proxy.cli.render import table, terminal

        wanted = set(ids)
        terminal(stderr=True).print(table([h for h in client.request("GET", "/holds", params={"limit": 1000}) if h["id"] in wanted]))
        count = typer.prompt("How many are they", type=int, err=True)
    if count != len(ids):
        raise ClientError(f"they are {len(ids)}, not {count}: nothing was decided", 4)
    return count


def _ask(client: Client, ids: list[int], given: Given) -> None:
    """What is missing, with the hold in sight."""
    from proxy.cli.render import card, terminal, visible

    demands = client.request("GET", f"/holds/{ids[0]}/review" if len(ids) == 1 else "/review", params={"ids": ",".join(map(str, ids))})
    hold = demands.get("hold")
    if hold is not None:
        card(hold, terminal(stderr=True))
        if hold["state"] != "pending" and not (given.approve and demands["retry"]):
            raise ClientError(f"hold {hold['id']} is no longer pending: it is {hold['state']}", 3)
    if demands["why_not"]:
        raise ClientError(printable(demands["why_not"]), 4)
    if given.approve and given.phrase is None:
        given.phrase = typer.prompt(f"Type the approval phrase ({demands['phrase']})", err=True)
    if given.approve and given.object_name is None and demands["names_to_type"]:
        name = visible(demands["names_to_type"][0], False)
        given.object_name = typer.prompt(f"Type the name of what is lost ({name})", err=True)
    if given.reason is None:
        given.reason = typer.prompt("Reason", err=True)
    if given.approve and not given.code and demands["second_factor"]:
        given.code = typer.prompt("A code of your second factor", err=True)


def _one(client: Client, hold_id: int, given: Given, as_json: bool) -> None:
    if not given.is_complete:
        _ask(client, [hold_id], given)
    body = given.body if given.object_name is None else {**given.body, "object_name": given.object_name}
    hold = client.request("POST", f"/holds/{hold_id}/{'approve' if given.approve else 'deny'}", json=body)
    if as_json:
        print(json.dumps(hold))
        return
    if hold.get("retry"):
        print(f"Hold {hold_id} is approved for one retry: nobody waits for it; it runs when it is sent again, until {hold['expires_at']}.")
    else:
        print(f"Hold {hold_id} is {hold['state']}{_still(hold)}.")
        if hold["state"] == "approved" and sys.stdout.isatty():
            _follow(client, hold_id)


def _follow(client: Client, hold_id: int) -> None:
    """On a terminal: how far its copy is, until the statement runs or will not. Ctrl-C only stops looking."""
    from rich.text import Text

    from proxy.cli.render import terminal

    out = terminal()
    with out.status("") as status:
        while True:
            hold = client.request("GET", f"/holds/{hold_id}")
            told = printable((hold["backup"] or {}).get("text") or "")
            if hold["state"] not in ("approved", "protecting"):
                break
            status.update(Text(f"what it destroys is copied first: {told or 'it is being looked what must be copied'}"))
            time.sleep(_FOLLOW_S)
    if told and hold["state"] in ("released", "done", "failed"):
        out.print(f"It runs; {told}.", markup=False, highlight=False)
    elif hold["state"] not in ("released", "done", "failed"):
        out.print(
            f"It did not run: hold {hold_id} is {hold['state']}: {printable(hold['outcome'] or told)}.", markup=False, highlight=False
        )


def _still(hold: Json) -> str:
    missing = hold["approvers_needed"] - len(hold["approvers"])
    return f": {missing} more must approve" if missing > 0 and hold["state"] in ("pending", "expired", "abandoned") else ""


def _several(client: Client, ids: list[int], count: int, given: Given, as_json: bool) -> None:
    if not given.is_complete:
        _ask(client, ids, given)
    if given.without_backup or given.session_minutes:
        raise ClientError("--session-minutes and --without-backup are for one hold at a time", 2)
    results = client.request("POST", "/holds/together", json={**given.body, "ids": ids, "count": count, "approve": given.approve})
    for result in results:
        if as_json:
            print(json.dumps(result))
        elif result["error"]:
            print(f"Hold {result['id']}: {printable(result['error'])}", file=sys.stderr)
        else:
            print(f"Hold {result['id']} is {result['state']}{_still(result)}.")
    failed = [r for r in results if r["error"]]
    if failed:
        # Late, rather than failed, when nothing else is wrong.
        raise typer.Exit(3 if all(r["state"] for r in failed) else 1)
