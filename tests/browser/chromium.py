"""Chromium without a screen, driven by playwright, and a window of it that keeps what should never be there.

Debian's program is used, none is downloaded. A window notes errors and warnings of the page's own console (violations of the content policy
among them), dialogs, failing requests, and every request to another host; `Window.problems` must stay empty.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, sync_playwright

from tests.browsing import Browser as Http
from tests.servers import Pghold

PROGRAM = os.environ.get("PGHOLD_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
AXE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
#: A page that says no is an answer; Chromium notes it as an error.
_ANSWERED_NO = re.compile(r"Failed to load resource: the server responded with a status of (4\d\d) ")
#: What Chromium says of a stream or a part when the server is gone, which tests of restarts bring about.
_UNREACHABLE = re.compile(r"Failed to load resource: net::ERR_|net::ERR_(CONNECTION|INCOMPLETE|ABORTED)|^htmx:(afterRequest|sendError)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser process."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(_OPTIONS))
        yield browser
        browser.close()


class Window:
    """One browser of one person: a context of its own with one page.

    Args:
        token: signs in with it; "" is the first operator's, None nobody.
        url: of the console, when not the proxy's own.
        offline: whether the server may be gone for a while.
        options: of playwright's new_context (viewport, color_scheme, java_script_enabled, …).
    """

    def __init__(
        self, browser: Browser, proxy: Pghold, token: str | None = "", *, url: str = "", offline: bool = False, **options: Any
    ) -> None:
        self.proxy = proxy
        self.problems: list[str] = []
        self._offline = offline
        self.url = url or proxy.console
        self.context: BrowserContext = browser.new_context(**{"base_url": self.url, "viewport": DESKTOP, **options})
        self.context.set_default_timeout(10_000)
        if token is not None:
            self.sign_in(token or proxy.token)
        # What a hostile text would call if it were ever run.
        self.context.expose_function("pwned", lambda *told: self.problems.append(f"a text was run: {told}"))
        self.context.on("console", self._console)
        self.context.on("dialog", self._dialog)
        self.context.on("weberror", lambda error: self.problems.append(f"error: {error.error}"))
        self.context.on("request", lambda request: self._request(request.url))
        self.page: Page = self.context.new_page()
        self.answers_dialogs = False

    def sign_in(self, token: str) -> None:
        """Without the form, which has tests of its own."""
        http = Http(self.proxy, token)
        cookies = [{"name": c.name, "value": c.value or "", "url": self.url} for c in http.http.cookies.jar]
        self.context.clear_cookies()
        self.context.add_cookies(cookies)  # type: ignore[arg-type]  # a typed dict of playwright's

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning") or _ANSWERED_NO.search(message.text):
            return
        if self._offline and _UNREACHABLE.search(message.text):
            return
        self.problems.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        if self.answers_dialogs and dialog.type == "confirm":
            dialog.accept()
            return
        self.problems.append(f"a dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not url.startswith((self.url + "/", "data:")):
            self.problems.append(f"a request to {url}")

    def go(self, path: str) -> Page:
        """Open a page; with a script, wait until its stream of events is there."""
        self.page.goto(path)
        return self.page

    def live(self, path: str) -> Page:
        """Open a page and wait until the server has said hello on its stream of events: what happens from here on is seen."""
        self.page.goto(path)
        self.page.wait_for_selector("body[data-connected]")
        return self.page

    def close(self) -> None:
        self.context.close()


def violations(browser: Browser, proxy: Pghold, path: str, token: str = "", **options: Any) -> list[str]:
    """What axe-core finds serious or critical on a page. The content policy is off in this context, as axe is a script of its own."""
    window = Window(browser, proxy, token, bypass_csp=True, **options)
    try:
        return run_axe(window.live(path))
    finally:
        window.close()


def run_axe(page: Page) -> list[str]:
    """On the page as it is; its context must bypass the content policy."""
    page.evaluate(AXE.read_text() + "\n0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['impact']} {v['id']}: {v['help']}: {json.dumps([n['target'] for n in v['nodes']][:5])}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
