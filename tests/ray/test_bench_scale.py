"""`steer bench scale` on a cluster of its own, as a user calls it."""

import pytest

from pipelines.bench.scale import bench_scale

pytestmark = pytest.mark.ray


def test_it_measures_a_whole_run_and_finds_every_question_once():
    (row,) = bench_scale(questions=120, text_bytes=400)
    assert (row["questions"], row["lost"], row["doubled"], row["without_steps"]) == (120, 0, 0, 0)
    assert all(row[f"{part}_mib"] > 10 for part in ("driver", "routers", "engines", "route_stage", "tasks"))
    assert 0 < row["routed_s"] < row["wall_s"]
    assert row["files"] >= 4
