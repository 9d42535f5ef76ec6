"""TLS contexts of both legs, and the certificates that decide whether SCRAM's channel binding can pass."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from proxy.config import Settings, Upstream
from proxy.errors import ConfigError

#: "ALPN postgresql" is required of direct TLS connections (protocol-flow.html#PROTOCOL-FLOW-SSL).
ALPN: Final = "postgresql"


def frontend_context(settings: Settings) -> ssl.SSLContext | None:
    """For clients; None when TLS is off. Raises ConfigError."""
    if settings.tls == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(str(settings.tls_cert), str(settings.tls_key))
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {why}; expected PEM files that match") from None
    if settings.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_roots(context, str(settings.tls_ca), "tls_ca")
    return context


def backend_context(upstream: Upstream) -> ssl.SSLContext | None:
    """For the server; None when TLS is off. Raises ConfigError."""
    if upstream.sslmode == "disable" or upstream.socket_path:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.check_hostname = upstream.sslmode == "verify-full"
    if upstream.sslmode in ("verify-ca", "verify-full"):
        if upstream.sslrootcert == "system":
            context.load_default_certs()
        else:
            _load_roots(context, upstream.sslrootcert, "upstream: sslrootcert")
    else:
        context.verify_mode = ssl.CERT_NONE
    if upstream.sslcert:
        try:
            context.load_cert_chain(upstream.sslcert, upstream.sslkey)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"upstream: sslcert, sslkey: {error}; expected PEM files that match") from None
    return context


def _load_roots(context: ssl.SSLContext, path: str, key: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{key} {path}: {error}; expected a PEM file of certificates") from None


def leaf(path: Path) -> bytes:
    """The first certificate of a PEM file, in DER."""
    text = path.read_text()
    end = "-----END CERTIFICATE-----"
    start = text.index("-----BEGIN CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(text[start : text.index(end, start) + len(end)])


DIFFERENT_CERTIFICATES: Final = (
    "clients would see another certificate than the server's, so SCRAM-SHA-256-PLUS, which binds a login to the certificate, could not "
    "be relayed. Use the server's own certificate and key for tls_cert and tls_key; or sslmode=disable on the way to the server; or "
    "tls = disable towards clients"
)
