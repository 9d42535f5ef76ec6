"""Where messages go: [[notifications]] of pghold.toml, checked once.

Addresses hold passwords and tokens. They can stay out of the file: `${NAME}` is a variable of the environment, `${file:/path}` the text
of a file. What is shown of an address anywhere is its scheme and host.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
import warnings
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import apprise
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from policy.verdict import Severity
from proxy.errors import ConfigError
from proxy.notify.message import Message, Topic
from proxy.policies import Patterns, describe

#: What a route is told of unless it says otherwise: all but the changes that passed.
DEFAULT_EVENTS: Final = ["hold.*", "break-glass", "operator.*", "health.*", "backup.*"]
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_SECRET_FILE_BYTES: Final = 64 << 10
#: Where holds to practise on are; a route gets them only when it names it.
PRACTICE: Final = "practice"

# Its warnings name addresses; what went wrong is told by the courier, with the secrets taken out.
logging.getLogger("apprise").addHandler(logging.NullHandler())
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").setLevel(logging.DEBUG)


def expanded(text: str) -> str:
    """With `${NAME}` and `${file:/path}` filled in. Raises ValueError."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("file:"):
            try:
                with open(name[5:], encoding="utf-8") as file:
                    return file.read(_SECRET_FILE_BYTES).strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"${{{name}}}: {getattr(error, 'strerror', None) or 'not text'}") from None
        if name not in os.environ:
            raise ValueError(f"${{{name}}}: there is no such variable in the environment")
        return os.environ[name]

    return _VARIABLE.sub(fill, text)


def _filled(value: object) -> object:
    return expanded(value) if isinstance(value, str) else value


def _filled_list(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    return [_filled(v) for v in value] if isinstance(value, list) else value


class Route(BaseModel):
    """One place that is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,60}$", description="Its name, in the console and in metrics.")
    urls: Annotated[list[SecretStr], BeforeValidator(_filled_list)] = Field(
        default_factory=list, description="Addresses as apprise reads them, such as slack://…, workflows://… (Teams), mailtos://…."
    )
    webhook: Annotated[SecretStr, BeforeValidator(_filled)] = Field(SecretStr(""), description="Or one address that gets signed JSON.")
    secret: Annotated[SecretStr, BeforeValidator(_filled)] = Field(SecretStr(""), description="What the JSON is signed with.")
    events: Patterns = Field(description="What it is told of, such as hold.*; all but change.* by default.")
    min_severity: Literal["low", "medium", "high", "critical"] = Field("low", description="From this severity on.")
    databases: Patterns = Field(description="Holds and changes of these databases only; patterns with * and ?.")
    environments: Patterns = Field(description="Of these environments only; practice is told to those that name it.")
    remind_at: list[float] = Field([0.5], description="Reminders when so much of a hold's time is gone; 0.5 is half of it.")
    remind_before_s: float = Field(60, ge=0, description="And one so long before it expires; 0: none.")
    digest_s: float = Field(2, ge=0, le=3600, description="Messages are gathered for so long; 0: each leaves at once.")
    digest_over: int = Field(5, ge=1, description="When more than this were gathered, they are one message.")
    tries: int = Field(8, ge=1, le=100, description="After so many the message is given up, and shown under Health.")
    retry_from_s: float = Field(1, gt=0, le=3600, description="The wait after the first failure; it doubles with each.")
    retry_up_to_s: float = Field(60, gt=0, le=3600, description="But not over this.")
    timeout_s: float = Field(10, gt=0, le=120, description="How long one try may take.")

    @field_validator("urls")
    @classmethod
    def _urls_read(cls, value: list[SecretStr]) -> list[SecretStr]:
        for number, url in enumerate(value):
            if open_url(url.get_secret_value()) is None:
                # The scheme may be a part of a secret, if something else than an address was given.
                raise ValueError(f"number {number + 1} is no address that apprise knows, such as slack://TOKEN_A/TOKEN_B/TOKEN_C")
        return value

    @field_validator("webhook")
    @classmethod
    def _webhook_reads(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            try:
                parts = urlsplit(value.get_secret_value())
                good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                good = False
            if not good:
                raise ValueError("expected https://HOST[:PORT]/PATH")
        return value

    @field_validator("events")
    @classmethod
    def _events_are_known(cls, value: list[str]) -> list[str]:
        for pattern in value:
            if not any(fnmatchcase(topic, pattern) for topic in Topic):
                raise ValueError(f"{pattern!r} is none of {', '.join(t for t in Topic if t is not Topic.TEST)}")
        return value

    @field_validator("remind_at")
    @classmethod
    def _fractions(cls, value: list[float]) -> list[float]:
        if len(value) > 5 or any(not 0 < part < 1 for part in value):
            raise ValueError("expected at most five numbers between 0 and 1, such as 0.5")
        return sorted(set(value))

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if bool(self.urls) == bool(self.webhook.get_secret_value()):
            raise ValueError('expected urls = ["slack://…"] or webhook = "https://…", and not both')
        if self.webhook.get_secret_value() and len(self.secret.get_secret_value()) < 16:
            raise ValueError("a webhook needs a secret of 16 characters or more to sign with; ${NAME} takes it from the environment")
        if not self.webhook.get_secret_value() and self.secret.get_secret_value():
            raise ValueError("secret belongs to webhook; urls carry their own")
        return self

    # --- what it is told ----------------------------------------------------------------------------------------

    def wants(self, message: Message) -> bool:
        """Whether this message is for this route by its conditions. Break-glass is for all, whatever they say."""
        if message.environment == PRACTICE and PRACTICE not in self.environments:
            return False
        if message.topic in (Topic.BREAK_GLASS, Topic.TEST):
            return True
        return (
            message.rank >= Severity[self.min_severity.upper()]
            and _any(message.topic, self.events or DEFAULT_EVENTS)
            and (not message.database or _any(message.database, self.databases or ["*"]))
            and (not message.environment or _any(message.environment, self.environments or ["*"]))
        )

    @property
    def wants_changes(self) -> bool:
        return _any(Topic.CHANGED, self.events or DEFAULT_EVENTS)

    # --- what is shown of it ------------------------------------------------------------------------------------

    @property
    def shown(self) -> str:
        """Scheme and host of its addresses; nothing that could be a secret."""
        if self.webhook.get_secret_value():
            return _shown(self.webhook.get_secret_value())
        return ", ".join(dict.fromkeys(_shown(u.get_secret_value()) for u in self.urls))

    def without_secrets(self, text: str) -> str:
        """An error's text, in which a service may repeat what it was called with."""
        for word in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(word, "…")
        return text

    def _secrets(self) -> set[str]:
        words = {self.secret.get_secret_value()}
        for url in (self.webhook.get_secret_value(), *(u.get_secret_value() for u in self.urls)):
            try:
                parts = urlsplit(url)
                words |= {url, parts.username or "", parts.password or "", parts.path, *parts.path.split("/")}
                words |= {value for _, value in parse_qsl(parts.query)}
                if not _has_host(parts.scheme):
                    words |= {parts.netloc, parts.hostname or ""}
            except ValueError:
                words.add(url)
        return {w for raw in words for w in (raw, unquote(raw)) if len(w) > 3}


def _any(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, p) for p in patterns)


def _has_host(scheme: str) -> bool:
    """Whether what stands behind :// is a host. With most services it is a token."""
    return scheme in ("http", "https", "mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "mmost", "mmosts", "syslog")


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if _has_host(parts.scheme) else ""
        port = f":{parts.port}" if host and parts.port else ""
    except ValueError:
        return "…"
    return f"{parts.scheme}://{host}{port}" if host else f"{parts.scheme}://…"


_ASSET: Final = apprise.AppriseAsset(
    app_id="pghold",
    app_desc="pghold",
    app_url="",
    image_url_mask="",
    image_url_logo="",
    # A service is called where the file says, and nowhere else.
    http_redirects=False,
    # Not in threads of its own, which the interpreter would wait for at its end.
    async_mode=False,
    storage_mode="memory",
    secure_logging=True,
)


@cache
def _load_services() -> None:
    """apprise reads its hundred modules with the first address; some of them warn of what other versions of Python lack."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        apprise.Apprise.instantiate("json://localhost", asset=_ASSET)


def open_url(url: str) -> apprise.NotifyBase | None:
    """What apprise makes of an address; None when it knows no such service."""
    _load_services()
    found = apprise.Apprise.instantiate(url, asset=_ASSET, suppress_exceptions=True)
    return found if isinstance(found, apprise.NotifyBase) else None


# --- reading ------------------------------------------------------------------------------------------------------------


class _File(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    notifications: list[Route] = []

    @field_validator("notifications")
    @classmethod
    def _names_differ(cls, value: list[Route]) -> list[Route]:
        names = [r.name for r in value]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two routes have the name {twice[0]}")
        return value


def load_routes(file: Path | None) -> tuple[Route, ...]:
    """The routes of the settings' file. Raises ConfigError that names file, key and expected form, and no secret."""
    if file is None:
        return ()
    try:
        table = tomllib.loads(file.read_text()).get("notifications", [])
        return tuple(_File.model_validate({"notifications": table}).notifications)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
    except ValidationError as error:
        lines = [": ".join(part for part in describe(dict(e)) if part) for e in error.errors(include_url=False)]
        raise ConfigError(f"{file}: " + f"\n{file}: ".join(lines)) from None


def without_addresses(text: str) -> str:
    """The file's text for the record of its changes: without the addresses and secrets of routes.

    When one is written in a way in which it cannot be found, nothing is left: better no record of a change than one with a password.
    """
    try:
        routes = tomllib.loads(text).get("notifications", [])
    except tomllib.TOMLDecodeError:
        return ""
    for value in _strings([r.get(key) for r in routes if isinstance(r, dict) for key in ("urls", "webhook", "secret")]):
        if value and value not in text:
            return ""
        text = text.replace(value, "…") if value else text
    return text


def _strings(value: object) -> list[str]:
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    return [value] if isinstance(value, str) else []
