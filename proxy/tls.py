"""TLS contexts of both legs, and the certificates that decide whether SCRAM's channel binding can pass."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proxy.config import Settings, Upstream
from proxy.errors import ConfigError

#: "ALPN postgresql" is required of direct TLS connections (protocol-flow.html#PROTOCOL-FLOW-SSL).
ALPN: Final = "postgresql"
#: Of a client's certificate, which its CA vouches for, and still goes onto pages.
_NAME_CHARACTERS: Final = 256
_EMAILS: Final = 10


def frontend_context(settings: Settings) -> ssl.SSLContext | None:
    """For clients; None when TLS is off. Raises ConfigError."""
    if settings.tls == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    _load_chain(context, settings.tls_cert, settings.tls_key, "tls")
    if settings.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_roots(context, str(settings.tls_ca), "tls_ca")
    return context


def console_context(settings: Settings) -> ssl.SSLContext | None:
    """For browsers; None without TLS. Raises ConfigError."""
    if settings.console_tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_console_chain(context, settings)
    return context


def load_console_chain(context: ssl.SSLContext, settings: Settings) -> None:
    """Into a context that is in use, for new connections. Raises ConfigError, and changes nothing then if it was tried on another first."""
    _load_chain(context, settings.console_tls_cert, settings.console_tls_key, "console_tls")


def _load_chain(context: ssl.SSLContext, cert: Path | None, key: Path | None, name: str) -> None:
    def no_passphrase() -> str:
        # OpenSSL would ask on the terminal, and wait.
        raise ValueError("the key has a passphrase; expected one without")

    try:
        context.load_cert_chain(str(cert), str(key), no_passphrase)
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None) or str(error)
        for path in (cert, key):
            try:
                Path(str(path)).open().close()
            except OSError as unreadable:
                why = f"{path}: {unreadable.strerror}"
        if "KEY_VALUES_MISMATCH" in why:
            why = "the key is not the certificate's"
        raise ConfigError(f"{name}_cert {cert}, {name}_key {key}: {why}; expected PEM files that match") from None


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


def client_names(certificate: Mapping[str, Any] | None) -> tuple[str, tuple[str, ...]]:
    """Of a verified client's certificate (SSLSocket.getpeercert): the common name, and the e-mail addresses it is also for.

    Without a common name the first address stands for it.
    """
    if not certificate:
        return "", ()
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    emails = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "email"]
    emails += [value for part in certificate.get("subject", ()) for key, value in part if key == "emailAddress"]
    names = [str(name)[:_NAME_CHARACTERS] for name in common[-1:] or emails[:1]]
    return (names[0] if names else ""), tuple(dict.fromkeys(str(email)[:_NAME_CHARACTERS] for email in emails[:_EMAILS]))


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
