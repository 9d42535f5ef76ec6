"""`python -m benchmarks.console` (part of `make bench`): how fast a hold is seen by a person, and what many of them do to the page.

From the client's send to the row being in an open browser's page, in the browser's own time: the client and the browser are on one machine, so
both read one clock (Date.now() and time.time() are the system's). With 1,000 holds waiting: until the list is there, its size, filtering, a new hold
while it is open, and the server's own time for the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser.chromium import PROGRAM, Window, chromium
from tests.browser.crowd import RawClient, crowd
from tests.browsing import Browser as Http
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for

#: Notes for each row when it came into the page; asked for afterwards, so that asking costs nothing while it is measured.
_WATCH = """() => {
  window.seen = {};
  const note = () => { for (const row of document.querySelectorAll('a.row')) window.seen[row.id] ??= Date.now(); };
  note();
  new MutationObserver(note).observe(document.getElementById('list'), { childList: true, subtree: true });
}"""


def latency(browser: Browser, proxy: Pghold, count: int) -> dict[str, float]:
    """Milliseconds from send to seen."""
    window = Window(browser, proxy)
    page = window.live("/holds")
    page.evaluate(_WATCH)
    sent: list[tuple[int, float]] = []
    for index in range(count):
        client = RawClient(proxy.port, f"bench {index}")
        sent_at = client.query(f"DROP TABLE nowhere_{index}")
        wait_for(lambda: bool(proxy.holds()), 10)
        hold_id = proxy.holds()[0]["id"]
        page.wait_for_selector(f"#row-{hold_id}", timeout=10_000)
        sent.append((hold_id, sent_at))
        proxy.deny(hold_id)
        page.wait_for_selector(f"#row-{hold_id}", state="detached", timeout=10_000)
        client.close()
    seen = page.evaluate("window.seen")
    took = sorted(seen[f"row-{hold_id}"] - sent_at * 1000 for hold_id, sent_at in sent)
    window.close()
    return {"p50": statistics.median(took), "p90": took[int(len(took) * 0.9)], "p99": took[int(len(took) * 0.99) - 1], "max": took[-1]}


def many(browser: Browser, proxy: Pghold, count: int) -> dict[str, float]:
    """Milliseconds, and how many elements the page has."""
    window = Window(browser, proxy)
    http = Http(proxy)
    server = []
    for _ in range(10):
        began = time.perf_counter()
        answer = http.http.get("/holds/list")
        server.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200
    began = time.perf_counter()
    page = window.live("/holds")
    loaded = (time.perf_counter() - began) * 1000
    found: dict[str, float] = {
        "server_list_ms": statistics.median(server),
        "list_kib": len(answer.content) / 1024,
        "load_ms": loaded,
        "elements": page.evaluate("document.querySelectorAll('*').length"),
    }
    began = time.perf_counter()
    page.get_by_label("Filter", exact=True).fill(f"table_{count - 1}")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_selector("a.row")
    found["filter_ms"] = (time.perf_counter() - began) * 1000
    page = window.live("/holds")
    page.evaluate(_WATCH)
    client = RawClient(proxy.port, "one more")
    sent_at = client.query("DROP SCHEMA one_more")
    found["new_hold_seen_ms"] = _first_seen(page, "DROP SCHEMA") - sent_at * 1000
    client.close()
    found["refresh_in_page_ms"] = _refresh_ms(page)
    window.close()
    http.http.close()
    return found


def _first_seen(page: Page, text: str) -> float:
    row = page.locator("a.row", has_text=text).first
    row.wait_for(timeout=10_000)
    return float(page.evaluate("id => window.seen[id]", row.get_attribute("id")))


def _refresh_ms(page: Page) -> float:
    """How long the page answers nothing while its list is brought up to date; the middle of several."""
    took = page.evaluate(
        """async () => {
          const took = [];
          for (let turn = 0; turn < 7; turn++) {
            const part = document.getElementById('list');
            const html = await (await fetch(part.dataset.refresh)).text();
            const fresh = new DOMParser().parseFromString(html, 'text/html').body;
            const began = performance.now();
            keepChildren(part, fresh);
            tick();
            part.getBoundingClientRect();
            took.push(performance.now() - began);
          }
          return took;
        }"""
    )
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=100, help="holds whose way to the page is measured")
    parser.add_argument("--many", type=int, default=1000, help="holds that wait at once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not Path(PROGRAM).exists():
        raise SystemExit(f"needs Chromium at {PROGRAM}: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="pghold-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder / "pg", embedded_bindir())
        try:
            results: dict[str, dict[str, float]] = {}
            with chromium() as browser:
                proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", "--log-level", "error")
                results["send_to_seen_ms"] = latency(browser, proxy, options.count)
                proxy.stop()
                for alike in (True, False):
                    proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", "--log-level", "error")
                    clients = crowd(proxy, options.many, alike=alike)
                    results[f"{options.many}_{'alike' if alike else 'different'}"] = many(browser, proxy, options.many)
                    for client in clients:
                        client.close()
                    proxy.stop()
        finally:
            server.stop()
    if options.json:
        print(json.dumps(results))
        return
    for title, figures in results.items():
        print(f"{title:>20}  " + "  ".join(f"{key} {value:,.1f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
