"""[[notifications]]: what is read, what is refused, what is shown, and who is told of what."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.notify import compose
from proxy.notify.message import Message, Topic
from proxy.notify.routes import load_routes, without_addresses
from tests.proxy.notifying import NOW, a_hold, a_route, decided

GOOD = '[[notifications]]\nname = "ops"\nwebhook = "https://hooks.example.com/T0KEN"\nsecret = "a long enough secret"\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "pghold.toml"
    file.write_text(text)
    return file


def test_no_file_and_a_file_without_routes_are_no_routes(tmp_path: Path) -> None:
    assert load_routes(None) == ()
    assert load_routes(written(tmp_path, 'profile = "guard"\n')) == ()


def test_addresses_come_from_the_environment_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_TOKEN", "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    (tmp_path / "secret").write_text("from a file, long enough\n")
    text = (
        '[[notifications]]\nname = "chat"\nurls = "slack://${SLACK_TOKEN}"\n'
        f'[[notifications]]\nname = "hook"\nwebhook = "https://h.example.com/"\nsecret = "${{file:{tmp_path}/secret}}"\n'
    )
    chat, hook = load_routes(written(tmp_path, text))
    assert chat.urls[0].get_secret_value() == "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert hook.secret.get_secret_value() == "from a file, long enough"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[[notifications]]\nwebhook = 1\n", "notifications[0].name", "missing"),
        (GOOD + 'colour = "red"\n', "notifications[0].colour", "unknown key"),
        (GOOD + 'min_severity = "bad"\n', "notifications[0].min_severity", "low, medium, high or critical"),
        (GOOD + 'events = ["hold.gone"]\n', "notifications[0].events", "hold.opened"),
        (GOOD + 'urls = ["json://x"]\n', "notifications[0]", "not both"),
        (GOOD + GOOD, "notifications", "two routes have the name ops"),
        (GOOD + "remind_at = [1.5]\n", "notifications[0].remind_at", "between 0 and 1"),
        (GOOD + "tries = 0\n", "notifications[0].tries", "greater than or equal to 1"),
        ('[[notifications]]\nname = "a b"\nurls = "json://x"\n', "notifications[0].name", "match"),
        ('[[notifications]]\nname = "a"\n', "notifications[0]", 'expected urls = ["slack://…"]'),
        ('[[notifications]]\nname = "a"\nurls = "hunter2secret"\n', "notifications[0].urls", "no address that apprise knows"),
        ('[[notifications]]\nname = "a"\nurls = [17]\n', "notifications[0].urls[0]", "valid string"),
        ('[[notifications]]\nname = "a"\nurls = "json://${NO_SUCH_VARIABLE}"\n', "notifications[0].urls", "NO_SUCH_VARIABLE"),
        ('[[notifications]]\nname = "a"\nurls = "json://${file:/nowhere}"\n', "notifications[0].urls", "No such file"),
        ('[[notifications]]\nname = "a"\nwebhook = "ftp://hunter2secret/"\n', "notifications[0].webhook", "https://HOST"),
        ('[[notifications]]\nname = "a"\nwebhook = "http://h:99999999/hunter2secret"\n', "notifications[0].webhook", "https://HOST"),
        ('[[notifications]]\nname = "a"\nwebhook = "https://h/"\nsecret = "hunter2secret"\n', "notifications[0]", "16 characters"),
        ('notifications = "hunter2secret"\n', "notifications", ""),
    ],
)
def test_a_mistake_is_told_with_file_key_and_expected_form_and_without_the_secret(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_routes(file)
    assert f"{file}: {key}" in str(caught.value)
    assert expected in str(caught.value)
    assert "hunter2secret" not in str(caught.value)
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        (["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"], "slack://…"),
        (["mailto://user:hunter2@mail.example.com:25?to=a@example.com"], "mailto://mail.example.com:25"),
        (["discord://123456789012345678/abcdefghijk"], "discord://…"),
        (["json://user:hunter2@127.0.0.1:99/token", "json://127.0.0.1:99/other"], "json://127.0.0.1:99"),
    ],
)
def test_only_scheme_and_host_of_an_address_are_shown(urls: list[str], shown: str) -> None:
    route = a_route(urls=urls)
    assert route.shown == shown
    told = repr(route) + str(route) + route.model_dump_json()
    assert "hunter2" not in told
    assert "TIiajkdn" not in told


def test_what_a_service_repeats_of_its_address_is_taken_out() -> None:
    route = a_route(urls=["json://user:hunter%232@h.example.com/to/ken12345?x=querysecret"])
    said = "POST json://user:hunter%232@h.example.com/to/ken12345 as user with hunter#2 and ken12345, querysecret: refused"
    cleaned = route.without_secrets(said)
    assert "hunter" not in cleaned
    assert "ken12345" not in cleaned
    assert "querysecret" not in cleaned
    assert "refused" in cleaned
    hook = a_route(webhook="https://h.example.com/services/T0KEN", secret="a long enough secret")
    assert "T0KEN" not in hook.without_secrets("GET /services/T0KEN")


def test_the_record_of_a_changed_file_has_no_addresses() -> None:
    text = 'profile = "guard"\n' + GOOD + 'min_severity = "high"\n'
    cleaned = without_addresses(text)
    assert "T0KEN" not in cleaned
    assert "a long enough" not in cleaned
    assert 'min_severity = "high"' in cleaned
    assert without_addresses('[[notifications]]\nurls = ["json://\\u0068unter2"]\n') == ""
    assert without_addresses("not toml [") == ""


# --- who is told of what ----------------------------------------------------------------------------------------------


def opened(**changes: str) -> Message:
    return compose.opened(a_hold(**changes), NOW)


def test_a_route_is_told_of_all_but_changes_by_default() -> None:
    route = a_route()
    assert route.wants(opened())
    assert not route.wants_changes
    assert all(route.wants(opened().model_copy(update={"topic": t})) for t in Topic if t is not Topic.CHANGED)
    assert not route.wants(opened().model_copy(update={"topic": Topic.CHANGED}))


def test_conditions_choose_by_severity_database_environment_and_event() -> None:
    assert not a_route(min_severity="critical").wants(opened())
    assert a_route(min_severity="high").wants(opened())
    assert a_route(databases="sh*").wants(opened())
    assert not a_route(databases="billing").wants(opened())
    assert not a_route(environments="test").wants(opened())
    assert a_route(events="hold.approved").wants(compose.settled(decided(a_hold()), NOW) or opened())
    assert not a_route(events="hold.approved").wants(opened())


def test_health_is_of_no_database_and_so_of_every_route_that_is_told_of_it() -> None:
    problem = compose.problem(["the server is gone"], "health-1", "production", NOW, NOW)
    assert a_route(databases="billing", environments="test").wants(problem)
    assert not a_route(events="hold.*").wants(problem)


def test_break_glass_is_for_every_route_whatever_its_conditions() -> None:
    message = compose.settled(decided(a_hold(), break_glass=True), NOW)
    assert message is not None
    assert message.topic is Topic.BREAK_GLASS
    assert a_route(databases="billing", environments="test", events="health.*", min_severity="critical").wants(message)


def test_practice_is_told_only_to_routes_that_name_it() -> None:
    message = opened(environment="practice")
    assert not a_route().wants(message)
    assert not a_route(environments="*").wants(message)
    assert a_route(environments=["practice"]).wants(message)
    loud = compose.settled(decided(a_hold(environment="practice"), break_glass=True), NOW)
    assert loud is not None
    assert not a_route().wants(loud)
