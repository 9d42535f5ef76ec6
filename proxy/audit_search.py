"""The search's old place; it is in proxy/audit/search.py."""

from proxy.audit.chain import Record
from proxy.audit.search import COLUMNS, Query, as_csv, search

__all__ = ["COLUMNS", "Query", "Record", "as_csv", "search"]
