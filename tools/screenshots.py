"""`make screenshots`: the pictures in docs/images, of the real console over a real server, so that they can be made again."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import PHONE, Window, chromium
from tests.browser.scene import build, held, operator
from tests.browsing import Browser as Http
from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for

FOLDER = Path(__file__).parent.parent / "docs" / "images"
WIDE = {"width": 1200, "height": 820}
POLICY = """\
[[policy.approvals]]
rules = "drop-schema"
approvers = 2
"""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pghold-pictures-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder / "pg", embedded_bindir())
        try:
            (folder / "pghold").mkdir()
            (folder / "pghold.toml").write_text(POLICY)
            proxy = Pghold(
                f"postgresql://127.0.0.1:{server.port}/postgres", "--policy", str(folder / "pghold.toml"), "--log-level", "error",
                folder=folder / "pghold", backups=True, environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0"},
            )  # fmt: skip
            try:
                _take_all(proxy, server)
            finally:
                proxy.stop()
        finally:
            server.stop()


def _take_all(proxy: Pghold, server: PostgresServer) -> None:
    clients, holds = _scene(proxy, server)
    try:
        with chromium() as browser:
            # The first: each picture signs in anew, which is on record.
            _take(browser, proxy, "audit", "/audit", viewport={"width": 1200, "height": 680})
            _take(browser, proxy, "holds", "/holds")
            _take(browser, proxy, "hold", f"/holds/{holds['schema']}", color_scheme="dark")
            _take(browser, proxy, "hold-phone", f"/holds/{holds['update']}", viewport=PHONE)
            _take(browser, proxy, "together", f"/holds/together?ids={holds['together']}")
            _take(browser, proxy, "activity", "/activity")
            _take(browser, proxy, "backups", "/backups")
    finally:
        for hold in proxy.holds():
            proxy.deny(hold["id"], "the pictures are taken")
        for client in clients:
            client.join(10)


def _take(browser: Browser, proxy: Pghold, name: str, path: str, **options: object) -> None:
    window = Window(browser, proxy, **{"viewport": WIDE, **options})
    page = window.live(path)
    for part in page.locator("[data-load]").all():
        part.locator(".good, .problem").first.wait_for()
    file = FOLDER / f"{name}.png"
    page.screenshot(path=file)
    assert not window.problems, window.problems
    window.close()
    print(f"{file.name}: {file.stat().st_size // 1024} KiB", file=sys.stderr)


def _copy_all(proxy: Pghold) -> None:
    """Of each database, proven: the page of the copies is no picture of an empty list."""
    for database in ("postgres", "shop"):
        proxy.http.post("/api/v1/backups", json={"database": database}).raise_for_status()
    wait_for(lambda: [b["proof"] for b in proxy.http.get("/api/v1/backups").json()] == ["equal"] * 2, 60)


def _scene(proxy: Pghold, server: PostgresServer) -> tuple[list[Client], dict[str, str]]:
    """An ordinary bad night."""
    build(server)
    server.sql(
        "CREATE SCHEMA billing; CREATE TABLE billing.invoice (id int PRIMARY KEY, total numeric); CREATE VIEW billing.open AS SELECT id FROM billing.invoice"
    )
    server.sql("INSERT INTO billing.invoice SELECT g, g FROM generate_series(1, 41220) g; ANALYZE billing.invoice")
    for role in ("app", "deploy", "ines"):
        server.sql(f"CREATE ROLE {role} LOGIN SUPERUSER")
    server.sql("CREATE DATABASE shop")
    build_shop = ("Cards", "Users", "Orders", "Invoices", "Carts", "Reviews")
    for table in build_shop:
        server.sql(f'CREATE TABLE "{table}" ()', "shop")
    _copy_all(proxy)
    admin = Http(proxy)
    ana = Http(proxy, operator(admin, "ana"))
    shop = {"dbname": "shop"}
    for script, options in (("SELECT 1", shop), ("SELECT now()", shop)) * 12:
        with proxy.connect(**options) as connection:
            connection.execute(script)  # type: ignore[call-overload]
    for script, approve, reason in (
        ('DELETE FROM "Payments"', False, "which ones? add a WHERE"),
        ('TRUNCATE "Sessions"', True, "runbook 12: sessions are rebuilt"),
    ):
        client, hold_id = held(proxy, script, user="ines", application_name="psql")
        fields = {"action": "approve" if approve else "deny", "reason": reason}
        if approve:
            ana.approve(hold_id, **fields, object_name='"Sessions"')
        else:
            ana.post(f"/holds/{hold_id}/decide", **fields)
        client.join(10)
    clients = [
        Client(proxy, f'DROP TABLE IF EXISTS "{table}" CASCADE', user="app", application_name="shop-api sequelize", **shop)
        for table in build_shop
    ]
    wait_for(lambda: len(proxy.holds()) == len(clients), 10)
    together = ",".join(sorted(str(h["id"]) for h in proxy.holds()))
    holds = {"together": together}
    for key, script, options in (
        (
            "update",
            'UPDATE "Payments" SET tenant = 0 -- only the \u202etest\u200b tenant',
            {"user": "ines", "application_name": "DBeaver 24.1"},
        ),
        (
            "schema",
            "-- old billing, moved to its own database\nDROP SCHEMA billing CASCADE",
            {"user": "deploy", "application_name": "migrate 4.2"},
        ),
    ):
        client, hold_id = held(proxy, script, **options)
        clients.append(client)
        holds[key] = str(hold_id)
    Http.close_all()
    return clients, holds


if __name__ == "__main__":
    main()
