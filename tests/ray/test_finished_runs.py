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


def test_it_is_resumed_without_a_model_and_nothing_is_written_again(local_ray, folder, tmp_path):
    config = RunFolder.open(folder).describe()["config"]
    before, summary = files(folder), json.loads((folder / "summary.json").read_text())
    given = tmp_path / "config.json"  # JSON is YAML too
    given.write_text(json.dumps(config))
    command = [sys.executable, "-m", "pipelines.cli", folder.name, str(given)]
    command += ["--resume", str(folder)] if folder.name == "run" else ["--out", str(folder), "--resume"]
    environment = {**os.environ, "RAY_ADDRESS": local_ray}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert files(folder) == before
    for now, then in zip(json.loads((folder / "summary.json").read_text()), summary, strict=True):
        # A key that the earlier version did not write may be new; what it wrote stays.
        assert {key: now[key] for key in then} == pytest.approx(then, nan_ok=True)
