"""The record of decisions: an append-only, hash-chained log in files; its rotation, signed checkpoints, and the sinks that follow it."""

from proxy.audit.chain import FIRST_PREVIOUS, record_hash
from proxy.audit.log import JsonlAuditLog
from proxy.audit.search import tail
from proxy.audit.verify import VerifyReport, verify

__all__ = ["FIRST_PREVIOUS", "JsonlAuditLog", "VerifyReport", "record_hash", "tail", "verify"]
