"""`steer bench storage` counts what a server sees, and a run's files cost few requests there."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

from pipelines.bench.storage import BUCKET, bench_storage, kind_of, s3_server, store_environ
from steer.config.load import SettingsError

PROGRAM = f"""
from steer.storage.run_folder import RunFolder
run = RunFolder.create("s3://{BUCKET}/run", "run", {{}}, [0])
print("BEGUN", flush=True)
input()
run.write_file("driver.json", b"x" * 1000)
run.update(note=1)
print("DONE", flush=True)
"""


@pytest.mark.parametrize(
    "method, query, copied, kind",
    [
        ("PUT", "", False, "PUT"),
        ("PUT", "", True, "COPY"),
        ("PUT", "partNumber=1&uploadId=x", False, "PART"),
        ("POST", "uploads", False, "PART"),
        ("POST", "delete", False, "DELETE"),
        ("GET", "list-type=2&prefix=run/", False, "LIST"),
        ("GET", "", False, "GET"),
        ("HEAD", "", False, "HEAD"),
    ],
)
def test_requests_are_told_apart(method, query, copied, kind):
    assert kind_of(method, query, {"HTTP_X_AMZ_COPY_SOURCE": "/a/b"} if copied else {}) == kind


def test_a_file_is_one_request_and_no_copy():
    with s3_server() as store:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, **store_environ(store.url)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "BEGUN\n"
        before = store.taken().by_kind
        process.communicate("\n", timeout=120)
        counted = store.taken().by_kind
    assert process.returncode == 0
    assert counted == {"PUT": 2, "HEAD": 1, "GET": 1}
    assert before["COPY"] == before["PART"] == 0


def test_the_store_leaves_this_process_able_to_load_a_model():
    with s3_server() as store:
        assert store.taken().by_kind == {}
    assert "flask" not in sys.modules  # vLLM looks into every module's globals, and Flask's raise


def test_an_unknown_way_is_refused():
    with pytest.raises(SettingsError, match="default, stepwise, write_on"):
        bench_storage(policies="fast")
