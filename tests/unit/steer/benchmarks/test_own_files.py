"""Files and folders as their owners publish them, and files that are not what their names say."""

import gzip
import json
import threading
import tracemalloc
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from paths import FIXTURES

from steer.benchmarks import load_benchmark, reading, records
from steer.benchmarks.files import DataFile, data_files
from steer.benchmarks.records import read_records
from steer.config.run import BenchmarkConfig

ROWS = [{"q": f"What is {i}+1?", "a": str(i + 1)} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def own(source, **changes):
    settings = {"source": source if isinstance(source, list) else str(source), "question": "q", "answer": "a"}
    return load_benchmark(BenchmarkConfig(**{**settings, "grader": "exact", "split": "all", **changes}))


def put(path, content=LINES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def parquet_bytes(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def questions(benchmark):
    assert not [row.error for row in benchmark.rows if row.error]
    return [row.question.prompt for row in benchmark.rows]


ASKED = [row["q"] for row in ROWS]

# --- files that are something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("d.jsonl", LINES.decode().encode("utf-16"), "UTF-16"),
        ("d.jsonl", LINES.decode().encode("utf-16-le"), "UTF-16"),
        ("d.jsonl", LINES.decode().encode("utf-16-be"), "UTF-16"),
        ("d.jsonl", LINES.decode().encode("utf-32"), "UTF-32"),
        ("d.csv", "q,a\n?,1\n".encode("utf-16"), "UTF-16"),
        ("d.json", json.dumps(ROWS).encode("utf-16"), "UTF-16"),
        ("d.jsonl", gzip.compress(LINES), "is gzip: name it .gz"),
        ("d.csv", gzip.compress(b"q,a\n?,1\n"), "is gzip: name it .gz"),
        ("d.jsonl.gz", gzip.compress(gzip.compress(LINES)), "is gzip"),
        ("d.jsonl.gz", LINES, "no gzip file"),
        ("d.jsonl.gz", gzip.compress(LINES.decode().encode("utf-16")), "UTF-16"),
        ("d.jsonl", b"\x28\xb5\x2f\xfd" + b"\x00" * 20, "zstd"),
        ("d.jsonl.gz", b"\x28\xb5\x2f\xfd" + b"\x00" * 20, "zstd"),
        ("d.jsonl", parquet_bytes(ROWS), "a Parquet file: name it .parquet"),
        ("d.csv", b"PK\x03\x04" + b"\x00" * 20, "ZIP"),
        ("d.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        ("d.jsonl", b"<!DOCTYPE html>\n<html></html>\n", "HTML"),
        ("d.parquet", LINES, "text or another format"),
        ("d.parquet", gzip.compress(LINES), "gzip"),
        ("d.jsonl", json.dumps(ROWS, indent=2).encode(), "one JSON list: name it .json"),
        ("d.jsonl", json.dumps(ROWS).encode(), "one JSON list: name it .json"),
        ("d.jsonl", json.dumps(ROWS[:1], indent=2).encode(), "one JSON list: name it .json"),
        ("d.jsonl", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), "indented"),
        ("d.jsonl", json.dumps({"rows": ROWS}, indent=1).encode(), "one indented object"),
        ("d.jsonl", b'["What?", "1"]\n["Why?", "2"]\n', "row 1 is a list of 2 texts, not an object"),
        ("d.jsonl", b"one\ntwo\n", "row 1 is not valid JSON"),
        ("d.jsonl", "é\n".encode("latin-1") * 3, "row 1 is not UTF-8"),
        ("d.csv", b"q;a\n?;1\n", "separated by ';'"),
        ("d.csv", b"q;a\nOne, two;2\nThree;3\n", "separated by ';'"),
        ("d.csv", b"q\ta\nOne, two\t2\n", r"separated by '\t'"),
        ("d.csv", b"q|a|b\n1|2|3\n", "separated by '|'"),
        ("d.jsonl", b'[\n{"q":"1","a":"2"},\n{"q":"1","a":"3"},\n]\n', "one JSON list, which is not valid JSON"),
        ("d.jsonl", b'[{"q":"1","a":"2"},]\n', "one JSON list, which is not valid JSON"),
        ("d.jsonl", b'{ "q": "1",\n  "a": "2" }\n{ "q": "1",\n  "a": "2" }\n', "over several lines"),
        ("d.jsonl", b'{"q":\n"1",\n"a": "2"}\n{"q":\n"1",\n"a": "2"}\n', "over several lines"),
        ("d.jsonl", b'{"q":"1","a":"2"},\n{"q":"1","a":"3"},\n', "a comma at its end"),
        ("d.json", b"", "is empty"),
        ("d.json", b" \n", "is empty"),
        ("d.parquet", b"", "is empty"),
        ("d.json", b'{"data": [], "version": 1}', "an object (data, version)"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_it_is(tmp_path, name, content, what):
    with pytest.raises(ValueError) as refusal:
        own(put(tmp_path / name, content))
    assert what in str(refusal.value) and name in str(refusal.value)


@pytest.mark.parametrize("first", ['{"q": "cut', '["q",', "{", "[", '[{"q": "?"}'])
def test_one_broken_line_at_the_start_is_one_error_row(tmp_path, first):
    benchmark = own(put(tmp_path / "d.jsonl", first.encode() + b"\n" + LINES))
    assert [bool(row.error) for row in benchmark.rows] == [True, False, False, False, False]


def test_two_broken_lines_at_the_start_are_two_error_rows(tmp_path):
    benchmark = own(put(tmp_path / "d.jsonl", b'{"q": "cut\n{"q": "cut, too\n' + LINES))
    assert [bool(row.error) for row in benchmark.rows] == [True, True, *[False] * len(ROWS)]


def test_a_row_that_ends_in_a_comma_is_one_error_row(tmp_path):
    benchmark = own(put(tmp_path / "d.jsonl", LINES + b'{"q": "?", "a": "1"},\n'))
    assert [row.error for row in benchmark.rows if row.error][0].count("a comma at its end") == 1


def test_a_byte_order_mark_and_blank_lines_are_nothing(tmp_path):
    assert questions(own(put(tmp_path / "d.jsonl", b"\xef\xbb\xbf\n\n" + LINES.replace(b"\n", b"\r\n\r\n")))) == ASKED


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([b"1"]), "is bytes"),
        (pa.array([{"style": "rule", "ground_truth": "1"}]), "is an object (style, ground_truth)"),
        (pa.array([[{"role": "user", "content": "?"}]]), "is an object (role, content)"),
        (pa.array([True]), "is a bool"),
        (pa.array([["x", "y"]]), "a list of 2 texts"),
    ],
)
def test_a_value_that_is_no_text_is_named_by_its_type(tmp_path, column, what):
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"q": ["?"], "a": column}), path)
    (row,) = own(path, grader="aime").rows
    assert what in row.error and "missing" not in row.error


def test_a_question_of_messages_says_so(tmp_path):
    path = tmp_path / "d.parquet"
    answer = {"style": "rule", "ground_truth": "1"}
    pq.write_table(pa.table({"q": [[{"role": "user", "content": "?"}]], "a": [answer]}), path)
    (row,) = own(path).rows
    assert "'a' is an object (style, ground_truth), not text" in row.error
    assert "'q' is a list of 1 object (role, content), not text" in row.error


# --- CSV --------------------------------------------------------------------------------------------------------------

CSV = {
    "a quote inside a cell": 'q,a\nA 5" pipe and a 6" one?,11\nplain,2\n',
    "a quote that ends inside a cell": 'q,a\n"so" it is,1\nx,2\n',
    "doubled quotes": 'q,a\n"He said ""no"".",1\n',
    "line breaks in a cell": 'q,a\n"one\n\ntwo, three",1\r\n"x\r\ny",2\r\n',
    "a byte order mark": "\ufeffq,a\nx,1\n",
    "blank lines": "q,a\n\nx,1\n\n\ny,2\n",
    "a short row": "q,a,more\nx,1\ny,2,z\n",
    "spaces": "q,a\n x , 1\n",
    "no line break at the end": "q,a\nx,1",
    "names twice, and one without": ",q,a,a\n0,x,1,2\n",
    "an apostrophe and a backslash": "q,a\nit's \\n,\\frac{1}{2}\n",
    "a cell longer than Python's limit": f'q,a\n"{"long, " * 40_000}",1\n',
}


@pytest.mark.parametrize("text", CSV.values(), ids=CSV)
def test_a_csv_file_is_read_as_pandas_reads_it(tmp_path, text):
    path = put(tmp_path / "d.csv", text.encode())
    expected = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    (file,) = data_files(path)
    read = list(read_records(file))
    assert [{k: v or "" for k, v in record.values.items()} for record in read] == expected
    assert not [record.error for record in read if record.error]


def test_a_row_of_too_many_cells_is_an_error_row_with_its_number(tmp_path):
    rows = own(put(tmp_path / "d.csv", b'q,a\n"x\ny",1\nz,2,3\nw,4\n')).rows
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert "row 2 has 3 cells" in rows[1].error


def test_a_quote_that_never_closes_is_refused_with_the_line_where_it_opens(tmp_path):
    path = put(tmp_path / "d.csv", b'q,a\nx,1\n"y,2\nz,3\n')
    with pytest.raises(ValueError, match=r"d\.csv line 3 is not CSV"):
        own(path)


# --- folders, globs, several files ------------------------------------------------------------------------------------


def test_a_folder_a_glob_and_a_list_are_all_their_files(tmp_path):
    for name in ("a/one.jsonl", "a/two.jsonl", "a/deep/three.jsonl", "a/.cache/no.jsonl", "b/four.jsonl"):
        put(tmp_path / name, json.dumps({"q": name, "a": "1"}).encode())
    for name in ("README.md", "_SUCCESS.json", "dataset_infos.json", "__MACOSX/._one.jsonl"):
        put(tmp_path / "a" / name, b"about")

    def asked(source, **changes):
        return questions(own(source, **changes))

    assert asked(tmp_path / "a") == ["a/deep/three.jsonl", "a/one.jsonl", "a/two.jsonl"]
    assert asked(tmp_path / "a/*.jsonl") == ["a/one.jsonl", "a/two.jsonl"]
    assert asked(tmp_path / "*/[ot]*.jsonl") == ["a/one.jsonl", "a/two.jsonl"]
    assert asked(tmp_path / "**/t*.jsonl") == ["a/deep/three.jsonl", "a/two.jsonl"]
    assert asked(tmp_path / "a/on?.jsonl") == ["a/one.jsonl"]
    both = [str(tmp_path / "b"), str(tmp_path / "a/*.jsonl")]
    assert asked(both) == ["b/four.jsonl", "a/one.jsonl", "a/two.jsonl"]
    ids = [row.question.id for row in own([*both, str(tmp_path / "b/four.jsonl")]).rows]
    assert len(set(ids)) == len(ids) == 3
    with pytest.raises(ValueError, match="no json, jsonl"):
        own(tmp_path / "a/*.csv")
    with pytest.raises(ValueError, match="there is no"):
        own([str(tmp_path / "b"), str(tmp_path / "nothing.jsonl")])


def test_a_file_may_have_a_bracket_in_its_name(tmp_path):
    assert questions(own(put(tmp_path / "d[1].jsonl"))) == ASKED


def test_a_glob_is_relative_to_the_working_folder(tmp_path, monkeypatch):
    put(tmp_path / "data/one.jsonl")
    monkeypatch.chdir(tmp_path)
    assert questions(own("data/*.jsonl")) == questions(own("*/one.jsonl")) == questions(own("./data")) == ASKED


@pytest.mark.parametrize(
    ("root", "path", "shown"),
    [
        ("s3://bucket/dir", "bucket/dir/a.jsonl", "s3://bucket/dir/a.jsonl"),
        ("s3://bucket/dir/a.jsonl", "bucket/dir/a.jsonl", "s3://bucket/dir/a.jsonl"),
        ("gs://bucket", "bucket/a.jsonl", "gs://bucket/a.jsonl"),
        ("hdfs://name:8020/dir", "/dir/a.jsonl", "hdfs://name:8020/dir/a.jsonl"),
        ("memory://own", "/own/a.jsonl", "memory://own/a.jsonl"),
        ("https://host/a.jsonl?x=1", "https://host/a.jsonl?x=1", "https://host/a.jsonl?x=1"),
        ("/data", "/data/a.jsonl", "/data/a.jsonl"),
    ],
)
def test_a_file_is_called_by_its_path_or_url(root, path, shown):
    file = DataFile(root, path, "a.jsonl")
    assert (str(file), file.kind, file.name) == (shown, ".jsonl", "a.jsonl")


@pytest.mark.parametrize("source", [5, [], [""], "", ["hub", "x.jsonl"], {"a": 1}])
def test_a_source_that_is_none_is_refused_by_its_key(source):
    with pytest.raises(ValueError, match="source"):
        BenchmarkConfig(source=source)


def test_partition_folders_are_columns(tmp_path):
    put(tmp_path / "hive/grader=math/level=2/part-0.parquet", parquet_bytes([{"q": "x", "a": "1"}]))
    put(tmp_path / "hive/grader=exact/level=a%20b/part-0.parquet", parquet_bytes([{"q": "y", "a": "2"}]))
    put(tmp_path / "hive/grader=__HIVE_DEFAULT_PARTITION__/part-0.parquet", parquet_bytes([{"q": "z", "a": "3"}]))
    read = {row["q"]: row for file in data_files(tmp_path / "hive") for row in (r.values for r in read_records(file))}
    assert (read["x"]["grader"], read["x"]["level"]) == ("math", "2")
    assert (read["y"]["grader"], read["y"]["level"]) == ("exact", "a b")
    assert read["z"]["grader"] is None
    rows = own(tmp_path / "hive", prompt="{grader}: {question}").rows
    assert [row.question.prompt for row in rows if not row.error] == ["exact: y", "math: x"]


def test_a_files_own_column_stands_before_its_partition(tmp_path):
    path = put(tmp_path / "a=9/d.jsonl", b'{"q": "?", "a": "1"}')
    (file,) = data_files(path)
    (record,) = read_records(file)
    assert record.values["a"] == "1"


# --- public benchmarks as they are published --------------------------------------------------------------------------


def test_the_folder_of_musique_as_released_is_its_validation_file(tmp_path):
    dev = (FIXTURES / "musique/musique_ans_dev.jsonl").read_bytes()
    other = dev.replace(b"2hop", b"9hop")
    for name in ("ans_v1.0_train", "ans_v1.0_test", "full_v1.0_dev", "full_v1.0_train", "full_v1.0_test"):
        put(tmp_path / f"data/musique_{name}.jsonl", other)
    put(tmp_path / "data/dev_test_singlehop_questions_v1.0.json", b'{"a": 1}')
    put(tmp_path / "data/musique_ans_v1.0_dev.jsonl", dev)
    settings = {"name": "musique", "split": "all"}
    read = load_benchmark(BenchmarkConfig(**settings, source=str(tmp_path / "data")))
    expected = load_benchmark(BenchmarkConfig(**settings, source=str(FIXTURES / "musique")))
    assert [row.question for row in read.rows] == [row.question for row in expected.rows]
    assert read.rows == load_benchmark(BenchmarkConfig(**settings, source=str(tmp_path))).rows


@pytest.mark.parametrize(("split", "other"), [("validation", "test"), ("test", "validation")])
def test_a_folder_with_one_split_of_acpbench_is_that_split(tmp_path, split, other):
    name = {"validation": "dev", "test": "test"}[split]
    put(tmp_path / f"{name}.mcq.json", (FIXTURES / f"acpbench/app/{name}.mcq.json").read_bytes())
    settings = {"name": "acpbench", "source": str(tmp_path)}
    assert load_benchmark(BenchmarkConfig(**settings, split=split)).rows
    with pytest.raises(ValueError, match=f"its files hold split {split}: set split: {split}"):
        load_benchmark(BenchmarkConfig(**settings, split=other))


def test_a_split_may_be_a_folders_name(tmp_path):
    put(tmp_path / "acp_app_mcq/test/0000.json", (FIXTURES / "acpbench/app/test.mcq.json").read_bytes())
    put(tmp_path / "acp_app_mcq/validation/0000.json", (FIXTURES / "acpbench/app/dev.mcq.json").read_bytes())
    read = reading(BenchmarkConfig(name="acpbench", source=str(tmp_path)))
    assert sorted(shard.split for shard in read.shards) == ["test", "validation"]


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    store.pipe({"/own/a.jsonl": LINES[:60] and LINES, "/own/grader=x/b.parquet": parquet_bytes(ROWS)})
    store.pipe({"/own/c.csv.gz": gzip.compress(b"q,a\nzipped,1\n"), "/own/skip.txt": b"no"})
    yield "memory://own"
    store.rm("/own", recursive=True)


def test_a_url_is_read_like_a_path(memory):
    assert questions(own(f"{memory}/a.jsonl")) == ASKED
    assert questions(own(f"{memory}/grader=x/b.parquet", prompt="{grader} {question}")) == [f"x {q}" for q in ASKED]
    assert questions(own(memory)) == [*ASKED, "zipped", *ASKED]
    assert questions(own(f"{memory}/*.csv.gz")) == ["zipped"]
    assert questions(own([f"{memory}/a.jsonl", f"{memory}/c.csv.gz"])) == [*ASKED, "zipped"]
    assert not reading(BenchmarkConfig(source=memory, question="q", answer="a", grader="exact")).local
    assert own(f"{memory}/a.jsonl").name == "a" and own(memory).name == "own"


def test_a_file_url_is_local(tmp_path):
    path = put(tmp_path / "d.jsonl")
    assert questions(own(f"file://{path}")) == questions(own(f"file://{tmp_path}")) == ASKED
    assert reading(BenchmarkConfig(source=f"file://{path}", question="q", answer="a", grader="exact")).local


def test_a_public_benchmark_is_read_from_a_url(memory):
    store = fsspec.filesystem("memory")
    store.put(str(FIXTURES / "kor_bench/logic"), "/own/kor/logic", recursive=True)
    store.put(str(FIXTURES / "math500"), "/own/math500", recursive=True)
    for name, source in (("kor_bench", f"{memory}/kor"), ("kor_bench", f"{memory}/kor/logic"), ("math500", "")):
        read = load_benchmark(BenchmarkConfig(name=name, source=source or f"{memory}/math500", split="all"))
        assert read.rows and not [row.error for row in read.rows if row.error]


def test_a_web_address_is_read_even_from_a_server_without_ranges(tmp_path):
    put(tmp_path / "d.jsonl")
    put(tmp_path / "d.parquet", parquet_bytes(ROWS))
    fetched = Counter()

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self):
            fetched[self.path] += 1
            super().do_GET()

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            assert questions(own(f"{address}/d.jsonl?download=true")) == ASKED
            assert questions(own(f"{address}/d.parquet")) == ASKED
            assert fetched["/d.parquet"] == fetched["/d.jsonl?download=true"]  # Once for each reading.
            with pytest.raises(ValueError, match="cannot be read .*nothing.jsonl"):
                own(f"{address}/nothing.jsonl")
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "source", ["unknown-scheme://bucket/d.jsonl", "memory://own/nothing.jsonl", "file:///nowhere/d.jsonl"]
)
def test_a_url_that_cannot_be_read_is_refused_by_name(source):
    with pytest.raises(ValueError, match=source.split("://")[0]):
        own(source)


def test_a_large_jsonl_file_is_read_row_by_row(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text((json.dumps({"q": "x" * 1000, "a": "1"}) + "\n") * 8_000)
    tracemalloc.start()
    rows = sum(1 for record in read_records(DataFile(str(path), str(path), path.name)) if not record.error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 8_000
    assert peak < path.stat().st_size / 8


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (json.dumps([{"q": "1", "a": "2"}] * 9, indent=2), "one JSON list: name it .json"),
        ("\n".join(json.dumps({"q": "é", "a": "2"}, indent=1, ensure_ascii=False) for _ in range(9)), "indented"),
    ],
)
def test_what_a_large_file_without_rows_is_follows_from_its_beginning(tmp_path, monkeypatch, text, what):
    monkeypatch.setattr(records, "EXPLAINED_BYTES", 51)
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=what):
        list(read_records(DataFile(str(path), str(path), path.name)))
