"""What an operator hands to Prometheus and Grafana: it names only exported metrics, and says when to wake somebody."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from dashboard import expressions, panels
from paths import ROOT

from actors.router.metrics.names import METRICS
from actors.router.replica import ReplicaState

FOLDER = ROOT / "cluster" / "monitoring"
EXPORTED = {f"ray_{metric.name}": metric for metric in METRICS}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def alerts():
    (group,) = read("alerts.yml")["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


EXPRESSIONS = expressions() + [rule["expr"] for rule in alerts().values()]


def metrics_in(expression):
    return set(re.findall(r"\bray_\w+", expression))


def test_only_metrics_that_the_code_exports_are_asked_for():
    asked = {name for expression in EXPRESSIONS for name in metrics_in(expression)}
    of_vllm = {name for name in asked if name.startswith("ray_vllm_")}
    assert asked - of_vllm <= set(EXPORTED)
    assert set(EXPORTED) <= asked, "a metric that nobody looks at"
    spec = find_spec("vllm")
    source = (Path(spec.origin).parent / "v1/metrics/loggers.py").read_text()
    for name in of_vllm:
        assert f'"vllm:{name.removeprefix("ray_vllm_").removesuffix("_total")}"' in source


def test_only_labels_that_these_metrics_have_are_asked_for():
    every = {"run", "router"}
    for expression in EXPRESSIONS:
        for name, chosen in re.findall(r"\b(ray_steer_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", chosen)) <= every | set(EXPORTED[name].labels)
        of_vllm = {"model_name"} if "ray_vllm_" in expression else set()
        labels = of_vllm.union(every, *(EXPORTED[name].labels for name in metrics_in(expression) if name in EXPORTED))
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= labels
    states = re.findall(r'state=~?"([^"]+)"', " ".join(EXPRESSIONS))
    assert {state for found in states for state in found.split("|")} <= {state.value for state in ReplicaState}


def test_counters_are_read_as_counters():
    for expression in EXPRESSIONS:
        for name in re.findall(r"(?:rate|increase)\((ray_steer_\w+)", expression):
            assert EXPORTED[name].counts


def test_five_alerts_wake_somebody_and_each_says_what_to_do():
    assert sum(rule["labels"]["severity"] == "page" for rule in alerts().values()) == 5
    assert all({"summary", "remedy"} <= rule["annotations"].keys() for rule in alerts().values())


def test_panels_have_their_own_place_and_words():
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in found)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in found}
    assert len(places) == len(found) and all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in found)


def test_the_compose_file_mounts_files_that_are_there_and_listens_to_this_machine_alone():
    services = read("compose.yaml")["services"]
    assert services.keys() == {"prometheus", "grafana"}
    for service in services.values():
        sources = [mount.split(":")[0] for mount in service["volumes"]]
        assert all((FOLDER / source).exists() for source in sources if source.startswith("./"))
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    grafana = services["grafana"]["environment"]
    assert grafana["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    source = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    provider = read("grafana/provisioning/dashboards/steer.yaml")["providers"][0]
    assert {source["url"], provider["options"]["path"]} == {"${STEER_PROMETHEUS}", "${STEER_DASHBOARDS}"}
    assert {"STEER_PROMETHEUS", "STEER_DASHBOARDS"} <= grafana.keys()
    assert all(panel["datasource"]["uid"] == source["uid"] for panel in panels())


def test_prometheus_reads_the_nodes_that_ray_lists():
    config = read("prometheus.yml")
    assert all((FOLDER / name).exists() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == ["/tmp/ray/prom_metrics_service_discovery.json"]


CASES = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'ray_steer_traces_live{{run="stuck"}}', values: '8x120'}}
      - {{series: 'ray_steer_traces_done_total{{run="stuck"}}', values: '5x120'}}
      - {{series: 'ray_steer_traces_live{{run="fine"}}', values: '8x120'}}
      - {{series: 'ray_steer_traces_done_total{{run="fine"}}', values: '0+10x120'}}
      - {{series: 'ray_steer_traces_failed_total{{run="fine"}}', values: '0+0.1x120'}}
      - {{series: 'ray_steer_traces_live{{run="bad"}}', values: '8x120'}}
      - {{series: 'ray_steer_traces_done_total{{run="bad"}}', values: '0+10x120'}}
      - {{series: 'ray_steer_traces_failed_total{{run="bad"}}', values: '0+1x120'}}
      - {{series: 'ray_steer_replicas{{run="fine", role="small", state="live"}}', values: '1x120'}}
      - {{series: 'ray_steer_replicas{{run="fine", role="small", state="loading"}}', values: '1x120'}}
      - {{series: 'ray_steer_replicas{{run="bad", role="large", state="live"}}', values: '0x120'}}
      - {{series: 'ray_steer_replicas{{run="bad", role="large", state="waiting"}}', values: '2x120'}}
      - {{series: 'ray_steer_replicas{{run="fine", role="large", state="live"}}', values: '0x120'}}
      - {{series: 'ray_steer_replicas_replaced_total{{run="bad"}}', values: '0+1x120'}}
      - {{series: 'ray_steer_cost_usd_total{{run="bad", by="gpu_hours", role="large"}}', values: '0+20x120'}}
      - {{series: 'ray_steer_cost_usd_total{{run="fine", by="gpu_hours", role="large"}}', values: '0+1x120'}}
      - {{series: 'ray_steer_router_loop_seconds_total{{run="bad", router="0"}}', values: '0+57x120'}}
      - {{series: 'ray_steer_router_loop_seconds_total{{run="fine", router="0"}}', values: '0+20x120'}}
    promql_expr_test:
      - expr: sum by (alertname, run) (ALERTS{{alertstate="firing"}})
        eval_time: 100m
        exp_samples:
          - {{labels: '{{alertname="SteerNoTraceEnds", run="stuck"}}', value: 1}}
          - {{labels: '{{alertname="SteerPoolWithoutReplica", run="bad"}}', value: 1}}
          - {{labels: '{{alertname="SteerReplicasDie", run="bad"}}', value: 1}}
          - {{labels: '{{alertname="SteerErrorRows", run="bad"}}', value: 1}}
          - {{labels: '{{alertname="SteerCostsTooMuch", run="bad"}}', value: 1}}
          - {{labels: '{{alertname="SteerRouterSaturated", run="bad"}}', value: 1}}
"""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_itself_fires_each_alert_for_the_run_that_is_ill_and_for_no_other(tmp_path):
    config = ["promtool", "check", "config", str(FOLDER / "prometheus.yml")]
    assert subprocess.run(config, capture_output=True).returncode == 0
    cases = tmp_path / "cases.yml"
    cases.write_text(CASES.format(alerts=FOLDER / "alerts.yml"))
    done = subprocess.run(["promtool", "test", "rules", str(cases)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
