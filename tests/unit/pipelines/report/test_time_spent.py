"""Where a run's time goes: what adds up to what, what is kept in run.json, and the report's table of it."""

import csv
import io
from types import SimpleNamespace

import pytest
from handmade_runs import make

from actors.router.stats import RouterStats
from actors.router.trace_time import LiveTime
from pipelines.report import totals
from pipelines.report.tables import as_csv
from pipelines.report.time_spent import added, lines, spent, table
from pipelines.report.totals import Meter, add_uncounted, gpu_seconds_of
from pipelines.report.write import time_section
from pipelines.report.written import Written
from steer.config.run import PoolConfig, PoolsConfig
from steer.storage.run_folder import RunFolder
from steer.traces import Role

BEFORE = RouterStats(
    replica_s={Role.SMALL: 3.0, Role.LARGE: 6.0},
    busy_s={Role.SMALL: 1.0, Role.LARGE: 1.0},
    outstanding_s={Role.SMALL: 2.0, Role.LARGE: 1.0},
    trace_s={"out": 10.0},
    row_s={(Role.SMALL, True): 5.0},
    fit_s=1.0,
)
AFTER = RouterStats(
    replica_s={Role.SMALL: 13.0, Role.LARGE: 26.0},
    busy_s={Role.SMALL: 5.0, Role.LARGE: 13.0},
    outstanding_s={Role.SMALL: 7.0, Role.LARGE: 9.0},
    trace_s={"out": 110.0, "deciding": 5.0, "barrier": 20.0, "router": 1.0},
    row_s={(Role.SMALL, True): 35.0, (Role.SMALL, False): 10.0, (Role.LARGE, True): 40.0},
    fit_s=1.5,
    journal_s=0.25,
    loop_s=2.0,
    live_s=9.0,
)
FOUND = spent(BEFORE, AFTER, 10.0, grading_s=0.1)


def test_an_engine_pools_parts_add_up_to_its_replicas_seconds():
    assert FOUND["small"] == pytest.approx(
        {"writing": 3.0, "scoring": 1.0, "idle_waiting": 1.0, "idle": 4.0, "no_trace": 1.0}
    )
    # 2 replicas: of the 16 s that rows were out they were busy for 12.
    assert FOUND["large"] == pytest.approx(
        {"writing": 12.0, "scoring": 0.0, "idle_waiting": 4.0, "idle": 2.0, "no_trace": 2.0}
    )


def test_seconds_with_a_live_trace_are_counted_once_whatever_their_number(monkeypatch):
    monkeypatch.setattr("actors.router.trace_time.time.monotonic", iter([0.0, 1.0, 2.0, 4.0, 9.0, 10.0]).__next__)
    lived = LiveTime()
    assert [lived.note(live) for live in (5, 3, 0, 1, 0)] == [0.0, 1.0, 3.0, 3.0, 4.0]


def test_the_traces_parts_add_up_to_their_lives():
    assert FOUND["traces"] == pytest.approx(
        {
            "small_writes": 30.0,
            "large_writes": 40.0,
            "scoring": 10.0,
            "on_the_way": 20.0,
            "deciding": 5.0,
            "barrier": 20.0,
            "router": 1.0,
        }
    )


def test_what_is_beside_the_engines_is_a_share_of_the_wall_time():
    shares = {line.part: line.share for line in lines(FOUND) if line.of == "beside"}
    assert shares == pytest.approx({"router": 0.2, "policies": 0.05, "journal": 0.025, "grading": 0.01})


def test_shares_of_a_whole_add_up_to_one_and_every_part_is_explained():
    for whole in ("small engines", "large engines", "traces"):
        assert sum(line.share for line in lines(FOUND) if line.of == whole) == pytest.approx(1.0)
    assert all(line.meaning for line in lines(FOUND))


def test_pipelines_of_one_run_are_added_up(tmp_path):
    run = RunFolder.open(make(tmp_path / "run"))
    for _ in range(2):
        meter = Meter(run, [], iter([BEFORE, AFTER]).__next__, PoolsConfig(large=PoolConfig(gpus=2)), RouterStats())
        meter.end(grading_s=0.1)
    described = run.describe()
    assert described["time"]["traces"] == pytest.approx(added(FOUND, FOUND)["traces"])
    # Loading before the first pipeline counts too: all replica-seconds since the routers started.
    assert described["engines"]["replica_s"] == {"small": 26.0, "large": 52.0}
    assert described["engines"]["gpu_s"] == {"small": 0.0, "large": 104.0}
    assert run.read_file("uncounted.json") is None


def test_what_a_killed_pipeline_took_is_added_once(tmp_path, monkeypatch):
    monkeypatch.setattr(totals, "KEPT_S", 0.0)
    run = RunFolder.open(make(tmp_path / "run"))
    meter = Meter(run, [], iter([BEFORE, AFTER]).__next__, PoolsConfig(), BEFORE)
    meter()
    kept = run.read_file("uncounted.json")
    assert "time" not in run.describe(), "the pipeline has not ended"
    add_uncounted(run)
    assert run.describe()["engines"]["busy_s"] == {"small": 4.0, "large": 12.0}
    run.write_file("uncounted.json", kept)  # as if the process was killed before it was removed
    add_uncounted(run)
    assert run.describe()["engines"]["busy_s"] == {"small": 4.0, "large": 12.0}
    assert run.read_file("uncounted.json") is None


def test_a_run_of_an_earlier_version_has_the_gpu_seconds_of_its_replicas(tmp_path):
    run = RunFolder.open(make(tmp_path / "run"))
    config = {"pools": PoolsConfig(small=PoolConfig(gpus=2)).model_dump(mode="json")}
    run.update(config=config, engines={"replica_s": {"small": 10.0, "large": 5.0}})
    assert gpu_seconds_of(run.describe()) == {"small": 20.0, "large": 0.0}
    Meter(run, [], iter([BEFORE, AFTER]).__next__, PoolsConfig(), BEFORE).end()
    assert run.describe()["engines"]["gpu_s"]["small"] == 20.0
    assert run.describe()["engines"]["replica_s"]["small"] == 20.0


def test_a_run_of_which_nothing_was_routed_has_shares_of_nothing():
    still = spent(AFTER, AFTER, 0.0)
    assert not list(lines(still))
    assert "0.0 s" in table(still)


def test_the_printed_table_has_a_line_a_whole():
    printed = table(FOUND).splitlines()
    assert [line.split("  ")[1] for line in printed[1:]] == ["small engines", "large engines", "traces", "beside"]
    assert printed[1].endswith("writing 30, scoring 10, idle waiting 10, idle 40, no trace 10")


def test_the_report_shows_it_for_runs_that_say_it():
    runs = [SimpleNamespace(name="timed", described={"time": FOUND}), SimpleNamespace(name="earlier", described={})]
    written = Written()
    time_section(written, runs)
    ((name, heading, body),) = written.sections
    assert (name, heading) == ("time", "Where the time goes") and "timed: 10.0 s" in body and "earlier" not in body
    rows = list(csv.DictReader(io.StringIO(as_csv(written.tables[0]))))
    (grading,) = [row for row in rows if row["part"] == "grading"]
    assert grading["of"] == "beside"
    assert [float(grading[key]) for key in ("seconds", "share")] == pytest.approx([0.1, 0.01])


def test_runs_that_do_not_say_it_have_no_such_section():
    written = Written()
    time_section(written, [SimpleNamespace(name="old", described={})])
    assert not written.sections and not written.tables
