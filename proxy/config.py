"""Settings: command line over environment over file over defaults, checked once into a frozen model.

Every field is an option of `pghold run`, PGHOLD_… in the environment and a key in pghold.toml.
"""

from __future__ import annotations

import os
import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from policy.verdict import Environment, Profile
from proxy.errors import ConfigError
from proxy.model import Role
from proxy.policies import Policies, PolicyFile, describe

#: In the data directory while the proxy runs: the console's address.
CONSOLE_FILE = "console.url"

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "pghold"


class Upstream(BaseModel, frozen=True):
    """Where the server is, from a URL as libpq reads it (libpq-connect.html#LIBPQ-CONNSTRING-URIS)."""

    host: str = "localhost"
    port: int = 5432
    user: str = ""
    password: str = Field("", repr=False)
    database: str = ""
    sslmode: SslMode = "prefer"
    sslrootcert: str = ""
    sslcert: str = ""
    sslkey: str = ""

    @property
    def socket_path(self) -> str | None:
        """The Unix socket, when the host is a directory."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return str(self.socket_path)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError that says what is expected."""
        expected = "expected postgresql://[user[:password]@]host[:port]/[database][?sslmode=…]"
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError(expected)
        try:
            port = parts.port or 5432
        except ValueError:
            raise ValueError(f"the port is no number; {expected}") from None
        values: dict[str, str | int] = {
            "host": unquote(parts.hostname or "localhost"),
            "port": port,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.lstrip("/")),
        }
        for key, value in parse_qsl(parts.query):
            name = {"dbname": "database"}.get(key, key)
            if name in cls.model_fields:
                values[name] = value
            elif key not in ("application_name", "connect_timeout", "channel_binding", "gssencmode", "target_session_attrs"):
                raise ValueError(f"unknown parameter {key}; {expected}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{first['loc'][0]}: {first['msg']}") from None


class Settings(BaseSettings):
    """What `pghold run` needs to know."""

    model_config = SettingsConfigDict(env_prefix="PGHOLD_", extra="forbid", frozen=True)

    upstream: str = Field("", description="The server: postgresql://host:port/database?sslmode=…; empty: an embedded PostgreSQL 18.")
    listen: str = Field(
        "127.0.0.1:6432", description="Where clients connect: HOST:PORT or /DIRECTORY:PORT for a Unix socket, comma-separated."
    )
    console: str = Field("127.0.0.1:8432", description="Where the operator's console listens: HOST:PORT.")
    console_url: str = Field("", description="The console's address as people reach it, for links; needed for OIDC behind a proxy.")
    console_tls_cert: Path | None = Field(None, description="Certificate chain of the console (PEM).")
    console_tls_key: Path | None = Field(None, description="Its private key (PEM).")
    console_auth: Literal["login", "header"] = Field(
        "login", description="header: a trusted proxy in front says who it is, in console_user_header; nobody else is let in."
    )
    console_proxies: list[str] = Field(["127.0.0.1/32", "::1/128"], description="Networks of those trusted proxies.")
    console_user_header: str = Field("X-Forwarded-User", description="The header with the person's name.")
    console_groups_header: str = Field("X-Forwarded-Groups", description="The header with the person's groups, comma-separated.")
    console_roles: dict[str, Role] = Field(
        default_factory=dict, description="Which group (of OIDC or of the header) has which role: viewer, approver, admin, auditor."
    )
    console_default_role: Role | None = Field(None, description="The role of people without such a group; not given: they are not let in.")
    console_session_hours: float = Field(12, gt=0, le=24 * 30, description="How long a browser stays signed in at most.")
    oidc_issuer: str = Field("", description="OpenID Connect provider, such as https://login.example.com; empty: none.")
    oidc_client_id: str = Field("", description="The client's id at the provider.")
    oidc_client_secret: str = Field("", repr=False, description="Its secret; better in PGHOLD_OIDC_CLIENT_SECRET than in a file.")
    oidc_scopes: str = Field("openid profile email", description="What is asked of the provider.")
    oidc_name_claim: str = Field("email", description="The claim that is the operator's name.")
    oidc_groups_claim: str = Field("groups", description="The claim with the person's groups.")
    oidc_unverified_email: bool = Field(
        False, description="Take e-mail addresses as names although the provider does not say that it verified them."
    )
    external_token_days: float = Field(
        30, gt=0, description="API tokens of people from OIDC or the header are good for so long after they last signed in that way."
    )
    second_factor_from: Literal["", "low", "medium", "high", "critical"] = Field(
        "", description="Approvals from this severity on need a TOTP code; empty: only where [[policy.approvals]] says so."
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="Holds, audit log, operator token, embedded database.")
    audit_rotate_bytes: int = Field(256 << 20, ge=0, description="The audit log's file is rotated at this size; 0: never.")
    audit_rotate_days: float = Field(0, ge=0, description="It is rotated when its first record is so old; 0: never.")
    audit_keep: int = Field(0, ge=0, description="Rotated files to keep; older ones are removed, on record. 0: all.")
    audit_compress: bool = Field(False, description="Compress rotated files (gzip).")
    audit_mask: Literal["none", "literals"] = Field("none", description="literals: SQL literals are not recorded. Passwords never are.")
    audit_sinks: list[str] = Field([], repr=False, description="Where records go besides the file: see docs/audit.md.")
    audit_checkpoints: list[str] = Field([], repr=False, description="Second places for signed checkpoints: see docs/audit.md.")
    audit_checkpoint_records: int = Field(1000, ge=1, description="A checkpoint is signed after so many records at the latest.")
    audit_checkpoint_minutes: float = Field(5, gt=0, description="And after so many minutes, when there are new ones.")
    audit_verify_hours: float = Field(24, ge=0, description="The whole log is verified in the background so often; 0: never.")
    policy: Path | None = Field(None, description="The policy and configuration file; default DATA_DIR/pghold.toml if it is there.")
    environment: Environment | None = Field(
        None, description="production, development or test; production with --upstream, development with the embedded database."
    )
    profile: Profile = Field(Profile.GUARD, description="guard stops accidents; strict holds whatever is not provably harmless.")
    mode: Literal["enforce", "observe", "off"] = Field("enforce", description="observe records and holds nothing; off relays only.")
    store: str = Field("", description="Where holds are kept; only SQLite in the data directory so far.")
    tls: Literal["disable", "allow", "require"] = Field("disable", description="TLS for clients; needs tls_cert and tls_key.")
    tls_cert: Path | None = Field(None, description="Certificate chain shown to clients (PEM); the server's own, if that uses TLS.")
    tls_key: Path | None = Field(None, description="Its private key (PEM).")
    tls_ca: Path | None = Field(None, description="CA that client certificates must come from; given, they are required.")
    max_connections: int = Field(10000, ge=1, description="More clients than this get 53300.")
    startup_timeout_s: float = Field(60, gt=0, description="How long a client may take to log in.")
    connect_timeout_s: float = Field(10, gt=0, description="How long connecting to the server may take.")
    hold_timeout_s: float = Field(600, gt=0, description="How long a statement may wait for a decision.")
    hold_timeout_in_transaction_s: float = Field(60, gt=0, description="The same inside a transaction, whose locks stay.")
    heartbeat_s: float = Field(15, gt=0, description="How often a waiting client is told so.")
    retry_timeout_s: float = Field(
        3600, gt=0, description="How long a statement nobody waits for can be approved, and then how long it may be sent again."
    )
    session_grant_max_s: float = Field(3600, ge=0, description="The longest grant for a whole session; 0: there are none.")
    look_before_release: bool = Field(
        True, description="Ask the session what a held statement is about, and again before it runs: what changed is held again."
    )
    max_pending_holds: int = Field(20000, ge=1, description="More statements than this are refused, not held.")
    hold_high_water_bytes: int = Field(1 << 20, ge=1024, description="What a client may send on while its statement waits.")
    max_script_bytes: int = Field(128 << 20, ge=1024, description="The longest Query or Parse.")
    audit_check_s: float = Field(
        3600, ge=0, description="How often the whole chain of the audit log is verified, for the alarm; 0: only when asked."
    )
    drain_timeout_s: float = Field(30, ge=0, description="How long transactions may finish when the proxy stops.")
    replication: bool = Field(False, description="Let replication connections through, unjudged.")
    approval_phrase: str = Field("YES I UNDERSTAND THE RISKS", min_length=1, description="What an operator types to approve.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="No SQL is logged at info and above.")
    otel_endpoint: str = Field(
        "", description="Where traces go: an OTLP/HTTP collector, such as http://127.0.0.1:4318; needs the extra otel. Empty: nowhere."
    )
    allow_force_sync: bool = Field(False, description="In production, hold forced syncs instead of denying them.")
    control: str = Field(
        "", repr=False, description="The server with pghold's own credentials, for copies and impact; default: those of upstream."
    )
    pg_bin: Path | None = Field(None, description="Where pg_dump, pg_restore and psql are; default: those of the embedded PostgreSQL 18.")
    backup_before_danger: bool = Field(True, description="A proven copy before a destructive statement runs; without one it is denied.")
    backup_dir: Path | None = Field(None, description="Where copies are kept; default DATA_DIR/backups.")
    backup_targets: list[str] = Field(
        [], repr=False, description="Where copies go besides: s3://BUCKET/PREFIX?endpoint=…; see docs/backups.md."
    )
    backup_key_file: Path | None = Field(None, description="A file with a key; given, copies are encrypted with it.")
    backup_timeout_s: float = Field(600, gt=0, description="How long a copy before a statement may take, its proof included.")
    backup_lock_timeout_s: float = Field(5, gt=0, description="How long it may wait for locks.")
    backup_parallel: int = Field(2, ge=1, le=32, description="So many copies are made at the same time; others wait.")
    backup_min_free_bytes: int = Field(1 << 30, ge=0, description="What must stay free where copies are kept.")
    backup_prove_first_bytes: int = Field(
        256 << 20, ge=0, description="Up to this size of tables, a copy is proven before the statement runs; above it afterwards."
    )
    backup_keep_days: float = Field(30, ge=0, description="Older copies are removed; 0: none for its age.")
    backup_keep_count: int = Field(0, ge=0, description="The newest so many of each database are kept; 0: all.")
    backup_keep_bytes: int = Field(0, ge=0, description="The oldest are removed when all take more than this; 0: never.")
    backup_schedule: str = Field("0 0,12 * * *", description="When whole databases are copied: cron's five fields, UTC; empty: never.")
    backup_databases: list[str] = Field([], description="Which; default: that of upstream.")
    backup_verify_days: float = Field(7, ge=0, description="Each copy is proven again so often; 0: only when asked.")
    scratch: str = Field(
        "", repr=False, description="A server with a role that may create databases, to prove copies in; default: an embedded one."
    )
    soft_drop: bool = Field(
        False, description="An approved DROP TABLE moves the table into a schema pghold_trash_… instead (docs/undo.md)."
    )
    soft_drop_days: float = Field(7, gt=0, description="So long it stays there.")
    impact_timeout_s: float = Field(5, gt=0, description="How long the questions about a held statement may take, each.")
    impact_exact_rows: int = Field(1_000_000, ge=0, description="Tables estimated to be smaller are counted exactly.")
    health_interval_s: float = Field(60, gt=0, description="How often the server is checked.")
    critical_tables: list[str] = Field([], description="Tables that must be there and not empty: DATABASE.SCHEMA.TABLE or SCHEMA.TABLE.")
    bypass_allowed_roles: list[str] = Field(
        [], description="Roles that may connect past pghold without an alarm, such as those of monitoring; patterns with * and ?."
    )
    schema_history: bool = Field(True, description="Keep each version of the schema after DDL has passed.")

    @field_validator("upstream")
    @classmethod
    def _upstream_reads(cls, value: str) -> str:
        if value:
            Upstream.from_url(value)
        return value

    @field_validator("control", "scratch")
    @classmethod
    def _servers_read(cls, value: str) -> str:
        if value:
            Upstream.from_url(value)
        return value

    @field_validator("backup_schedule")
    @classmethod
    def _schedule_reads(cls, value: str) -> str:
        from proxy.backups.schedule import Timetable

        return Timetable(value).expression

    @field_validator("listen", "console")
    @classmethod
    def _addresses_read(cls, value: str) -> str:
        for part in value.split(","):
            address(part)
        return value

    @field_validator("store")
    @classmethod
    def _store_is_known(cls, value: str) -> str:
        if value and not value.startswith("sqlite"):
            raise ValueError("only the SQLite store in the data directory is supported so far; leave it out")
        return value

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if self.tls != "disable" and not (self.tls_cert and self.tls_key):
            raise ValueError(f"tls = {self.tls} needs tls_cert and tls_key, the paths of two PEM files")
        if self.tls != "require" and self.tls_ca:
            raise ValueError(f"tls_ca has no use with tls = {self.tls}, as clients could come without a certificate; set tls = require")
        upstream = self.server
        if upstream is not None:
            if upstream.sslmode in ("verify-ca", "verify-full") and not upstream.sslrootcert:
                raise ValueError(f"upstream: sslmode={upstream.sslmode} needs sslrootcert=FILE (or sslrootcert=system)")
            if upstream.socket_path and upstream.sslmode not in ("disable", "allow", "prefer"):
                raise ValueError("upstream: a Unix socket has no TLS; leave sslmode out")
            if bool(upstream.sslcert) != bool(upstream.sslkey):
                raise ValueError("upstream: sslcert and sslkey go together")
        return self

    @field_validator("audit_sinks", "audit_checkpoints")
    @classmethod
    def _targets_read(cls, value: list[str], info: ValidationInfo) -> list[str]:
        for number, url in enumerate(value, 1):
            from proxy.audit.targets import PLACES, SINKS, read_target

            try:
                read_target(url, SINKS if info.field_name == "audit_sinks" else PLACES)
            except ValueError as error:
                raise ValueError(f"number {number}: {error}") from None
        return value

    @field_validator("critical_tables")
    @classmethod
    def _tables_read(cls, value: list[str]) -> list[str]:
        from proxy.health.names import critical_name

        for text in value:
            critical_name(text, "")
        return value

    @field_validator("console_proxies")
    @classmethod
    def _networks_read(cls, value: list[str]) -> list[str]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r}: expected a network such as 10.0.0.0/8") from None
        return value

    @field_validator("console_url", "oidc_issuer", "otel_endpoint")
    @classmethod
    def _urls_read(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc):
            raise ValueError("expected https://HOST[:PORT][/PATH]")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _console_is_safe(self) -> Self:
        if bool(self.console_tls_cert) != bool(self.console_tls_key):
            raise ValueError("console_tls_cert and console_tls_key go together")
        if not self.console_has_tls and self.console_auth != "header":
            for part in self.console.split(","):
                host = address(part)[0]
                if not is_loopback(host):
                    raise ValueError(
                        f"the console at {part.strip()} could be reached from other machines in clear text: give console_tls_cert and "
                        "console_tls_key, or let a proxy with TLS sign people in (console_auth = header), or listen on 127.0.0.1"
                    )
        if self.console_auth == "header" and not self.console_url:
            raise ValueError("console_auth = header needs console_url, the address under which people reach the proxy in front")
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_client_secret):
            raise ValueError("oidc_issuer needs oidc_client_id and oidc_client_secret")
        for name, url in (("oidc_issuer", self.oidc_issuer), ("console_url", self.console_url if self.console_auth == "header" else "")):
            if url.startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
                raise ValueError(f"{name} must begin with https: whoever is in between could sign in as anybody")
        return self

    @property
    def console_has_tls(self) -> bool:
        return self.console_tls_cert is not None

    @property
    def server(self) -> Upstream | None:
        return Upstream.from_url(self.upstream) if self.upstream else None

    @property
    def backup_folder(self) -> Path:
        return self.backup_dir or self.data_dir / "backups"

    @property
    def effective_environment(self) -> Environment:
        if self.environment is not None:
            return self.environment
        return Environment.PRODUCTION if self.upstream else Environment.DEVELOPMENT

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


Address = tuple[str, int]


def address(text: str) -> Address:
    """HOST:PORT, [V6]:PORT, :PORT or /DIRECTORY:PORT. Raises ValueError."""
    match = re.fullmatch(r"\s*(\[[^\]]+\]|[^:\[\]]*):(\d{1,5})\s*", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{text!r}: expected HOST:PORT, or /DIRECTORY:PORT for a Unix socket")
    return match[1].strip("[]") or "0.0.0.0", int(match[2])


def is_loopback(host: str) -> bool:
    """A host that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


#: Variables of the system that pghold took the place of.
_OLD_VARIABLES = {
    "DB_ALLOW_FORCE_SYNC": "allow_force_sync",
    "DB_BACKUP_BEFORE_DANGER": "backup_before_danger",
}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def load(options: dict[str, Any]) -> Settings:  # any: what the command line gives, checked by the model
    """Settings from options that were given (None is not given), the environment, and the file. Raises ConfigError."""
    given = {k: v for k, v in options.items() if v is not None}
    for name, field in _OLD_VARIABLES.items():
        if (value := _flag(name)) is not None:
            given.setdefault(field, value)
    if _flag("DB_SAFETY_ENABLED") is False and "PGHOLD_MODE" not in os.environ:
        given.setdefault("mode", "off")
    if _flag("DB_AUDIT_LOG_ENABLED") is False:
        raise ConfigError("DB_AUDIT_LOG_ENABLED=false: the audit log cannot be switched off, since decisions rest on it; unset it")
    file = _file(given)
    known = set(Settings.model_fields) - {"policy"}
    from_file = set()
    for key, value in _read(file).items():
        if key in ("policy", "notifications"):
            continue  # the tables [policy], which load_policies reads, and [[notifications]], which notify.load_routes does
        if key not in known:
            raise ConfigError(f"{file}: unknown key {key}; known are {', '.join(sorted(known))}")
        if key not in given and f"PGHOLD_{key.upper()}" not in os.environ:
            given[key] = value
            from_file.add(key)
    if file is not None:
        given["policy"] = file
    try:
        return Settings(**given)
    except SettingsError as error:
        # A list or a table in the environment; the words name the field, not its value.
        raise ConfigError(f'{error}: expected JSON, such as ["…", "…"]') from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "settings"
        message = first["msg"].removeprefix("Value error, ")
        place = f"{file}: " if first["loc"][:1] and first["loc"][0] in from_file else ""
        raise ConfigError(f"{place}{where}: {message}") from None


def load_policies(settings: Settings, *, announces: bool = False) -> Policies:
    """The [policy] of the settings' file. Raises ConfigError that names file, key and expected form."""
    return Policies(
        read_policy(settings.policy),
        profile=settings.profile,
        environment=settings.effective_environment,
        announces=announces,
        allows_forced_sync=settings.allow_force_sync,
    )


def read_policy(file: Path | None) -> PolicyFile:
    """Raises ConfigError."""
    table = _read(file).get("policy", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: policy: expected a table, [policy]")
    try:
        return PolicyFile.model_validate(table)
    except ValidationError as error:
        problems = [describe(dict(e)) for e in error.errors()]
        lines = [": ".join(part for part in (f"policy.{where}" if where else "policy", problem)) for where, problem in problems]
        raise ConfigError(f"{file}: " + f"\n{file}: ".join(lines)) from None


def _flag(name: str) -> bool | None:
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return None
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"{name}={value}: expected true or false")
    return value in _TRUE


def _file(given: dict[str, Any]) -> Path | None:
    named = given.get("policy") or os.environ.get("PGHOLD_POLICY")
    if named:
        return Path(named)
    data_dir = Path(given.get("data_dir") or os.environ.get("PGHOLD_DATA_DIR") or default_data_dir())
    for candidate in (Path("pghold.toml"), data_dir / "pghold.toml"):
        if candidate.is_file():
            return candidate
    return None


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
