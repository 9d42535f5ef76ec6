"""Who somebody is: codes, passwords, guesses, tokens, and people of other systems, with a clock that tests turn."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import proxy.operators
from proxy import passwords
from proxy.approvals import is_own
from proxy.attempts import LOCKOUT_AFTER, LOCKOUT_LIMIT_S, LOCKOUT_S, NAME_LOCKOUT_AFTER, NAME_LOCKOUT_LIMIT_S, Attempts
from proxy.console.security import RateLimit, local_path
from proxy.console.sessions import IDLE_S, WebSessions
from proxy.model import Operator, Requester, Role, SessionId
from proxy.operators import OperatorError, SqlOperators, scram_verifier
from proxy.seams import LockedOutError
from proxy.store import Store, open_store
from proxy.tls import client_names

GOOD = "correct horse battery"
#: RFC 6238 appendix B: the secret of the SHA-1 examples, and each time with its code. Ours have the last six of the eight digits.
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_CODES = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]


class HandClock:
    def __init__(self, at: float = 2_000_000_000) -> None:
        self.at = at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def people(store: Store, clock: HandClock) -> SqlOperators:
    found = SqlOperators(store, clock)
    await found.add("ana", Role.APPROVER)
    return found


# --- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "code"), RFC_CODES)
async def test_codes_are_those_of_the_standard(people: SqlOperators, clock: HandClock, at: int, code: str) -> None:
    clock.at = at
    assert await people.confirm_totp("ana", RFC_SECRET, code[-6:])
    clock.at = at + 30
    assert not await people.check_totp("ana", code[-6:]), "it is used up"


@pytest.mark.parametrize(("late_s", "good"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
async def test_a_clock_may_be_one_step_wrong(people: SqlOperators, clock: HandClock, late_s: int, good: bool) -> None:
    clock.at = 1_000_000_000
    assert await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    shown = 2_000_000_000
    clock.at = shown + late_s
    assert await people.check_totp("ana", _code(shown)) is good


def _code(at: float) -> str:
    import pyotp

    return pyotp.TOTP(RFC_SECRET).at(int(at))


async def test_a_code_is_good_once_also_for_two_at_the_same_time(people: SqlOperators, clock: HandClock) -> None:
    clock.at = 1_000_000_000
    await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    clock.at += 300
    results = await asyncio.gather(*(people.check_totp("ana", _code(clock.at)) for _ in range(4)))
    assert sorted(results) == [False, False, False, True]
    assert not await people.check_totp("ana", _code(clock.at - 30)), "nor is one of before it"


@pytest.mark.parametrize("code", ["", "00000", "0000000", "abcdef", "١٢٣٤٥٦", "12 34 5", "-12345", "123456\n7"])
async def test_what_is_no_code_is_wrong(people: SqlOperators, clock: HandClock, code: str) -> None:
    await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    assert not await people.check_totp("ana", code)


async def test_wrong_codes_lock_and_time_or_an_admin_unlocks(people: SqlOperators, clock: HandClock) -> None:
    await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    clock.at += 300
    for _ in range(LOCKOUT_AFTER):
        assert not await people.check_totp("ana", "000000")
    with pytest.raises(LockedOutError):
        await people.check_totp("ana", _code(clock.at))
    clock.at += LOCKOUT_S + 1
    assert not await people.check_totp("ana", "000000")
    with pytest.raises(LockedOutError) as locked:
        await people.check_totp("ana", _code(clock.at))
    assert locked.value.until - clock.now() == timedelta(seconds=2 * LOCKOUT_S)
    await people.set_disabled("ana", False)
    assert await people.check_totp("ana", _code(clock.at))


async def test_wrong_passwords_do_not_lock_the_second_factor(
    people: SqlOperators, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a stranger at the login keeps the approver from approving."""
    await people.set_password("ana", GOOD)
    monkeypatch.setattr(proxy.operators, "_verified", lambda *_: False)
    await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    for i in range(NAME_LOCKOUT_AFTER + 10):
        try:
            await people.by_password("ana", "wrong", f"198.51.100.{i}")
        except LockedOutError:
            break
    else:
        raise AssertionError("the name was never locked")
    clock.at += 60
    assert await people.check_totp("ana", _code(clock.at))


async def test_an_admin_takes_a_lost_device_away(people: SqlOperators, clock: HandClock) -> None:
    await people.confirm_totp("ana", RFC_SECRET, _code(clock.at))
    await people.remove_totp("ana")
    found = await people.get("ana")
    assert found is not None
    assert not found.second_factor
    clock.at += 60
    assert not await people.check_totp("ana", _code(clock.at))


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("eleven-char", "12 characters"),
        ("password1234", "tried first"),
        ("P@ssw0rd!2024", "tried first"),
        ("passwordpassword", "tried first"),
        ("Summer2024!!!", "tried first"),
        ("..postgresql..", "tried first"),
        ("1234567890123", "row"),
        ("qwertyuiop12", "row"),
        ("lkjhgfdsapoi", "row"),
        ("aaaaaaaaaaaaaa", "same few"),
        ("abababababab", "same few"),
        ("ana.smith12345", "operator's name"),
        ("Ana.SmithAna.Smith", "operator's name"),
        (GOOD, ""),
        ("Tr0ub4dor&3xyz", ""),
        ("pässwört größe neun", ""),
        ("we met ana.smith in Kyoto", ""),
    ],
)
def test_which_passwords_are_refused(password: str, why: str) -> None:
    assert why in passwords.problem(password, "ana.smith@example.com")
    assert bool(passwords.problem(password, "ana.smith@example.com")) is bool(why)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        # RFC 4013 section 3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007\u00e9", "\u0007\u00e9"),  # prohibited: as it is, as PostgreSQL does
        ("\u0627\u0031", "\u0627\u0031"),
        ("pa\u0308ss", "p\u00e4ss"),
        ("a\u00a0b", "a b"),
    ],
)
def test_passwords_are_prepared_as_in_scram(typed: str, sent: str) -> None:
    assert passwords.prepared(typed) == sent
    assert scram_verifier(typed, b"salt") == scram_verifier(sent, b"salt")


async def test_a_password_is_the_same_however_the_keyboard_makes_it(people: SqlOperators) -> None:
    await people.set_password("ana", "p\u00e4ssw\u00f6rter sind gut")
    assert await people.by_password("ana", "pa\u0308sswo\u0308rter sind gut") is not None
    await people.set_password("ana", "  with spaces around  ")
    assert await people.by_password("ana", "  with spaces around  ") is not None
    assert await people.by_password("ana", "with spaces around") is None


async def test_unknown_disabled_and_passwordless_names_cost_the_same(people: SqlOperators, monkeypatch: pytest.MonkeyPatch) -> None:
    """By counting: each takes one verification, of a hash with the same cost."""
    await people.add("bob", Role.VIEWER)
    await people.add("gone", Role.VIEWER)
    await people.set_password("ana", GOOD)
    await people.set_password("gone", GOOD)
    await people.set_disabled("gone", True)
    verified: list[str] = []

    def count(hashed: str, password: str) -> bool:
        verified.append(hashed.rpartition("$")[0].rpartition("$")[0])
        return False

    monkeypatch.setattr(proxy.operators, "_verified", count)
    for name in ("ana", "bob", "gone", "nobody", "", "a" * 1000):
        assert await people.by_password(name, "wrong") is None
    assert len(verified) == 6
    assert len(set(verified)) == 1


# --- guesses ----------------------------------------------------------------------------------------------------------


def locked_for(attempts: Attempts, clock: HandClock, name: str, address: str) -> float:
    try:
        attempts.begin(name, address)
    except LockedOutError as error:
        return (error.until - clock.now()).total_seconds()
    return 0.0


def test_a_guesser_waits_ever_longer_and_keeps_nobody_else_out(clock: HandClock) -> None:
    attempts = Attempts(clock)
    waits = []
    for _ in range(20):
        while not (wait := locked_for(attempts, clock, "ana", "198.51.100.1")):
            pass
        waits.append(wait)
        assert locked_for(attempts, clock, "ana", "203.0.113.7") == 0.0
        attempts.succeeded("ana", "203.0.113.7")
        clock.at += wait
    assert waits[:3] == [LOCKOUT_S, 2 * LOCKOUT_S, 4 * LOCKOUT_S]
    assert waits[-1] == LOCKOUT_LIMIT_S
    assert locked_for(attempts, clock, "bob", "198.51.100.1") == 0.0


def test_a_guesser_with_many_addresses_is_slowed_and_cannot_lock_for_long(clock: HandClock) -> None:
    attempts = Attempts(clock)
    tried = 0
    while not (wait := locked_for(attempts, clock, "ana", f"198.51.{tried // 250}.{tried % 250}")):
        tried += 1
    assert tried == NAME_LOCKOUT_AFTER
    assert wait == LOCKOUT_S
    for i in range(50):
        clock.at += locked_for(attempts, clock, "ana", f"203.0.113.{i}")
        locked_for(attempts, clock, "ana", f"203.0.114.{i}")
    assert locked_for(attempts, clock, "ana", "192.0.2.1") <= NAME_LOCKOUT_LIMIT_S


def test_names_that_do_not_exist_lock_like_others_and_the_table_is_bounded(clock: HandClock) -> None:
    attempts = Attempts(clock)
    for i in range(30_000):
        attempts.begin(f"n{i}", "198.51.100.1")
    assert len(attempts._failures) <= 20_000


def test_one_network_of_version_6_is_one_guesser(clock: HandClock) -> None:
    attempts = Attempts(clock)
    for i in range(LOCKOUT_AFTER):
        attempts.begin("ana", f"2001:db8::{i}")
    assert locked_for(attempts, clock, "ana", "2001:db8::ffff") == LOCKOUT_S
    assert locked_for(attempts, clock, "ana", "2001:db8:0:1::1") == 0.0
    for _ in range(LOCKOUT_AFTER):
        attempts.begin("bob", "198.51.100.1")
    assert locked_for(attempts, clock, "bob", "::ffff:198.51.100.1") == LOCKOUT_S


async def test_a_thousand_guesses_at_once_are_a_thousand(people: SqlOperators) -> None:
    await people.set_password("ana", GOOD)
    results = await asyncio.gather(*(people.by_password("ana", "wrong", "198.51.100.1") for _ in range(1000)), return_exceptions=True)
    assert results.count(None) == LOCKOUT_AFTER
    assert sum(isinstance(r, LockedOutError) for r in results) == 1000 - LOCKOUT_AFTER


def test_the_rate_of_an_address_counts_attempts_under_way() -> None:
    rate = RateLimit(3, 60)
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False]
    rate.give_back("a")
    assert [rate.take("a"), rate.take("a"), rate.take("b")] == [True, False, True]


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_ends_when_idle_at_its_age_and_with_its_operator(store: Store, people: SqlOperators, clock: HandClock) -> None:
    sessions = WebSessions(store, people, clock, 12 * 3600)
    ana = await people.get("ana")
    assert ana is not None

    async def begin() -> str:
        return (await sessions.begin(ana, "password", "local")).session_id

    kept = await begin()
    clock.at += IDLE_S - 1
    assert await sessions.find(kept) is not None
    clock.at += IDLE_S - 1
    assert await sessions.find(kept) is not None
    clock.at += IDLE_S + 1
    assert await sessions.find(kept) is None
    kept = await begin()
    for _ in range(11):
        clock.at += 3600
        assert await sessions.find(kept) is not None
    clock.at += 3600
    assert await sessions.find(kept) is None, "however busy, it is over after its hours"
    for end in (people.set_password("ana", GOOD), people.set_disabled("ana", True)):
        kept = await begin()
        await end
        await people.set_disabled("ana", False)
        assert await sessions.find(kept) is None
    kept = await begin()
    await people.remove("ana")
    await people.add("ana", Role.ADMIN)
    assert await sessions.find(kept) is None, "a new operator of the name does not inherit it"


# --- tokens, and people of other systems ------------------------------------------------------------------------------


async def test_a_token_ends_when_it_says(people: SqlOperators, clock: HandClock) -> None:
    token = await people.add_token("ana", "ci", 60)
    assert await people.by_token(token) is not None
    assert await people.scram_verifier("ana/ci") is not None
    clock.at += 61
    assert await people.by_token(token) is None
    assert await people.scram_verifier("ana/ci") is None


async def test_a_token_does_not_outlive_the_account_elsewhere(store: Store, clock: HandClock) -> None:
    people = SqlOperators(store, clock, external_s=86400)
    await people.upsert_external("bob@example.com", Role.APPROVER, "oidc", "iss 1")
    token = await people.add_token("bob@example.com", "ci", 365 * 86400)
    clock.at += 86000
    assert await people.by_token(token) is not None
    clock.at += 1000
    assert await people.by_token(token) is None
    assert await people.scram_verifier("bob@example.com/ci") is None
    await people.upsert_external("bob@example.com", Role.VIEWER, "oidc", "iss 1")
    found = await people.by_token(token)
    assert found is not None
    assert found.role is Role.VIEWER
    await people.withdraw_external("bob@example.com", "oidc", "iss 2")
    assert await people.by_token(token) is not None, "another account cannot take it from him"
    await people.withdraw_external("bob@example.com", "oidc", "iss 1")
    assert await people.by_token(token) is None


async def test_an_account_elsewhere_is_one_operator(people: SqlOperators) -> None:
    first = await people.upsert_external("Bob@Example.com", Role.APPROVER, "oidc", "iss 1")
    assert first.name == "bob@example.com"
    for name, source, subject, why in (
        ("bob@example.com", "oidc", "iss 2", "another account"),
        ("robert@example.com", "oidc", "iss 1", "you are bob@example.com"),
        ("bob@example.com", "header", "", "is a oidc operator"),
        ("ANA", "oidc", "iss 3", "is a local operator"),
        ("b\u043eb@example.com", "oidc", "iss 4", "letters a to z"),
        ("", "header", "", "letters a to z"),
        ("a b", "header", "", "letters a to z"),
        ("a\n", "header", "", "letters a to z"),
    ):
        with pytest.raises(OperatorError, match=why):
            await people.upsert_external(name, Role.ADMIN, source, subject)
    assert [o.name for o in await people.list()] == ["ana", "bob@example.com"]


async def test_what_was_taken_from_the_first_operator_does_not_come_back(store: Store, clock: HandClock, tmp_path: Path) -> None:
    people, file = SqlOperators(store, clock), tmp_path / "operator.token"
    await people.ensure_first(file)
    token = file.read_text().strip()
    await people.add("chief", Role.ADMIN)
    for take in (people.revoke_token("operator", "first"), people.set_disabled("operator", True), people.remove("operator")):
        await take
        await people.ensure_first(file)
        assert await people.by_token(token) is None
    file.unlink()
    await people.ensure_first(file)
    assert not file.exists()
    # With nobody left, whoever has the machine gets in again.
    await people.set_disabled("chief", True)
    await people.ensure_first(file)
    found = await people.by_token(file.read_text().strip())
    assert found is not None
    assert found.role is Role.ADMIN


# --- four eyes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "own", "requester", "expected"),
    [
        ("ana", (), ("ana", "", ()), True),
        ("ana", (), ("ANA", "", ()), True),
        ("ana", (), ("app", "", ()), False),
        ("ana", ("app",), ("app", "", ()), True),
        ("ana@example.com", (), ("ana", "", ()), True),
        ("ana+db@example.com", (), ("ana", "", ()), True),
        ("ana", (), ("ana@example.com", "", ()), True),
        ("ana", (), ("app", "ana", ()), True),
        ("ana", (), ("app", "Ana", ()), True),
        ("ana@example.com", (), ("app", "Ana Smith", ("Ana@Example.com",)), True),
        ("ana", (), ("app", "Ana Smith", ("ana@example.com",)), True),
        ("bob", (), ("app", "Ana Smith", ("ana@example.com",)), False),
        ("bob", (), ("app", "", ()), False),
        ("@example.com", (), ("", "", ()), False),
    ],
)
def test_who_decides_about_his_own(
    operator: str, own: tuple[str, ...], requester: tuple[str, str, tuple[str, ...]], expected: bool
) -> None:
    role, certificate, emails = requester
    who = Requester(SessionId(1), role, "shop", "x", "a:1", certificate, emails)
    assert is_own(Operator(operator, Role.APPROVER, database_roles=own), who) is expected


def test_the_names_in_a_certificate() -> None:
    subject = ((("countryName", "DE"),), (("commonName", "Ana Smith"),), (("emailAddress", "ana@old.example"),))
    names = (("DNS", "ana.example.com"), ("email", "ana@example.com"), ("email", "ana@example.com"))
    assert client_names({"subject": subject, "subjectAltName": names}) == ("Ana Smith", ("ana@example.com", "ana@old.example"))
    assert client_names({"subject": (), "subjectAltName": names}) == ("ana@example.com", ("ana@example.com",))
    assert client_names({"subject": ((("commonName", "x" * 5000),),)}) == ("x" * 256, ())
    assert client_names({}) == client_names(None) == ("", ())


@pytest.mark.parametrize(
    "target", ["//e", "///e", "/\\e", "\\/e", "http:e", "https://e", "/\te", "/a\nb", " /x", "", "javascript:x", "/\u2028e\x7f"]
)
def test_no_target_leads_to_another_host(target: str) -> None:
    assert local_path(target) == "/"


@pytest.mark.parametrize("target", ["/", "/holds/1?x=//y", "/a/b#c"])
def test_targets_of_ours_stay(target: str) -> None:
    assert local_path(target) == target
