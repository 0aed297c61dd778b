"""A node's metrics page, as Prometheus reads it: what it says of a run that is over is what the run's tables say."""

import time
import urllib.request

import pytest
import ray
from patience import PATIENCE_S
from prometheus_client.parser import text_string_to_metric_families
from test_several_routers import N, cells, new_run, opened_session

from actors.router.metrics import names
from pipelines.run.evaluate import evaluate
from steer.traces import PAIR

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

ROUTERS = 2


def scrape(run):
    """What the page says of a run: by name (without Ray's prefix), by (router, role, state), the value."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.labels.get(names.RUN) == run:
            key = tuple(sample.labels.get(label) for label in (names.ROUTER, names.ROLE, names.STATE))
            found.setdefault(sample.name.removeprefix("ray_"), {})[key] = sample.value
    return found


def total(values, role=None):
    return sum(value for (_, of_role, _), value in values.items() if role is None or of_role == role.label)


@pytest.fixture(scope="module")
def finished(local_ray, tmp_path_factory):
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
    assert total(page["steer_journal_seconds_total"]) == pytest.approx(stats.journal_s)
    assert total(page["steer_fit_seconds_total"]) == pytest.approx(stats.fit_s)


def test_each_router_has_its_own_series_of_every_metric(finished):
    *_, page = finished
    never = {
        names.FAILED.name,
        names.REPLACED.name,
        names.GPU_S.name,
        names.USD.name,
    }  # a counter that counted nothing has no series
    assert set(page) == {metric.name for metric in names.METRICS} - never
    for values in page.values():
        assert {router for router, _, _ in values} == {"0", "1"}
