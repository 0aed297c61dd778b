"""A small campaign of `steer bench kills`: it raises for whatever is lost, doubled, changed or left behind."""

import pytest

from pipelines import bench_kills

pytestmark = pytest.mark.ray

SEED = 23
"""Draws a replica, which the run survives, and then the driver, which it does not."""


def test_a_run_that_is_killed_and_gone_on_with_is_the_run_that_nobody_killed(monkeypatch):
    for name, value in {"QUESTIONS": 24, "STEPS": 16, "WAIT_S": (0.2, 1.0)}.items():
        monkeypatch.setattr(bench_kills, name, value)
    *_, total = bench_kills.bench_kills(kills=2, seed=SEED)
    assert (total["kills"], total["driver"], total["replica"]) == (2, 1, 1)
    assert total["rows"] == 24 and total["processes"] == 2
    assert total["lost"] == total["doubled"] == total["changed"] == total["orphans"] == 0
    assert total["begun_twice_most"] <= 24
