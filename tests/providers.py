"""OpenID Connect providers for tests: a real one (Node's oidc-provider), and a hostile one that signs whatever a test wants."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from tests.servers import Pghold, PostgresServer, free_port, wait_for

CLIENT = "pghold"
SECRET = "the-secret-of-the-client-at-the-provider"
NODE = Path(__file__).parent / "node"


def oidc_pghold(server: PostgresServer, port: int, issuer: str, *options: str, **settings: str) -> Pghold:
    environment = {
        "PGHOLD_OIDC_ISSUER": issuer,
        "PGHOLD_OIDC_CLIENT_ID": CLIENT,
        "PGHOLD_OIDC_CLIENT_SECRET": SECRET,
        "PGHOLD_OIDC_SCOPES": "openid profile email groups",
        "PGHOLD_CONSOLE_ROLES": json.dumps({"dba": "approver", "staff": "viewer", "chiefs": "admin"}),
        **{f"PGHOLD_{k.upper()}": v for k, v in settings.items()},
    }
    upstream = f"postgresql://127.0.0.1:{server.port}/postgres"
    return Pghold(upstream, "--console", f"127.0.0.1:{port}", *options, environment=environment)


class Provider:
    """`tests/node/provider.mjs` as a process."""

    def __init__(self, console_port: int, accounts: dict[str, dict[str, Any]], folder: Path) -> None:
        self.accounts = accounts
        config = {
            "accounts": accounts,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uris": [f"http://127.0.0.1:{console_port}/login/oidc/callback"],
        }
        log = folder / "provider.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(["node", "provider.mjs", json.dumps(config)], cwd=NODE, stdout=file, stderr=file)
        wait_for(lambda: b"issuer http" in log.read_bytes() or self._process.poll() is not None, 30)
        assert self._process.poll() is None, log.read_text()
        self.issuer = next(line for line in log.read_text().splitlines() if line.startswith("issuer ")).split()[1]

    def say(self, what: str, **said: object) -> None:
        httpx.post(f"{self.issuer}/test/{what}", json=said, trust_env=False).raise_for_status()

    def become(self, account: str, **claims: object) -> None:
        """Whoever signs in next is this account; with other claims, if any are given."""
        if claims:
            self.accounts[account] = {**self.accounts.get(account, {}), **claims}
            self.say("claims", account=account, claims=self.accounts[account])
        self.say("account", account=account)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class Visit:
    """A browser on its way through a provider. Cookies are kept for the host, whatever the port, as browsers do."""

    def __init__(self, proxy: Pghold) -> None:
        self.proxy = proxy
        self.http = httpx.Client(trust_env=False, timeout=30)
        self.callback = ""

    def begin(self, target: str = "/holds") -> httpx.Response:
        return self.http.get(f"{self.proxy.console}/login/oidc", params={"next": target})

    def go(self, target: str = "/holds") -> httpx.Response:
        """All the way; returns the console's answer to the provider's."""
        place = self.until_callback(target)
        return self.http.get(place)

    def until_callback(self, target: str = "/holds") -> str:
        """All but the last step."""
        answer = self.begin(target)
        for _ in range(12):
            assert answer.is_redirect, (answer.status_code, answer.text[:500])
            place = str(answer.next_request.url) if answer.next_request else ""
            if place.startswith(f"{self.proxy.console}/login/oidc/callback"):
                self.callback = place
                return place
            answer = self.http.get(place)
        raise AssertionError("the provider leads round and round")

    def get(self, path: str) -> httpx.Response:
        return self.http.get(f"{self.proxy.console}{path}")

    def post(self, path: str, **fields: str) -> httpx.Response:
        page = self.get("/account").text
        csrf = page.partition('data-csrf="')[2].partition('"')[0]
        return self.http.post(f"{self.proxy.console}{path}", data={"csrf": csrf, **fields})

    def close(self) -> None:
        self.http.close()


class Hostile:
    """A provider in this process. `answer` makes what the token endpoint gives, from the nonce of the login under way."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.published: list[dict[str, Any]] = [self.key.as_dict(private=False)]
        self.answer: Callable[[str], bytes] = self.good
        self.extra: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.hold_back: threading.Event | None = None
        self.waiting = threading.Event()
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    self._say(json.dumps(hostile.metadata).encode())
                else:
                    self._say(json.dumps({"keys": hostile.published}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                hostile.requests.append((self.headers.get("Authorization", ""), parse_qs(body)))
                if hostile.hold_back is not None:
                    hostile.waiting.set()
                    hostile.hold_back.wait(30)
                self._say(hostile.answer(hostile.nonce))

            def _say(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.nonce = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.metadata = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def claims(self, nonce: str, **changed: Any) -> dict[str, Any]:
        """Of a right answer, with these instead; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "s-1", "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce,
            "email": "eve@example.com", "email_verified": True, "groups": ["dba"],
        }  # fmt: skip
        claims.update(changed)
        return {k: v for k, v in claims.items() if v is not None}

    def token(
        self, claims: dict[str, Any], key: RSAKey | ECKey | OctKey | None = None, alg: str = "RS256", **header: str
    ) -> dict[str, Any]:
        signed = jwt.encode({"alg": alg, "kid": "one", **header}, claims, key or self.key, algorithms=[alg])
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": signed}

    def good(self, nonce: str, **changed: Any) -> bytes:
        return json.dumps(self.token(self.claims(nonce, **changed))).encode()

    def sign_in(self, visit: Visit, **query: str) -> httpx.Response:
        """Begin, and bring back what a provider would send."""
        begun = visit.begin()
        assert begun.is_redirect, begun.text
        asked = {k: v[0] for k, v in parse_qs(urlsplit(begun.headers["location"]).query).items()}
        self.asked = asked
        self.nonce = asked["nonce"]
        return visit.http.get(f"{visit.proxy.console}/login/oidc/callback", params={"state": asked["state"], "code": "c", **query})


def unsigned(claims: dict[str, Any], alg: str) -> str:
    """A token with no signature at all."""
    parts = [json.dumps(p).encode() for p in ({"alg": alg, "typ": "JWT", "kid": "one"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts), ""])


def challenge(verifier: str) -> str:
    """S256 (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


__all__ = [
    "CLIENT",
    "SECRET",
    "ECKey",
    "Hostile",
    "KeySet",
    "OctKey",
    "Provider",
    "RSAKey",
    "Visit",
    "challenge",
    "free_port",
    "oidc_pghold",
    "unsigned",
]
