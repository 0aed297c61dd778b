"""`steer grade` and `steer regrade` as processes, and the reading of a row that `grade` is given."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from paths import ROOT
from patience import PATIENCE_S
from test_command_line import simulated_pair, start

from pipelines.grade.grade import Fields, FileBlocks, grade_rows
from pipelines.grade.regrade import regrade
from steer.benchmarks.files import data_files
from steer.config.load import SettingsError
from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

ROWS = [
    {"id": "a", "text": "so \\boxed{\\frac{1}{2}}", "gold": "0.5", "grader": "math"},
    {"id": "b", "text": "The answer is Rome", "gold": "Paris", "grader": "qa", "aliases": ["Rome", "Roma"]},
    {"id": "c", "text": "[[b;a]]", "gold": "[[a;b]]", "grader": "kor", "labels": '{"subset": "logic", "rule_id": "5"}'},
    {"id": "d", "text": "\\boxed{C}", "gold": "D", "grader": "choice"},
    {"id": "e", "gold": "1", "grader": "math"},
    {"id": "f", "text": "\\boxed{1}", "gold": "1", "grader": "maths"},
    {"id": "g", "text": "\\boxed{073}", "gold": 73, "grader": "aime"},
    {"id": "h", "text": "\ud800 \\boxed{x\x00}", "gold": "x", "grader": "exact"},
    {"id": "i", "text": "x", "gold": "x", "grader": "exact", "labels": "[1]"},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def graded(path, **fields):
    (file,) = data_files(path)
    return grade_rows(pa.concat_tables(FileBlocks(file, Fields(**fields))())).to_pylist()


def steer(address, *arguments):
    """On the cluster of that address; None: on one of its own."""
    program = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"RAY_ADDRESS": address} if address else {}
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def test_each_row_is_graded_by_its_grader_and_labels_or_says_why_not(tmp_path):
    rows = {row["id"]: row for row in graded(write(tmp_path / "a.jsonl", ROWS))}
    assert {i: row["correct"] for i, row in rows.items()} == dict(
        a=True, b=True, c=True, d=False, e=None, f=None, g=True, h=True, i=None
    )
    assert rows["b"]["f1"] == 1.0 and rows["a"]["f1"] is None
    assert "a.jsonl row 5: field 'text' is missing" in rows["e"]["error"]
    assert "there are math" not in rows["f"]["error"] and "math, aime, choice" in rows["f"]["error"]
    assert "'labels' is a list" in rows["i"]["error"]


def test_options_name_other_fields_and_one_grader_for_all(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"out": "A or B", "right": "B"}])
    (row,) = graded(path, text="out", gold="right", grader="choice", official=True)
    assert (row["correct"], row["rule"]) == (True, "official")


def test_a_file_is_graded_in_order_and_a_broken_one_refused(local_ray, tmp_path):
    many = [{**ROWS[i % 4], "id": str(i), "text": ROWS[i % 4]["text"] + " " * 4000} for i in range(1200)]
    empty = {"labels": "", "aliases": None}
    pq.write_table(pa.Table.from_pylist([{**empty, **row} for row in many]), tmp_path / "a.parquet")
    out = tmp_path / "verdicts.parquet"
    done = steer(local_ray, "grade", tmp_path / "a.parquet", "--out", out)
    assert done.returncode == 0, done.stderr
    verdicts = pq.read_table(out)
    assert verdicts["id"].to_pylist() == [str(i) for i in range(1200)]
    assert verdicts["correct"].to_pylist() == [True, True, True, False] * 300
    assert "math: 300 answers, 100.0 % right" in done.stdout

    again = steer(local_ray, "grade", tmp_path / "a.parquet", "--out", out)
    assert again.returncode == 2 and "is there already" in again.stderr
    (tmp_path / "b.json").write_text("[")
    broken = steer(local_ray, "grade", tmp_path / "b.json", "--grader", "math")
    assert broken.returncode == 2 and "not valid JSON" in broken.stderr and "Traceback" not in broken.stderr


def test_regrade_renews_verdicts_and_summary_and_nothing_else(local_ray, tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump({"pair": simulated_pair()}))
    run = start(["run", config, "--out", out, "--set", "benchmark.limit=24"], local_ray, stdout=subprocess.PIPE)
    run.communicate(timeout=PATIENCE_S)
    folder, summary = RunFolder.open(out), json.loads((out / "summary.json").read_text())
    before = folder.read("traces")
    for part in folder.parts("traces"):
        rows = folder.read_part(part)
        wrong = pc.invert(rows["correct"])
        tampered = rows.set_column(rows.schema.get_field_index("correct"), "correct", wrong)
        tampered = tampered.set_column(rows.schema.get_field_index("rule"), "rule", pa.array(["old"] * rows.num_rows))
        folder.replace_traces(part, tampered)
    assert folder.read("traces") != before

    done = steer(local_ray, "regrade", out)
    assert done.returncode == 0, done.stderr
    assert folder.read("traces").equals(before)
    assert json.loads((out / "summary.json").read_text()) == summary
    (record,) = folder.describe()["regraded"]
    right = pc.sum(before["correct"]).as_py()
    assert (record["traces"], record["now_right"], record["now_wrong"]) == (24, right, 24 - right)
    with pytest.raises(SettingsError, match="holds no run.json"):
        regrade(str(tmp_path / "nowhere"))
