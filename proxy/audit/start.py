"""The log as the settings want it."""

from __future__ import annotations

from collections.abc import Callable

from policy.masking import mask_literals
from proxy.audit.log import JsonlAuditLog
from proxy.audit.rotation import Rotation
from proxy.config import Settings
from proxy.seams import Clock


def open_audit(settings: Settings, clock: Clock, on_flush: Callable[[float], None]) -> JsonlAuditLog:
    """Raises AuditError."""
    return JsonlAuditLog(
        settings.data_dir / "audit.jsonl",
        clock,
        on_flush,
        rotation=Rotation(settings.audit_rotate_bytes, settings.audit_rotate_days),
        mask=mask_literals if settings.audit_mask == "literals" else None,
    )
