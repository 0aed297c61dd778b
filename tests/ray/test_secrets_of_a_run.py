"""A secret under `engine:` reaches the engine alone: no file of the run, no page of its report, nothing printed."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from paths import ROOT
from patience import PATIENCE_S

from actors.router.journal import decode

pytestmark = pytest.mark.ray

SECRETS = {"hf_token": "made-up-token-of-the-hub", "loader": {"aws_secret_access_key": "made-up-key-of-a-bucket"}}


def texts(folder):
    """Every file's bytes, and what is compressed in them."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pylist()).encode()
        if "journal" in path.parts:
            yield from ((path, record.payload) for record in decode(path.read_bytes()))


def test_no_file_and_no_line_of_a_run_holds_a_secret(local_ray, tmp_path):
    pair = {"small": {"path": "simulated:small", "engine": SECRETS}, "large": {"path": "simulated:large"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"pair": pair, "benchmark": {"limit": 20}}))
    out, page = tmp_path / "out", tmp_path / "report"
    said = ""
    for command in (
        ["run", tmp_path / "config.yaml", "--resume", out],
        ["run", tmp_path / "config.yaml", "--resume", out],
        ["report", out, "--out", page],
        ["show-config", tmp_path / "config.yaml"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *map(str, command)],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": local_ray},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    secrets = [SECRETS["hf_token"], SECRETS["loader"]["aws_secret_access_key"]]
    assert not any(secret in said for secret in secrets)
    found = list(texts(out)) + list(texts(page))
    assert {path.name for path, _ in found} >= {"run.json", "summary.json", "report.html"}
    assert [path for path, data in found for secret in secrets if secret.encode() in data] == []
