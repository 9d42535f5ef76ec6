"""The psql console: database `pghold` on the proxy's own port, where operators see and decide holds."""

from proxy.admin.console import serve_admin

__all__ = ["serve_admin"]
