"""Run folders that an earlier STEER has finished: they are read, reported and resumed.

`tests/fixtures/finished_runs/` holds a run and a sweep of the simulated pair, written by commit 81700ec. Change them
only together with a word to users that older folders are no longer read.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import FIXTURES, ROOT
from patience import PATIENCE_S

from pipelines.report.write import write_report
from pipelines.tables.export import export
from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

FINISHED = FIXTURES / "finished_runs"


@pytest.fixture(params=["run", "sweep"])
def folder(request, tmp_path):
    return Path(shutil.copytree(FINISHED / request.param, tmp_path / request.param))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_its_tables_hold_what_they_held(folder):
    run = RunFolder.open(folder)
    cells = run.describe()["cells"]
    assert run.finished_cells() == {cell["name"] for cell in cells}
    assert run.read("traces").num_rows == sum(cell["traces"] for cell in cells)
    assert run.read("steps").num_rows > run.read("traces").num_rows
    assert run.read("mixtures").num_rows > 0


def test_it_is_reported(folder, tmp_path):
    write_report([folder], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "did not end" not in page
    assert (tmp_path / "report" / "tables" / "accuracy.csv").exists()


def resume(folder, local_ray):
    given = folder.parent / "config.json"  # JSON is YAML too
    given.write_text(json.dumps(RunFolder.open(folder).describe()["config"]))
    command = [sys.executable, "-m", "pipelines.cli", folder.name, str(given)]
    command += ["--resume", str(folder)] if folder.name == "run" else ["--out", str(folder), "--resume"]
    environment = {**os.environ, "RAY_ADDRESS": local_ray}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


def test_what_it_lacks_is_written_beside_what_it_has(local_ray, folder):
    run = RunFolder.open(folder)
    before = run.read("traces")
    os.remove(run.parts("traces")[-1])
    left = run.read("traces").num_rows
    assert left < before.num_rows
    resume(folder, local_ray)
    run = RunFolder.open(folder)
    keys = ["cell", "trace_id", "group_id", "run_id", "started_at", "model_small", "model_large"]
    assert run.read("traces").select(keys) == before.select(keys)
    steps, traces = (set(run.read(table)["trace_id"].to_pylist()) for table in ("steps", "traces"))
    assert steps == traces
    write_report([folder], folder.parent / "report")
    said = export([str(folder)], "duckdb", folder.parent / "all.duckdb")
    assert f"traces {before.num_rows}," in said


def test_it_is_resumed_without_a_model_and_nothing_is_written_again(local_ray, folder):
    before, summary = files(folder), json.loads((folder / "summary.json").read_text())
    resume(folder, local_ray)
    now = files(folder)
    assert RunFolder.open(folder).read_events().num_rows == 0
    now.pop(Path("events/empty.parquet"))  # a table that the earlier version did not have
    assert now == before
    for now, then in zip(json.loads((folder / "summary.json").read_text()), summary, strict=True):
        # A key that the earlier version did not write may be new; what it wrote stays.
        assert {key: now[key] for key in then} == pytest.approx(then, nan_ok=True)
