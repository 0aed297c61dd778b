"""What `steer bench scale` writes and counts, without a run."""

import json
import shutil

from graded_rows import graded

from pipelines.bench.scale import files_written, missing_and_doubled, write_questions
from steer.storage.run_folder import RunFolder


def test_questions_are_distinct_and_as_long_as_asked_for(tmp_path):
    path = tmp_path / "q.jsonl"
    write_questions(path, 50, 300)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {len(row["q"]) for row in rows} == {300}
    assert len({row["q"] for row in rows}) == 50
    write_questions(path, 11, 1)
    assert len({json.loads(line)["q"] for line in path.read_text().splitlines()}) == 11, "too short would be equal"


def test_lost_and_doubled_questions_are_found_in_the_files(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    (tmp_path / "run/questions").mkdir()
    (tmp_path / "run/questions/groups-000000.parquet").write_bytes(b"?" * 2**20)
    run.commit(graded("q0", "q1"))
    run.commit(graded("q2"))
    whole = tmp_path / "run"
    assert missing_and_doubled(whole, 3) == {"lost": 0, "doubled": 0, "without_steps": 3}
    assert missing_and_doubled(whole, 5)["lost"] == 2
    part = next(path for path in (whole / "traces").glob("part-*") if path.stat().st_size)
    shutil.copy(part, part.with_name("again.parquet"))
    assert missing_and_doubled(whole, 3)["doubled"] in (1, 2)
    told = files_written(whole)
    assert told["questions_files"] == "1 (1 MiB, largest 1)"
    assert told["traces_files"].startswith("4 (")
    assert told["files"] == 1 + 4 + 3 + 1
