"""Benchmarks: the embedded ones, and files of one's own with everything that can be wrong in them."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steer.benchmarks import known_benchmarks, load_benchmark
from steer.benchmarks.embedded import EMBEDDED
from steer.config.run import BenchmarkConfig

ROWS = [{"q": f"What is {i}+1?", "a": str(i + 1), "key": f"k{i}"} for i in range(20)]


def own(path, **changes):
    settings = {"source": str(path), "question": "q", "answer": "a", "grader": "math", "split": "all", **changes}
    return load_benchmark(BenchmarkConfig(**settings))


def write_jsonl(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def write(path, rows):
    text = json.dumps(rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".jsonl":
        write_jsonl(path, rows)
    elif path.suffix == ".csv":
        path.write_text("q,a,key\n" + "".join(f"{r['q']},{r['a']},{r['key']}\n" for r in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(text)
    return path


def test_embedded_benchmarks_say_how_they_are_scored_and_graded():
    seen = {}
    assert set(EMBEDDED) < set(known_benchmarks())
    for name in EMBEDDED:
        benchmark = load_benchmark(BenchmarkConfig(name=name, limit=8))
        seen[name] = (benchmark.grader, benchmark.tokens)
        assert {row.question.difficulty for row in benchmark.rows} == {"1", "2", "3", "4"}
        assert not any(row.error for row in benchmark.rows)
    assert seen == {"chain_math": ("math", "math"), "hops": ("qa", "all"), "mixed_chain": ("math", "math")}


def test_embedded_splits_are_disjoint_and_all_is_both():
    ids = {
        split: {row.question.prompt for row in load_benchmark(BenchmarkConfig(split=split)).rows}
        for split in ("validation", "test", "all")
    }
    assert not ids["validation"] & ids["test"]
    assert ids["validation"] | ids["test"] == ids["all"]


def test_limit_counts_questions_and_samples_repeat_them():
    rows = load_benchmark(BenchmarkConfig(limit=3, samples=2)).rows
    assert len({row.question.trace_id for row in rows}) == 6
    assert len({row.question.id for row in rows}) == 3


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ({"source": "hub", "name": "gsm8000"}, "chain_math, hops, mixed_chain, math500"),
        ({"name": "gsm8000"}, "chain_math, hops"),
        ({"question": "q"}, "source: PATH"),
        ({"source": "nowhere.jsonl"}, "question, answer, grader"),
    ],
)
def test_refusals_name_the_remedy(config, remedy):
    with pytest.raises(ValueError, match=remedy):
        load_benchmark(BenchmarkConfig(**config))


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.csv", "d.parquet", "d.json.gz"])
def test_every_format_holds_the_same_questions(tmp_path, name):
    benchmark = own(write(tmp_path / name, ROWS), id="key", prompt="{question} Answer in \\boxed{}. ({key})")
    assert (benchmark.name, benchmark.tokens) == ("d", "math")
    question = benchmark.rows[3].question
    assert (question.id, question.gold, question.benchmark) == ("k3", "4", "d")
    assert question.prompt == "What is 3+1? Answer in \\boxed{}. (k3)"
    assert [row.error for row in benchmark.rows] == [""] * 20


def test_own_data_is_scored_over_all_tokens_unless_it_is_mathematics(tmp_path):
    path = write(tmp_path / "d.json", ROWS)
    assert own(path, grader="qa").tokens == "all"
    assert own(path, grader="qa", tokens="math").tokens == "math"


def test_own_splits_are_a_fifth_by_id_and_do_not_depend_on_the_order(tmp_path):
    path, back = write(tmp_path / "d.json", ROWS), write(tmp_path / "e.json", ROWS[::-1])
    splits = {
        (p, s): {r.question.id for r in own(p, id="key", split=s).rows}
        for p in (path, back)
        for s in ("validation", "test")
    }
    assert splits[path, "validation"] == splits[back, "validation"]
    assert len(splits[path, "validation"]) == 4
    assert splits[path, "validation"] | splits[path, "test"] == {row["key"] for row in ROWS}
    assert not splits[path, "validation"] & splits[path, "test"]


BAD_ROWS = [
    ({"q": "?"}, "'a' is missing"),
    ({"q": "", "a": "1"}, "'q' is missing"),
    ({"q": "?", "a": None}, "'a' is missing"),
    ({"q": "?", "a": [{"x": 1}, {"x": 2}]}, "'a' is an object (x)"),
    ("not json\n", "not valid JSON"),
    ("[" * 5000 + "\n", "not valid JSON"),
    ("[1]\n", "is a list"),
    ('{"q": "\\ud800", "a": "1"}\n', "surrogate"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_ROWS)
def test_a_bad_row_is_an_error_row_that_names_file_row_and_reason(tmp_path, bad, reason):
    path = write_jsonl(tmp_path / "d.jsonl", [{"q": "one?", "a": "1"}, bad, {"q": "two?", "a": 2}])
    good, wrong, last = own(path).rows
    assert reason in wrong.error
    assert f"{path} row 2" in wrong.error
    assert (good.error, last.error, last.question.gold) == ("", "", "2")
    assert wrong.question.id == "2"


def test_a_choice_needs_a_letter_and_knows_the_files_letters(tmp_path):
    path = write(tmp_path / "d.json", [{"q": "1", "a": "e"}, {"q": "2", "a": "Paris"}])
    first, second = own(path, grader="choice").rows
    assert json.loads(first.question.labels) == {"letters": "ABCDE"}
    assert first.question.gold == "E"
    assert "letter" in second.error


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"question": "quest"}, "a, key, q"),
        ({"id": "id"}, "a, key, q"),
        ({"prompt": "{context} {question}"}, "{context}"),
        ({"prompt": "{question} \\boxed{a}"}, "gold answer"),
        ({"prompt": "{question"}, "braces"),
        ({"prompt": "{question.__class__}"}, "no column"),
        ({"prompt": "{question!r}"}, "no column"),
    ],
)
def test_what_is_wrong_for_every_row_is_refused(tmp_path, changes, remedy):
    with pytest.raises(ValueError) as refusal:
        own(write(tmp_path / "d.json", ROWS), **changes)
    assert remedy in str(refusal.value)


def test_two_rows_of_one_id_are_refused_by_row(tmp_path):
    path = write(tmp_path / "d.json", [*ROWS, ROWS[4]])
    with pytest.raises(ValueError, match="row 5 and .*row 21 have one id"):
        own(path, id="key")
    assert len(own(path).rows) == 21


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.json", b"{"),
        ("d.json", b'{"rows": []}'),
        ("d.json", b"[]"),
        ("d.json", "[é]".encode("latin-1")),
        ("d.json.gz", b"[]"),
        ("d.parquet", b"PAR1"),
        ("d.txt", b"x"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        own(tmp_path / name)
