"""Signing in by OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 1.0 section 3.1, RFC 7636).

authlib makes the requests and checks the tokens; here is only what is ours: where state and nonce are kept, which keys count, and which
role a person gets.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx2 as httpx
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from proxy.model import Role

#: How long a person may take at the provider; how many may be under way.
_LOGIN_S: Final = 600
_UNDER_WAY: Final = 10_000
_METADATA_S: Final = 3600
#: A token of a key that we do not know makes us ask for the keys again, and not more often than this.
_KEYS_AGAIN_S: Final = 10
_TIMEOUT_S: Final = 10
#: Signatures by the provider's public key only: no "none", and no HMAC that whoever knows the client's secret could make.
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class OidcError(Exception):
    """The login failed; the message is for the person, without what the provider sent."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Where and as what to sign in, and what the answer's claims mean."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    scopes: str = "openid profile email"
    name_claim: str = "email"
    groups_claim: str = "groups"
    unverified_email: bool = False


@dataclass(frozen=True, slots=True)
class _Started:
    nonce: str
    verifier: str
    target: str
    browser: str
    at: float


class Oidc:
    """One provider. Logins under way are in memory: after a restart a person signs in again."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._started: OrderedDict[str, _Started] = OrderedDict()
        self._metadata: dict[str, Any] = {}
        self._metadata_at = 0.0
        self._keys = KeySet([])
        self._again_at = float("-inf")

    async def start(self, target: str, browser: str) -> str:
        """The provider's address to go to. `browser` is a secret in a cookie: the answer must come to the same browser.

        Raises OidcError.
        """
        metadata = await self._discover()
        nonce, verifier = generate_token(32), generate_token(64)
        async with self._client() as client:
            url, state = client.create_authorization_url(
                metadata["authorization_endpoint"], nonce=nonce, code_verifier=verifier, redirect_uri=self._settings.redirect_uri
            )
        self._started[state] = _Started(nonce, verifier, target, browser, time.monotonic())
        while len(self._started) > _UNDER_WAY:
            self._started.popitem(last=False)
        return str(url)

    async def finish(self, query: Mapping[str, str], browser: str) -> tuple[dict[str, Any], str]:
        """The claims of the answer, and where the person wanted to go. Raises OidcError."""
        started = self._started.get(query.get("state", ""))
        if started is None or time.monotonic() - started.at > _LOGIN_S or not browser or started.browser != browser:
            # Another browser's login stays under way: a stranger who saw its state cannot end it.
            raise OidcError("this login was not begun here, or took too long; begin again")
        del self._started[query["state"]]
        if "error" in query or not query.get("code"):
            raise OidcError("the provider did not sign you in")
        metadata = await self._discover()
        if query.get("iss", metadata["issuer"]) != metadata["issuer"]:
            raise OidcError("the answer is another provider's")  # RFC 9207
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._client() as client:
                token = await client.fetch_token(
                    metadata["token_endpoint"],
                    code=query["code"],
                    code_verifier=started.verifier,
                    redirect_uri=self._settings.redirect_uri,
                    grant_type="authorization_code",
                )
        except (AuthlibBaseError, httpx.HTTPError, ValueError, TypeError, AttributeError, TimeoutError) as error:
            raise OidcError("the provider did not confirm the login") from error
        if not isinstance(token, dict):
            raise OidcError("the provider's answer is not valid")
        return await self._claims(token, started.nonce), started.target

    async def _claims(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        try:
            return self._checked(token, nonce)
        except OidcError:
            # The provider may have new keys. Whoever sends tokens of made-up keys makes us ask no more often than now and then.
            if time.monotonic() - self._again_at < _KEYS_AGAIN_S:
                raise
        self._again_at, self._metadata_at = time.monotonic(), 0.0
        await self._discover()
        return self._checked(token, nonce)

    def _checked(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """Raises OidcError."""
        try:
            decoded = jwt.decode(str(token["id_token"]), self._keys, algorithms=_ALGORITHMS)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self._metadata["issuer"]},
                    "aud": {"essential": True, "value": self._settings.client_id},
                    "exp": {"essential": True},
                    "nonce": {"essential": True, "value": nonce},
                },
                {"nonce": nonce, "client_id": self._settings.client_id, "access_token": token.get("access_token")},
            )
            claims.validate(leeway=60)
            if not isinstance(claims["sub"], str) or not claims["sub"]:
                raise ValueError("sub")
        except (JoseError, AuthlibBaseError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Safety: whatever is wrong with it signs nobody in.
            raise OidcError("the provider's answer is not valid") from error
        return dict(claims)

    def name(self, claims: Mapping[str, Any]) -> str:
        """Raises OidcError. An e-mail address counts when the provider says that it verified it: else people could call themselves as others."""
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str) or not name:
            raise OidcError(f"the provider sends no {self._settings.name_claim}; set oidc_name_claim, or ask for a scope that has it")
        if self._settings.name_claim == "email" and claims.get("email_verified") is not True and not self._settings.unverified_email:
            raise OidcError("the provider does not say that it has verified your e-mail address")
        return name

    def subject(self, claims: Mapping[str, Any]) -> str:
        """The account: the only claim that stays with a person (OpenID Connect Core 1.0 section 5.7)."""
        return f"{claims['iss']} {claims['sub']}"

    def groups(self, claims: Mapping[str, Any]) -> list[str]:
        groups = claims.get(self._settings.groups_claim, [])
        return [groups] if isinstance(groups, str) else [g for g in groups if isinstance(g, str)] if isinstance(groups, list) else []

    def _client(self) -> AsyncOAuth2Client:
        settings = self._settings
        return AsyncOAuth2Client(
            settings.client_id,
            settings.client_secret,
            scope=settings.scopes,
            code_challenge_method="S256",
            timeout=_TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
        )

    async def _discover(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0 section 4. Raises OidcError."""
        if self._metadata_at and time.monotonic() - self._metadata_at < _METADATA_S:
            return self._metadata
        issuer = self._settings.issuer.rstrip("/")
        try:
            async with asyncio.timeout(_TIMEOUT_S), httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
                metadata = (await client.get(f"{issuer}/.well-known/openid-configuration")).raise_for_status().json()
                needed = [str(metadata[k]) for k in ("jwks_uri", "authorization_endpoint", "token_endpoint")]
                keys = (await client.get(needed[0])).raise_for_status().json()["keys"]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, TimeoutError) as error:
            raise OidcError("the provider cannot be reached, or does not answer as one") from error
        if str(metadata.get("issuer", "")).rstrip("/") != issuer:
            raise OidcError("the provider names another issuer than oidc_issuer")
        if issuer.startswith("https:") and not all(url.startswith("https:") for url in needed):
            raise OidcError("the provider would have us go on in clear text")
        self._metadata, self._keys, self._metadata_at = metadata, _key_set(keys), time.monotonic()
        return self._metadata


def _key_set(keys: object) -> KeySet:
    """Public keys for signatures. One of a kind that we do not know is no reason to refuse the others."""
    known = []
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
            continue
        try:
            known.append(JWKRegistry.import_key(cast(Any, key)))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return KeySet(known)


def role_for(groups: list[str], roles: Mapping[str, Role], otherwise: Role | None) -> Role | None:
    """The strongest role of a person's groups: admin, approver, auditor, viewer; None: not let in."""
    order = (Role.ADMIN, Role.APPROVER, Role.AUDITOR, Role.VIEWER)
    found = {roles[g] for g in groups if g in roles}
    return next((role for role in order if role in found), otherwise)
