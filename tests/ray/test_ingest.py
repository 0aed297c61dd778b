"""Benchmarks through Ray Data: what arrives on the cluster is what a plain reading gives."""

import pytest
from held_rows import held
from paths import FIXTURES

from pipelines.run.ingest import ingest
from steer.benchmarks import PUBLIC, load_benchmark, reading
from steer.config.load import SettingsError
from steer.config.run import BenchmarkConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.mark.parametrize(
    "config",
    [
        *({"name": name, "source": str(FIXTURES / name), "split": "all", "samples": 2} for name in PUBLIC),
        {"name": "acpbench", "source": str(FIXTURES / "acpbench"), "split": "validation"},
        {"name": "kor_bench", "source": str(FIXTURES / "kor_bench"), "split": "test", "limit": 2},
        {"name": "hops", "split": "validation", "limit": 30, "samples": 3},
    ],
    ids=lambda config: config["name"],
)
def test_the_cluster_holds_the_rows_in_order(config):
    config = BenchmarkConfig(**config)
    expected = load_benchmark(config)
    got = ingest(reading(config))
    assert got.rows.trace_ids.to_pylist() == [row.question.trace_id for row in expected.rows]
    everything = range(len(got.rows))
    assert got.rows.take(everything) == held(expected.rows).take(everything)
    some = list(everything)[::-1][:2]
    taken = got.rows.take(some).to_pylist()
    assert [f"{row['id']}#{row['sample']}" for row in taken] == [got.rows.trace_ids[i].as_py() for i in some]
    assert got.described()["traces"] == len(expected.rows)


def test_refused_rows_keep_their_place_and_are_counted(tmp_path):
    path = tmp_path / "test.jsonl"
    good = (FIXTURES / "math500/test.jsonl").read_text().splitlines()
    path.write_text("\n".join([good[0], "not json", good[1], '{"problem": "?"}']))
    got = ingest(reading(BenchmarkConfig(name="math500", source=str(path), split="all", samples=2)))
    assert (len(got.rows), got.rows.bad) == (8, 4)
    errors = got.rows.take(range(8)).column("error").to_pylist()
    assert [bool(error) for error in errors] == [False, False, True, True, False, False, True, True]
    assert "row 2" in errors[2]


@pytest.mark.parametrize(
    ("text", "reason"), [("", "no rows"), ('{"a": ', "not valid JSON"), ("[1, 2]", None), ("{}", "must hold a list")]
)
def test_a_file_that_cannot_be_read_is_refused_in_its_own_words(tmp_path, text, reason):
    path = tmp_path / "test.json"
    path.write_text(text)
    plan = reading(BenchmarkConfig(name="math500", source=str(path), split="all"))
    if reason is None:
        assert ingest(plan).rows.bad == 2
        return
    with pytest.raises(SettingsError) as refusal:
        ingest(plan)
    assert "Ray" not in str(refusal.value) and "UDF" not in str(refusal.value)
    assert str(path) in str(refusal.value) or reason in str(refusal.value)


def test_the_commonest_reason_is_kept_and_a_benchmark_without_a_question_is_refused(tmp_path):
    own = {"question": "q", "answer": "a", "grader": "aime", "split": "all", "source": str(tmp_path / "d.jsonl")}
    (tmp_path / "d.jsonl").write_text('{"q": "1?", "a": 1.5}\n{"q": "2?", "a": 27.0}\n{"q": "3?", "a": 2.5}\nx\n')
    got = ingest(reading(BenchmarkConfig(**own)))
    got.refuse_unaskable()
    described = got.described()
    assert (described["traces"], described["refused"]) == (4, 3)
    assert "no integer from 0 to 999" in described["refusal"] and "2 rows" in described["refusal"]
    first = ingest(reading(BenchmarkConfig(**own, limit=1)))
    with pytest.raises(ValueError, match="none of the 1 traces can be used.*d.jsonl row 1, which holds '1.5'"):
        first.refuse_unaskable()


def test_a_folder_without_the_split_says_which_it_has(tmp_path):
    (tmp_path / "test.mcq.json").write_bytes((FIXTURES / "acpbench/app/test.mcq.json").read_bytes())
    with pytest.raises(SettingsError, match="set split: test"):
        ingest(reading(BenchmarkConfig(name="acpbench", source=str(tmp_path), split="validation")))


def test_two_rows_of_one_id_are_refused_before_anything_is_routed(tmp_path):
    line = (FIXTURES / "math500/test.jsonl").read_text().splitlines()[0]
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(SettingsError, match="a.jsonl row 1 and .*b.jsonl row 1 have one id"):
        ingest(reading(BenchmarkConfig(name="math500", source=str(tmp_path), split="all")))
