"""What the pages of one part of the console have in common."""

from __future__ import annotations

from proxy.console.signin import SignIn
from proxy.console.views import Views
from proxy.services import Services


class Section:
    """A group of pages; `routes()` of each tells which."""

    def __init__(self, services: Services, signin: SignIn, views: Views) -> None:
        self._services = services
        self._signin = signin
        self._views = views
