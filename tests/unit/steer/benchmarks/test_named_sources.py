"""Several sources, patterns and partition folders: which files are read, and by which names."""

import json

import pytest
from paths import FIXTURES

from steer.benchmarks import load_benchmark, reading
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


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    for name in ("x=1/a.jsonl", "x=2/deep/b.jsonl", "c.jsonl", "_d.jsonl", ".e.jsonl", "x=1/_f.jsonl", "_g/h.jsonl"):
        put(tmp_path / name)
    put(tmp_path / "dataset_info.json")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("*", ["c.jsonl", "x=1/a.jsonl", "x=2/deep/b.jsonl"]),
        ("x=*", ["x=1/a.jsonl", "x=2/deep/b.jsonl"]),
        ("x=*/", ["x=1/a.jsonl", "x=2/deep/b.jsonl"]),
        ("*/deep", ["x=2/deep/b.jsonl"]),
        ("**", ["c.jsonl", "x=1/a.jsonl", "x=2/deep/b.jsonl"]),
        ("**/*.jsonl", ["c.jsonl", "x=1/a.jsonl", "x=2/deep/b.jsonl"]),
        ("_*.jsonl", ["_d.jsonl"]),
        (".*.jsonl", [".e.jsonl"]),
        ("*/_f*", ["x=1/_f.jsonl"]),
        ("_*/*.jsonl", ["_g/h.jsonl"]),
        ("_*", ["_d.jsonl", "_g/h.jsonl"]),
    ],
)
def test_a_pattern_takes_folders_and_names_that_it_spells(tree, pattern, labels):
    assert [file.label for file in data_files(f"{tree}/{pattern}")] == labels


@pytest.mark.parametrize("source", ["https://host/data/*.jsonl", "http://host/part-[0-9].jsonl?key=1"])
def test_a_web_address_with_a_wildcard_is_refused(source):
    with pytest.raises(ValueError, match="a web address names one file"):
        data_files(source)


# --- partition folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("run=3/data", {"x": "1"}),
        ("run=3/data/x=1", {}),
        ("run=3/data/x=1/d.jsonl", {"x": "1"}),
        ("run=3/data/x=1/*.jsonl", {"x": "1"}),
        ("run=3/data/*", {"x": "1"}),
        ("run=3/data/**/*.jsonl", {"x": "1"}),
        ("run=3/data/x=*/d.jsonl", {"x": "1"}),
        ("*/data/x=1", {"run": "3", "x": "1"}),
    ],
)
def test_folders_above_the_source_are_no_columns(tmp_path, source, columns):
    put(tmp_path / "exp=9/runs/run=3/data/x=1/d.jsonl")
    (file,) = data_files(f"{tmp_path}/exp=9/runs/{source}")
    assert file.partitions == columns


def test_a_file_that_is_named_has_all_the_columns_directly_above(tmp_path):
    (file,) = data_files(put(tmp_path / "run=3/data/x=1/y=2/d.jsonl"))
    assert file.partitions == {"x": "1", "y": "2"}


# --- public benchmarks ------------------------------------------------------------------------------------------------


def shards(name, *sources):
    sources = [str(source) for source in sources]
    return [shard.source for shard in reading(BenchmarkConfig(name=name, source=sources)).shards]


def test_files_of_musique_that_are_named_are_all_read(tmp_path):
    names = ["musique_ans_v1.0_dev.jsonl", "musique_ans_v1.0_train.jsonl", "musique_full_v1.0_dev.jsonl"]
    files = [put(tmp_path / "data" / name) for name in names]
    assert [source.file.name for source in shards("musique", *files)] == names
    assert [source.file.name for source in shards("musique", tmp_path / "data/*.jsonl")] == names
    mine = put(tmp_path / "mine/dev.jsonl")
    read = shards("musique", tmp_path / "data", mine, files[2])
    assert [source.file.name for source in read] == [names[0], "dev.jsonl", names[2]]


@pytest.mark.parametrize(
    ("label", "split"),
    [
        ("latest_x/acp_app_mcq.jsonl", ""),
        ("contest/acp_app_mcq.jsonl", ""),
        ("devices_mcq.jsonl", ""),
        ("acp_val_mcq.jsonl", ""),
        ("test.mcq.json", "test"),
        ("test1/acp_app_mcq.jsonl", "test"),
        ("acp_app_mcq/validation-00000-of-00001.parquet", "validation"),
        ("acp_app_mcq/split=validation/x.parquet", "validation"),
        ("DEV_mcq.jsonl", "validation"),
    ],
)
def test_a_split_of_acpbench_is_a_whole_word_of_a_name(tmp_path, label, split):
    put(tmp_path / label)
    assert [source.split for source in shards("acpbench", tmp_path)] == [split]


def test_kor_bench_without_its_rules_says_where_they_belong(tmp_path):
    sample = tmp_path / "cipher/sample.jsonl"
    sample.parent.mkdir()
    sample.write_bytes((FIXTURES / "kor_bench/cipher/sample.jsonl").read_bytes())
    with pytest.raises(ValueError, match=r"no file .*rule\.jsonl.* put rule\.jsonl.* beside sample\.jsonl"):
        load_benchmark(BenchmarkConfig(name="kor_bench", source=str(tmp_path)))


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_names_three_of_many_files(tmp_path):
    for i in range(20):
        put(tmp_path / f"{i:02}.jsonl", {"q": "?"})
    with pytest.raises(ValueError, match=r"02\.jsonl and 17 more has no field 'a'") as refusal:
        own(tmp_path)
    assert "03.jsonl" not in str(refusal.value)


@pytest.mark.parametrize("prompt", ["Answer the question.", "{}", "{{question}}"])
def test_a_prompt_that_names_no_column_is_refused(tmp_path, prompt):
    with pytest.raises(ValueError, match=r"names no column.*write \{question\}"):
        own(put(tmp_path / "d.jsonl"), prompt=prompt)
