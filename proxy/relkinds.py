"""Kinds of relations, in words, by pg_class.relkind (catalog-pg-class.html)."""

from __future__ import annotations

from typing import Final

RELATION_KINDS: Final = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "i": "index",
    "I": "partitioned index",
    "S": "sequence",
    "t": "TOAST table",
    "c": "composite type",
    "f": "foreign table",
}
