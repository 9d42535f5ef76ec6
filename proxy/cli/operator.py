"""pghold operator: who may decide, and how he proves who he is.

While pghold runs, it makes the changes itself, asked over its API with the caller's token. While it does not run, they are made in the
data directory, as a way back in when nobody can sign in any more. Both are on record in the audit log.
"""

from __future__ import annotations

import getpass
import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.holds import ConsoleOption, TokenOption
from proxy.model import Role

if TYPE_CHECKING:
    from proxy.cli.people import Directory

NameArgument = Annotated[str, typer.Argument(help="The operator's name; also the user at the psql console.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
DatabaseOption = Annotated[
    list[str] | None, typer.Option("--database", help="Decides for these only (patterns); repeat it. '' for all.", show_default=False)
]
SeverityOption = Annotated[
    str | None, typer.Option("--max-severity", help="Decides up to low, medium, high or critical. '' for any.", show_default=False)
]
OwnRoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--database-role", help="Statements of this database role are his own, never decided by him; repeat it.", show_default=False
    ),
]
BackupOption = Annotated[
    bool | None, typer.Option("--may-skip-backup/--needs-backup", help="Whether he may approve without a copy.", show_default=False)
]
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def add_to(app: typer.Typer) -> None:
    operators = typer.Typer(help="Who may decide, and how they sign in.", no_args_is_help=True, rich_markup_mode=None)
    for name, command in (
        ("add", add),
        ("list", list_all),
        ("change", change),
        ("token", token),
        ("tokens", tokens),
        ("passwd", passwd),
        ("totp", totp),
        ("disable", disable),
        ("enable", enable),
        ("remove", remove),
    ):
        operators.command(name)(command)
    app.add_typer(operators, name="operator")


def _directory(console: str | None, token: str | None) -> Directory:
    from proxy.cli.people import directory

    return directory(console, token)


def _scope(
    databases: list[str] | None, severity: str | None, database_roles: list[str] | None, may_skip_backup: bool | None
) -> dict[str, Any]:
    """What was given, as the API takes it."""
    from policy.verdict import Severity

    if severity not in (None, "", *(s.label for s in Severity)):
        raise typer.BadParameter(f"expected {', '.join(s.label for s in Severity)}", param_hint="--max-severity")
    given = {
        "databases": None if databases is None else [d for d in databases if d],
        "max_severity": severity,
        "database_roles": None if database_roles is None else [r for r in database_roles if r],
        "may_skip_backup": may_skip_backup,
    }
    return {key: value for key, value in given.items() if value is not None}


def lifetime(text: str) -> float | None:
    """Seconds of "30d", "12h", "90m", "2w", "1y"; None of "never". Raises typer.BadParameter."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,6})([mhdwy])", text.strip())
    if match is None or not 0 < (seconds := int(match[1]) * _UNITS[match[2]]) <= 3650 * 86400:
        raise typer.BadParameter(f"{text}: expected such as 90m, 12h, 30d, 2w, 1y (ten years at most), or never", param_hint="--expires")
    return float(seconds)


def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="viewer and auditor read; approver decides; admin also kills and reloads.")] = Role.APPROVER,
    database: DatabaseOption = None,
    max_severity: SeverityOption = None,
    database_role: OwnRoleOption = None,
    may_skip_backup: BackupOption = None,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Add an operator. Prints a token, once: it is the password until one is set."""
    scope = _scope(database, max_severity, database_role, may_skip_backup)
    made = _directory(console, token).add({"name": name, "role": str(role), **scope})
    print(json.dumps(made) if as_json else made["token"])


def list_all(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """List the operators."""
    people = _directory(console, token).list()
    if as_json:
        for person in people:
            print(json.dumps(person))
        return
    if not sys.stdout.isatty():
        for person in people:
            print(f"{person['name']}\t{person['role']}\t{_remarks(person)}")
        return
    from rich.table import Table
    from rich.text import Text

    from proxy.cli.render import terminal

    table = Table("NAME", "ROLE", "REMARKS", box=None, header_style="bold", pad_edge=False)
    for person in people:
        table.add_row(person["name"], person["role"], Text(_remarks(person)), style="dim" if person["disabled"] else "")
    terminal().print(table)


def _remarks(person: dict[str, Any]) -> str:
    said = ["disabled"] if person["disabled"] else []
    if person["databases"]:
        said.append(f"for {', '.join(person['databases'])}")
    if person["max_severity"]:
        said.append(f"up to {person['max_severity']}")
    if person["database_roles"]:
        said.append(f"also {', '.join(person['database_roles'])}")
    said += [
        word
        for word, is_so in (
            ("may skip backups", person["may_skip_backup"]),
            ("second factor", person["second_factor"]),
            ("password", person["has_password"]),
            (person["source"], person["source"] != "local"),
            (f"locked until {person['locked_until']}", person["locked_until"]),
        )
        if is_so
    ]
    from proxy.cli.render import visible

    return visible("; ".join([*said, f"{len(person['tokens'])} token{'' if len(person['tokens']) == 1 else 's'}"]), False)


def change(
    name: NameArgument,
    role: Annotated[Role | None, typer.Option(help="Another role.", show_default=False)] = None,
    database: DatabaseOption = None,
    max_severity: SeverityOption = None,
    database_role: OwnRoleOption = None,
    may_skip_backup: BackupOption = None,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Another role or scope; what is not given stays, tokens and password too."""
    given = _scope(database, max_severity, database_role, may_skip_backup)
    if role is not None:
        given["role"] = str(role)
    if not given:
        raise typer.BadParameter("nothing to change was given")
    _directory(console, token).change(name, given)


def token(
    name: NameArgument,
    token_name: Annotated[str, typer.Option("--name", help="What the token is for, such as ci.")],
    expires: Annotated[str, typer.Option(help="How long it is good for: 90m, 12h, 30d, 2w, 1y, or never.")] = "90d",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the token of that name back instead.")] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Make a further API token, printed once; in psql it is the password of user NAME/TOKEN-NAME. Or take one back."""
    seconds = lifetime(expires)
    people = _directory(console, token)
    if revoke:
        people.revoke_token(name, token_name)
        return
    made = people.add_token(name, token_name, seconds)
    print(json.dumps(made) if as_json else made["token"])


def tokens(name: NameArgument, as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """List an operator's tokens: name, when it ends, when it was used last."""
    for one in _directory(console, token).get(name)["tokens"]:
        if as_json:
            print(json.dumps(one))
        else:
            print(f"{one['name']}\texpires {one['expires_at'] or 'never'}\tlast used {one['last_used_at'] or 'never'}")


def passwd(name: NameArgument, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Set a password: asked for on a terminal, else the first line of standard input. Signs all browsers of that operator out."""
    people = _directory(console, token)
    current = ""
    if people.asks_for_current(name):
        current = _secret("Current password: ")
    password = _secret("New password: ")
    if sys.stdin.isatty() and _secret("Again: ") != password:
        from proxy.cli.client import ClientError

        raise ClientError("the two passwords differ: nothing was changed")
    people.set_password(name, password, current)


def _secret(prompt: str) -> str:
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def totp(
    name: NameArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the device: one's own with a code of it, others' as an admin.")] = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Set up one's second factor: shows a secret for an authenticator, and asks for a code of it."""
    people = _directory(console, token)
    if remove:
        people.remove_device(name, _code() if people.is_me(name) else "")
        return
    secret, uri = people.begin_device(name)
    if sys.stderr.isatty():
        import segno

        segno.make(uri, error="m").terminal(out=sys.stderr, compact=True)
    print(f"secret: {secret}\n{uri}", file=sys.stderr)
    people.confirm_device(name, secret, _code())
    print(f"{name} has a second factor now.")


def _code() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("A code of the device", err=True))
    return sys.stdin.readline().strip()


def disable(name: NameArgument, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """His tokens, password and open browsers are good for nothing, at once."""
    _directory(console, token).change(name, {"disabled": True})


def enable(name: NameArgument, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Let a disabled operator in again; ends a lock after wrong passwords, too."""
    _directory(console, token).change(name, {"disabled": False})


def remove(name: NameArgument, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Remove an operator and all that is his: tokens stop working at once."""
    _directory(console, token).remove(name)
