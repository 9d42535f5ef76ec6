"""The same for pipes and logs: a line, or a JSON object, for each change of a hold."""

from __future__ import annotations

import json
import sys
import time

from rich.text import Text

from proxy.cli.client import Client, ClientError
from proxy.cli.render import terminal, visible


def follow(client: Client, as_json: bool) -> None:
    """Until interrupted. Raises ClientError when the token is not good."""
    out = terminal()
    if not client.request("GET", "/me").get("backup_before_danger", True):
        print("pghold: NO COPIES are made before a dangerous statement runs (backup_before_danger is false)", file=sys.stderr)
    lost = False
    seen: dict[int, str] = {}
    while True:
        try:
            for hold in client.events():
                if lost:
                    print("pghold: connected again", file=sys.stderr)
                    lost = False
                if seen.get(hold["id"]) == hold["state"]:
                    continue
                seen[hold["id"]] = hold["state"]
                if as_json:
                    print(json.dumps(hold), flush=True)
                    continue
                if hold["state"] == "pending" and out.is_terminal:
                    out.bell()
                statement = visible(" ".join(hold["script"].split()), False)
                who = visible(f"{hold['role']}@{hold['database']}", False)
                ended = f"  [{visible(hold['outcome'], False)}]" if hold["outcome"] else ""
                out.print(Text(f"{hold['id']:>5}  {hold['state']:<10} {who:<20} {statement}{ended}"), overflow="ellipsis", no_wrap=True)
        except ClientError as error:
            if error.exit_code != 1:
                raise
            if not lost:
                print(f"pghold: {error}; trying again", file=sys.stderr)
            lost = True
        time.sleep(1)
