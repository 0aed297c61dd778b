"""Several sources, patterns and partition folders: which files are read, and by which names."""

import json

from steer.benchmarks import load_benchmark
from steer.benchmarks.files import data_files
from steer.config.run import BenchmarkConfig


def put(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ({"q": path.stem, "a": "1"},)))
    return path


def own(*sources, **changes):
    settings = {"question": "q", "answer": "a", "grader": "exact", "split": "all", **changes}
    return load_benchmark(BenchmarkConfig(source=[str(source) for source in sources], **settings)).rows


def ids(rows):
    return [row.question.id for row in rows]


# --- names ------------------------------------------------------------------------------------------------------------


def test_files_of_one_name_in_several_folders_have_ids_of_their_own(tmp_path):
    files = [put(tmp_path / name) for name in ("x/a/d.jsonl", "x/b/d.jsonl")]
    assert ids(own(*files)) == ["a/d.jsonl:1", "b/d.jsonl:1"]
    assert ids(own(tmp_path / "x/a", tmp_path / "x/b")) == ids(own(*files)) == ids(own(tmp_path / "x"))


def test_rows_of_unreadable_ids_in_files_of_one_name_are_told_apart(tmp_path):
    files = [put(tmp_path / name, {"id": None, "q": "?", "a": "1"}) for name in ("a/d.jsonl", "b/d.jsonl")]
    assert len(set(ids(own(*files, id="id")))) == 2


def test_the_ids_of_files_of_one_name_do_not_depend_on_the_folder_above(tmp_path):
    read = [own(*(put(tmp_path / above / name) for name in ("a/d.jsonl", "b/c/d.jsonl"))) for above in ("x", "y")]
    assert ids(read[0]) == ids(read[1])


def test_web_addresses_that_differ_in_their_query_alone_have_names_without_it():
    labels = [file.label for file in data_files([f"https://host/d.jsonl?key={key}" for key in ("one", "two")])]
    assert len(set(labels)) == 2 and "one" not in "".join(labels)
