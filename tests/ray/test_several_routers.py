"""A run with several routers: one table comes out, as with one router; also if a router or the driver is killed."""

import subprocess
import threading
from collections import Counter
from contextlib import suppress

import pytest
import ray
import yaml
from held_rows import held
from patience import PATIENCE_S
from test_command_line import simulated_pair
from test_command_line import start as start_steer
from test_supervisor import REREAD, TIMING, rows_of, simulated

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.run import run_one
from pipelines.run.session import session
from pipelines.run.supervisor import Supervisor
from steer.benchmarks import BenchmarkRow
from steer.config.load import SettingsError, load_config
from steer.config.policy import SteerPolicy
from steer.config.run import PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.traces import Question, Role

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

N, GROUPS, STEPS = 48, 5, 6


def cells():
    """Two cells of five groups each; one question cannot be asked."""
    rows = [BenchmarkRow(Question(f"q{i:03d}", 0, "made_up", f"question {i}", "7", "math")) for i in range(N)]
    rows.append(BenchmarkRow(Question("bad", 0, "made_up", "", "7", "math"), "own.jsonl row 49: no question"))
    policy = SteerPolicy(preset="stepwise")
    return [
        Cell(name, policy, RoutingOptions(groups_in_flight=4), held(rows), "all", seed, GROUPS)
        for seed, name in enumerate(("a", "b"))
    ]


def opened_session(run, routers, large=None, **options):
    small = PoolConfig(replicas=routers, cpus=0.1)
    pools = PoolsConfig(small=small, large=large or small, routers=routers)
    return session(simulated(steps=STEPS, **options), pools, policies=[], journal=run.journal, run=run.name)


def new_run(folder):
    return RunFolder.create(folder, "run", {}, [0])


@pytest.fixture(scope="module")
def whole(local_ray, tmp_path_factory):
    """The run that one router made."""
    run = new_run(tmp_path_factory.mktemp("whole") / "run")
    with opened_session(run, 1) as opened:
        evaluate(cells(), opened.routers, run)
    return run


def assert_same(run, whole):
    assert Counter(run.read("traces")["trace_id"].to_pylist()) == Counter(whole.read("traces")["trace_id"].to_pylist())
    for table in ("traces", "steps", "mixtures"):
        assert rows_of(run, table, TIMING | REREAD) == rows_of(whole, table, TIMING | REREAD)


def test_two_routers_share_the_groups_and_make_one_table(tmp_path, whole):
    run = new_run(tmp_path / "run")
    elastic = PoolConfig(min_replicas=0, max_replicas=2, cpus=0.1)  # so each has a replica when it first needs one
    with opened_session(run, 2, large=elastic) as opened:
        evaluate(cells(), opened.routers, run)
        each = ray.get([handle.stats.remote() for handle in opened.routers.handles])
        stats = opened.stats()
        assert opened.infos.keys() == {Role.SMALL, Role.LARGE}
    assert_same(run, whole)
    assert all(router.done == router.total - router.queued >= 0.4 * 2 * N for router in each)
    assert stats.done == stats.total == 2 * N and stats.live == stats.queued == 0
    tokens = sum(run.read("steps")["tokens"].to_pylist())
    assert stats.tokens_small + stats.tokens_large == tokens == sum(r.tokens_small + r.tokens_large for r in each)


def test_one_of_two_routers_that_is_killed_costs_no_row_and_changes_no_answer(tmp_path, whole):
    run, kills = new_run(tmp_path / "run"), []

    def work(cells, opened, run):
        def kill():
            while not kills and run.read("traces").num_rows <= N // 2:
                stop.wait(0.05)
            kills.append(opened.routers)
            ray.kill(opened.routers.handles[1])

        stop = threading.Event()
        if not kills:
            threading.Thread(target=kill, daemon=True).start()
        evaluate(cells, opened.routers, run)
        if opened.routers is not kills[0]:
            lived.append(opened.stats().replicas)

    lived = []
    with Supervisor(run, lambda: opened_session(run, 2, step_s=0.2)) as supervisor:
        supervisor.evaluate(cells(), work)
    assert lived == [{Role.SMALL: 2, Role.LARGE: 2}]
    assert_same(run, whole)


def test_a_driver_that_is_killed_goes_on_with_another_number_of_routers_from_where_it_was(local_ray, tmp_path):
    """From two routers to one, and to three, with a kill in between."""
    out, log = tmp_path / "run", tmp_path / "begun"
    engine = {"steps": 24, "exact": True, "step_s": 0.2, "log": str(log)}
    config = {
        "benchmark": {"limit": N, "groups": 6},
        "pair": simulated_pair(**engine),
        "policy": {"name": "steer", "preset": "stepwise"},
        "routing": {"groups_in_flight": 6},
        "pools": {name: {"replicas": 3, "cpus": 0.1} for name in ("small", "large")},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))

    def begun():
        return log.read_text().split() if log.exists() else []

    def go_on(routers):
        ask = ["run", tmp_path / "run.yaml", "--resume", out, "--set", f"pools.routers={routers}"]
        return start_steer(ask, local_ray, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    at_kills = []
    for routers in (2, 1):
        before, steer = len(begun()), go_on(routers)
        while len(begun()) < before + 6 * N:
            with suppress(subprocess.TimeoutExpired):
                steer.wait(0.1)
                pytest.fail(f"the run ended by itself: {steer.stderr.read()}")
        steer.kill()
        steer.communicate()
        at_kills.append(len(begun()))
    last = go_on(3)
    _, errors = last.communicate(timeout=PATIENCE_S)
    assert last.returncode == 0, errors

    run = RunFolder.open(out)
    traces = run.read("traces")["trace_id"].to_pylist()
    assert len(traces) == len(set(traces)) == N
    steps = run.read("steps", columns=["trace_id", "step", "attempt"]).to_pylist()
    assert len({tuple(step.values()) for step in steps}) == len(steps)
    # A kill costs each live trace one call: what a journal that was not found costs is all that it had written.
    texts = begun()
    for kill, end in zip(at_kills, [*at_kills[1:], len(texts)], strict=True):
        assert len(set(texts[:kill]) & set(texts[kill:end])) <= N
    assert not (out / "journal").exists()


def test_routers_that_would_have_nothing_to_do_are_refused(tmp_path):
    pools = ["pools.routers=2", "pools.small.replicas=2", "pools.large.replicas=2"]
    with pytest.raises(SettingsError, match=r"benchmark\.groups = 1 is fewer than pools\.routers = 2.* to 2"):
        run_one(load_config(None, pools), tmp_path / "run")
    few = [*pools, "benchmark.groups=2", "routing.groups_in_flight=1"]
    with pytest.raises(SettingsError, match=r"routing\.groups_in_flight = 1 is fewer than pools\.routers = 2"):
        run_one(load_config(None, few), tmp_path / "run")
    assert not (tmp_path / "run").exists()
