"""Telling people: what is told, to which routes, in which words, and how it gets there.

Nothing here decides anything, and nothing waits for it: a service that is slow, hangs or is gone costs a message, never a hold, a
decision or the relay. What could not be delivered stays in the store, is shown under Health, and is on record.
"""

from proxy.notify.notifier import Notifier, RouteState
from proxy.notify.outbox import Letter
from proxy.notify.routes import Route, load_routes

__all__ = ["Letter", "Notifier", "Route", "RouteState", "load_routes"]
