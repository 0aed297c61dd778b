"""A node's metrics page, as Prometheus reads it: what it says of a run that is over is what the run's tables say, and
what the dashboard asks is answered."""

import json
import shutil
import subprocess
import time
import urllib.request
from urllib.error import URLError
from urllib.parse import urlencode

import metrics_page
import pytest
from dashboard import expressions
from patience import PATIENCE_S
from ports import free_ports
from test_several_routers import N, cells, new_run, opened_session

from actors.router.metrics import names
from pipelines.run.evaluate import evaluate
from steer.traces import PAIR

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

ROUTERS = 2
NEVER = (names.FAILED, names.REPLACED, names.GPU_S)
"""What this run never counts."""


def scrape(run):
    """What the page says of a run: by name (without Ray's prefix), by (router, role, state), the value."""
    found = {}
    for sample in metrics_page.samples():
        if sample.labels.get(names.RUN) == run:
            key = tuple(sample.labels.get(label) for label in (names.ROUTER, names.ROLE, names.STATE))
            found.setdefault(sample.name.removeprefix("ray_"), {})[key] = sample.value
    return found


def total(values, role=None):
    return sum(value for (_, of_role, _), value in values.items() if role is None or of_role == role.label)


class Prometheus:
    """A server of Prometheus at `url`."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, **query):
        """The data of an answer of its HTTP API."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def series(self, expression):
        """What an expression has given at any second since the server started."""
        now_s = time.time()
        return self.ask("query_range", query=expression, start=now_s - PATIENCE_S, end=now_s, step=1)["result"]


@pytest.fixture(scope="module")
def prometheus(local_ray, tmp_path_factory):
    """Prometheus, which reads this node's page every second; None where it is not installed."""
    if shutil.which("prometheus") is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("prometheus")
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [metrics_page.address()]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # YAML too
    address = f"127.0.0.1:{free_ports(1)[0]}"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder, "web.listen-address": address}
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            server, deadline_s = Prometheus(f"http://{address}"), time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline_s:
                try:
                    if server.ask("query", query="up == 1")["result"]:
                        break
                except URLError:
                    continue
            yield server
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def finished(local_ray, prometheus, tmp_path_factory):
    """A run by two routers, what they counted, and the page once the last trace is on it."""
    run = new_run(tmp_path_factory.mktemp("metrics") / "scraped")
    with opened_session(run, ROUTERS) as opened:
        evaluate(cells(), opened.routers, run)
        stats, infos = opened.stats(), opened.infos
    deadline_s, page = time.monotonic() + PATIENCE_S, {}
    while total(page.get("steer_traces_done_total", {})) < stats.done and time.monotonic() < deadline_s:
        page = scrape(run.name)
    return run, stats, infos, page


def test_the_page_holds_the_values_of_the_finished_run(finished):
    run, stats, infos, page = finished
    traces = run.read("traces").to_pandas()
    asked = traces[traces.trace_id != "bad:0"]
    assert total(page["steer_traces_done_total"]) == stats.done == 2 * N
    assert total(page["steer_traces_live"]) == total(page["steer_traces_queued"]) == 0
    for role in PAIR:
        tokens = asked[f"tokens_{role.label}"].sum()
        assert total(page["steer_tokens_total"], role) == tokens > 0
        assert total(page["steer_prompt_tokens_total"], role) == asked[f"prefill_{role.label}"].sum() > 0
        assert total(page["steer_flops_total"], role) == 2 * infos[role].parameters * tokens
        assert total(page["steer_steps_total"], role) == getattr(stats, f"steps_{role.label}") > 0
        assert total(page["steer_replicas"], role) == 0
        assert total(page["steer_replica_seconds_total"], role) >= stats.replica_s[role] > 0
    for never in NEVER:  # Prometheus must have seen them before they count, or an alert misses the first increase
        assert 0 < total(page[never.name]) < 1e-300
    assert total(page["steer_journal_seconds_total"]) == pytest.approx(stats.journal_s)
    assert total(page["steer_fit_seconds_total"]) == pytest.approx(stats.fit_s)


def test_each_router_has_its_own_series_of_every_metric(finished):
    *_, page = finished
    assert set(page) == {metric.name for metric in names.METRICS} - {names.USD.name}, "it has no prices"
    for values in page.values():
        assert {router for router, _, _ in values} == {"0", "1"}


def test_prometheus_answers_every_panel_of_the_dashboard(finished, prometheus):
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    run, *_ = finished
    of_grafana = {"$run": run.name, "$__rate_interval": "1m"}
    waiting = {expression for expression in expressions() if "ray_vllm_" not in expression}
    never = {expression for expression in waiting if f"ray_{names.USD.name}" in expression}
    deadline_s = time.monotonic() + PATIENCE_S
    while waiting - never and time.monotonic() < deadline_s:
        for expression in sorted(waiting):
            asked = expression
            for variable, value in of_grafana.items():
                asked = asked.replace(variable, value)
            if prometheus.series(asked):
                waiting.remove(expression)
    assert waiting <= never
    assert run.name in prometheus.ask("label/run/values")
