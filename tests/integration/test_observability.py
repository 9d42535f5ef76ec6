"""Dashboard and alerts against what a running pghold exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, free_port

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/pghold.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
ALERTS_TEST = ROOT / "deploy/prometheus/alerts_test.yml"
METRICS_PAGE = ROOT / "docs/metrics.md"
#: Of Prometheus itself, about any target.
BUILT_IN = {"up", "ALERTS"}
WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset", "le", "inf", "nan"}


def promtool(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("promtool")
    assert program is not None, "promtool is needed: apt-get install prometheus"
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, timeout=60, check=False)


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\b[a-z_]\w*\s*(?=\()", " ", text)
    return {name for name in re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*", text) if name not in WORDS}


@pytest.fixture(scope="module")
def exported(postgres18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """After one statement was held and denied, with a route, a sink and a second place that nobody listens at."""
    folder = tmp_path_factory.mktemp("observed")
    nobody = free_port()
    file = folder / "pghold.toml"
    file.write_text(
        f'audit_sinks = ["syslog+tcp://127.0.0.1:{nobody}"]\naudit_checkpoints = ["file:{folder}/checkpoints.jsonl"]\n'
        f'[[notifications]]\nname = "ops"\nwebhook = "http://127.0.0.1:{nobody}/"\nsecret = "0123456789abcdef0123456789abcdef"\n'
    )
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(file))
    try:
        client = Client(proxy, "DROP TABLE IF EXISTS not_there")
        proxy.deny(proxy.wait_for_hold()["id"])
        client.join(10)
        return proxy.http.get("/metrics").text
    finally:
        assert proxy.stop() == 0


@pytest.fixture(scope="module")
def series(exported: str) -> set[str]:
    """Every name with a value or at least a type, as Prometheus will know it."""
    found = {re.split(r"[{ ]", line)[0] for line in exported.splitlines() if not line.startswith("#")}
    return found | {line.split()[2] for line in exported.splitlines() if line.startswith("# TYPE") and not line.endswith("histogram")}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (a["expr"] for a in dashboard["annotations"]["list"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), *\w+\)", r"\1", variable["definition"])


def test_names_are_found_in_expressions() -> None:
    text = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x="sum(b)"}[5m]))) / on (job) group_left (x) c:d > 1e3 and e offset 5m'
    assert names_in(text) == {"a_bucket", "c:d", "e"}


def test_metrics_are_well_formed(exported: str) -> None:
    checked = promtool("check", "metrics", stdin=exported.encode())
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "_created" not in exported


def test_rules_are_well_formed_and_do_what_they_say() -> None:
    checked = promtool("check", "rules", str(ALERTS))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", str(ALERTS_TEST))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_seen_to_fire_and_to_stay_silent_and_says_what_to_do() -> None:
    text = ALERTS_TEST.read_text()
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert f"alertname: {alert['alert']}, exp_alerts: []" in text, alert["alert"]
        assert f'alertname="{alert["alert"]}"' in text or f"alertname: {alert['alert']}\n        exp_alerts:\n" in text, alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert f"`{alert['alert']}`" in METRICS_PAGE.read_text()


def test_all_that_alerts_and_dashboard_read_is_exported(series: set[str]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        wanted = names_in(rule["expr"])
        assert wanted, rule
        assert wanted <= series | recorded | BUILT_IN, (rule, wanted - series)
    seen: set[str] = set()
    for expression in dashboard_expressions():
        wanted = names_in(expression)
        assert wanted, expression
        # Without recorded names: the dashboard works without the rules.
        assert wanted <= series, (expression, wanted - series)
        seen |= wanted
    assert len(seen) > 15


def test_labels_that_are_chosen_by_are_there(exported: str) -> None:
    """`state="expired"` in a rule is of no use when no series has it."""
    for expression in [*dashboard_expressions(), *(rule["expr"] for rule in rules())]:
        for name, selector in re.findall(r"([a-z_:]+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)="(\w+)"', selector):
                if label not in ("job", "instance"):
                    assert re.search(rf'^{name}\{{[^}}]*{label}="{value}"', exported, re.MULTILINE), (name, label, value)


def test_the_page_lists_every_metric(series: set[str]) -> None:
    page = METRICS_PAGE.read_text()
    for name in series:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"`{base}" in page or f"`{name}" in page or f"`{base.removesuffix('_total')}" in page, name


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 36  # of Grafana 9; later ones migrate
    assert "id" not in dashboard or dashboard["id"] is None
    assert dashboard["templating"]["list"][0] == {**dashboard["templating"]["list"][0], "type": "datasource", "query": "prometheus"}
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        assert [t["refId"] for t in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_no_panel_lies_over_another() -> None:
    for one, other in combinations(panels(), 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, (one["title"], other["title"])


def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """As rules, with Grafana's variables filled in, which promtool can read."""
    written = []
    for index, expression in enumerate(dashboard_expressions()):
        filled = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
        assert "$" not in filled
        written.append({"record": f"dashboard:expression{index}", "expr": filled})
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": written}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
