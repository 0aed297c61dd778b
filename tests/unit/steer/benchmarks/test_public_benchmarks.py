"""The public benchmarks, on rows made up in their layouts: questions, splits, and what is refused."""

import gzip
import json
import shutil

import pytest
from paths import FIXTURES, SHARED

from steer.benchmarks import PUBLIC, load_benchmark
from steer.benchmarks.public.definition import PublicShard
from steer.benchmarks.public.kor_bench import KorHub
from steer.benchmarks.public.sources import HubSource
from steer.config.run import BenchmarkConfig
from steer.grading import grade

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")


def load(name, source=None, **changes):
    return load_benchmark(
        BenchmarkConfig(**{"name": name, "source": str(source or FIXTURES / name), "split": "all", **changes})
    )


@pytest.fixture
def changed(tmp_path):
    """A copy of a benchmark's fixture whose first row is changed: `changed(name, key=value)`, None: without the key."""

    def make(benchmark, file, **changes):
        shutil.copytree(FIXTURES / benchmark, tmp_path / benchmark)
        path = tmp_path / benchmark / file
        text = path.read_text()
        rows = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        rows[0] = {k: v for k, v in {**rows[0], **changes}.items() if v is not None}
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(json.dumps(rows) if file.endswith(".json") else lines)
        return tmp_path / benchmark

    return make


@pytest.mark.parametrize("name", PUBLIC)
def test_every_row_of_the_fixture_is_a_question_with_its_prompt_and_labels(name):
    rows = load(name).rows
    assert rows and not [row.error for row in rows if row.error]
    for row in rows:
        question = row.question
        assert "blank line between two steps" in question.system
        assert ("[[ ]]" if name == "kor_bench" else "\\boxed{") in question.system
        assert question.gold and question.prompt and question.benchmark == name
        assert "{" not in question.subset
        assert question.grader == PUBLIC[name].grader


def test_the_fields_of_each_layout():
    first = {name: load(name).rows[0].question for name in PUBLIC}
    assert (first["math500"].id, first["math500"].difficulty, first["math500"].subset) == (
        "test/algebra/9001.json",
        "2",
        "Algebra",
    )
    assert (first["omni_math"].difficulty, first["omni_math"].subset) == ("4.5", "Number Theory")
    assert [row.question.id for row in load("aime").rows] == ["2023-II-7", "2024-I-1", "2025-I-1", "2025-II-2"]
    assert first["aime"].gold == "012"
    acp = load("acpbench", split="test").rows[0].question
    assert acp.subset == "app" and acp.id.startswith("app/")
    assert acp.prompt.endswith(
        "Which action can be taken now?\n\nA. sail from l0 to l1\nB. board car c1 at l2\nC. sail from l2 to l0\n"
        "D. debark car c0 at l0"
    )
    assert json.loads(acp.labels)["options"][2] == "sail from l2 to l0"
    hops = first["musique"]
    assert (hops.subset, hops.difficulty, json.loads(hops.labels)) == ("2hop", "2", {"aliases": ["Vale"]})
    assert hops.prompt.startswith("Title: Tin Harbour\nTin Harbour is a town") and hops.prompt.endswith("lies?")
    kor = [row.question for row in load("kor_bench").rows]
    assert [question.subset for question in kor] == ["cipher", "counterfactual", "logic", "logic"]
    assert json.loads(kor[3].labels) == {"subset": "logic", "rule_id": "5"}
    assert "Shift every letter" in kor[0].prompt
    gsm = [row.question for row in load("gsm8k").rows]
    assert [(q.gold, q.difficulty) for q in gsm] == [("1200", "2"), ("9", "3"), ("66", "2"), ("-5", "1")]
    svamp = [row.question for row in load("svamp").rows]
    assert [(q.id, q.gold, q.subset) for q in svamp] == [
        ("chal-9001", "7", "Subtraction"),
        ("chal-9002", "42", "Multiplication"),
        ("chal-9003", "3", "Common-Division"),
        ("chal-9004", "3.5", "Addition"),
    ]
    assert svamp[0].prompt.endswith("takes 5 of the red ones. How many red books are left on the shelf?")
    assert svamp[1].prompt == "Tickets cost 3 dollars each. What do 14 tickets cost?"


def test_a_question_of_gsm8k_has_one_id_in_every_layout(tmp_path):
    question = "How much is 2 and 3?"
    layouts = (
        {"question": question, "answer": "2 + 3 = 5\n#### 5"},
        {"id": "gsm-1", "question": question, "answer": "5", "solution": "2 + 3 = <<2+3=5>>5"},
    )
    read = []
    for number, row in enumerate(layouts):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(row))
        (only,) = load("gsm8k", tmp_path / f"{number}.jsonl").rows
        read.append(only.question)
    assert read[0] == read[1]


def test_difficulties_restrict_a_split_without_changing_it_and_before_the_limit():
    levels = {row.question.id: row.question.difficulty for row in load("math500").rows}
    for split in ("validation", "test", "all"):
        whole = [row.question.id for row in load("math500", split=split).rows]
        for wanted in (["2"], [2, 4], "2"):
            kept = [id for id in whole if levels[id] in map(str, wanted)]
            if kept:
                assert [row.question.id for row in load("math500", split=split, difficulties=wanted).rows] == kept
    one = load("math500", split="all", difficulties=[levels[whole[-1]]], limit=1).rows
    assert [row.question.difficulty for row in one] == [levels[whole[-1]]]
    assert "only questions of difficulty 2" in load("math500", difficulties=[2]).split_rule


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"difficulties": [9]}, "has difficulty 9: choose benchmark.difficulties from"),
        ({"name": "svamp", "difficulties": ["1"]}, "no difficulty label, so leave benchmark.difficulties out"),
        ({"difficulties": []}, "the list is empty"),
    ],
)
def test_difficulties_that_leave_no_question_are_refused(changes, remedy):
    with pytest.raises(ValueError, match=remedy):
        load(**{"name": "math500", **changes})


@pytest.mark.parametrize(
    ("name", "file", "changes", "reason"),
    [
        ("math500", "test.jsonl", {"problem": None}, "'problem' is missing"),
        ("math500", "test.jsonl", {"answer": " "}, "'answer' is missing"),
        ("math500", "test.jsonl", {"answer": ["1"]}, "'answer' is a list"),
        ("omni_math", "test.jsonl", {"domain": "Algebra"}, "'domain' is a str"),
        ("aime", "aime_2022_2024.jsonl", {"answer": "1000"}, "0 to 999"),
        ("aime", "aime_2022_2024.jsonl", {"url": "elsewhere"}, "AIME problem"),
        ("aime", "aime_2025.jsonl", {"id": "aime25-30"}, "0 to 29"),
        ("aime", "aime_2025.jsonl", {"expected_answer": None}, "'answer' is missing"),
        ("acpbench", "app/test.mcq.json", {"choices": None}, "'choices' is missing"),
        ("acpbench", "app/test.mcq.json", {"answer": "E"}, "none of the choices"),
        ("acpbench", "app/test.mcq.json", {"choices": {"label": ["A", "A"], "text": ["x", "y"]}}, "capital letter"),
        ("musique", "musique_ans_dev.jsonl", {"paragraphs": []}, "'paragraphs' is missing"),
        ("musique", "musique_ans_dev.jsonl", {"paragraphs": ["text"]}, "title and text"),
        ("musique", "musique_ans_dev.jsonl", {"answerable": False}, "not answerable"),
        ("musique", "musique_ans_dev.jsonl", {"id": "x1"}, "hops"),
        ("kor_bench", "cipher/sample.jsonl", {"rule_id": "99"}, "rule 99 is not in rule.jsonl"),
        ("gsm8k", "test.jsonl", {"answer": "It is five.\n#### five"}, "'answer' ends in 'five', and no number"),
        ("gsm8k", "test.jsonl", {"question": None}, "'question' is missing"),
        ("svamp", "test.jsonl", {"Answer": None}, "'answer' is missing"),
        ("svamp", "test.jsonl", {"Question": None}, "'Question' is missing"),
    ],
)
def test_a_row_that_cannot_be_asked_is_refused_by_file_row_and_field(changed, name, file, changes, reason):
    rows = load(name, changed(name, file, **changes)).rows
    refused = [row for row in rows if row.error]
    assert len(refused) == 1 and len(rows) == len(load(name).rows)
    assert reason in refused[0].error
    assert f"{file} row 1" in refused[0].error


def test_two_rows_of_one_id_are_refused_by_both_places(changed):
    same = json.loads((FIXTURES / "math500/test.jsonl").read_text().splitlines()[1])["unique_id"]
    with pytest.raises(ValueError, match=r"row 1 and .*row 2 have one id, 'test/geometry/9002.json'"):
        load("math500", changed("math500", "test.jsonl", unique_id=same))


def test_repeats_of_an_omni_math_problem_are_numbered_and_stay_in_one_split(changed):
    second = json.loads((FIXTURES / "omni_math/test.jsonl").read_text().splitlines()[1])
    root = changed("omni_math", "test.jsonl", problem=second["problem"])
    ids = [row.question.id for row in load("omni_math", root).rows]
    assert ids[1] == f"{ids[0]}-2"
    splits = [{row.question.id for row in load("omni_math", root, split=s).rows} for s in ("validation", "test")]
    assert any({ids[0], ids[1]} <= split for split in splits)


def test_acpbench_has_splits_of_its_own_and_the_others_are_sampled():
    for name in PUBLIC:
        validation, test = ([r.question.id for r in load(name, split=s).rows] for s in ("validation", "test"))
        assert not set(validation) & set(test)
        assert sorted(validation + test) == sorted(r.question.id for r in load(name).rows)
    assert [r.question.id for r in load("acpbench", split="validation").rows] == ["app/-12"]
    assert "own validation" in load("acpbench").split_rule
    assert "hashes" in load("math500").split_rule


def test_a_limit_draws_from_all_subsets_and_keeps_the_order():
    whole = [row.question.id for row in load("kor_bench").rows]
    some = [row.question.id for row in load("kor_bench", limit=2).rows]
    assert len(some) == 2 and some == [i for i in whole if i in some]


def test_a_file_or_a_zipped_file_is_as_good_as_the_folder(tmp_path):
    file = FIXTURES / "acpbench/app/test.mcq.json"
    zipped = tmp_path / "test.mcq.json.gz"
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    folder = [r.question.id for r in load("acpbench", split="test").rows]
    assert [r.question.id for r in load("acpbench", file).rows] == folder
    assert [r.question.id for r in load("acpbench", zipped).rows] == folder
    assert len(load("kor_bench", FIXTURES / "kor_bench/logic").rows) == 2
    assert len(load("kor_bench", FIXTURES / "kor_bench/logic/sample.jsonl").rows) == 2


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"source": "nowhere"}, "or source: hub"),
        ({"source": "embedded"}, "use source: hub"),
        ({"name": "hops", "source": "hub"}, "use source: embedded"),
        ({"question": "problem", "source": "hub"}, "knows its fields"),
        ({"name": "kor_bench", "source": str(FIXTURES / "math500")}, "clone https://github.com/KOR-Bench"),
    ],
)
def test_refusals_name_the_remedy(changes, remedy):
    with pytest.raises(ValueError, match=remedy):
        load_benchmark(BenchmarkConfig(**{"name": "math500", **changes}))


def test_own_fields_may_be_named_like_a_public_benchmark():
    own = load("math500", FIXTURES / "math500/test.jsonl", question="problem", answer="answer", grader="exact")
    assert own.rows[0].question.grader == "exact" and own.rows[0].question.system == ""


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docs_show_the_prompt_that_is_asked(name):
    documented = (FIXTURES.parents[1] / "docs" / "benchmarks.md").read_text()
    question = load(name, split="test").rows[0].question
    assert f"system:\n{question.system}\n\nuser:\n{question.prompt}\n```" in documented
    assert f"(gold: `{question.gold}`)" in documented


def test_choice_official_reaches_the_grader():
    question = load("acpbench", split="test", choice_official=True).rows[0].question
    verdict = grade("\\boxed{A}, Because of D", question.gold, question.grader, json.loads(question.labels))
    assert (verdict.extracted, verdict.rule) == ("D", "official")


# --- the hub's own code, on data sets that lie in a folder ----------------------------------------------------------


def test_a_hub_data_set_streams_by_config_and_split(tmp_path):
    repo = tmp_path / "acp_bench"
    shutil.copytree(FIXTURES / "acpbench/app", repo / "data")
    (repo / "README.md").write_text(
        "---\nconfigs:\n- config_name: acp_app_mcq\n  data_files:\n"
        "  - split: test\n    path: data/test.mcq.json\n  - split: validation\n    path: data/dev.mcq.json\n---\n"
    )
    source = HubSource(str(repo), "validation", "acp_app_mcq", "validation", "app")
    read = list(PublicShard(PUBLIC["acpbench"], source, "choice").rows())
    assert [(key.split, row.question.id, row.error) for key, row in read] == [("validation", "app/-12", "")]
    assert read[0][0].place.endswith("acp_bench/acp_app_mcq/validation row 1")
    assert [row.question for _, row in read] == [r.question for r in load("acpbench", split="validation").rows]


def test_a_hub_that_cannot_be_reached_is_said_with_the_remedy(tmp_path):
    source = HubSource(str(tmp_path / "nothing"), "test")
    with pytest.raises(ValueError, match="HF_TOKEN, or download the data set and set benchmark.source"):
        list(source.records())


@pytest.mark.parametrize("layout", ["data", "."])
def test_both_hub_layouts_of_kor_bench_are_tried(tmp_path, layout):
    shutil.copytree(FIXTURES / "kor_bench/logic", tmp_path / layout / "logic")
    read = list(PublicShard(PUBLIC["kor_bench"], KorHub("logic", root=str(tmp_path)), "kor").rows())
    assert [row.question for _, row in read] == [r.question for r in load("kor_bench").rows if "logic" in r.question.id]
    with pytest.raises(ValueError, match="clone https://github.com/KOR-Bench"):
        list(KorHub("cipher", root=str(tmp_path)).records())


# --- the real rows --------------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(
    ("name", "rows"),
    [("math500", 400), ("omni_math", 2179), ("aime", 96), ("acpbench", 944), ("musique", 160), ("kor_bench", 600)]
    + [("gsm8k", 892), ("svamp", 689)],
)
def test_every_real_row_is_a_question(name, rows):
    read = load(name, DATA / name).rows
    assert len(read) == rows
    assert not [row.error for row in read if row.error]


@pytest.mark.parametrize(
    ("name", "file", "changes"),
    [
        ("math500", "test.jsonl", {"answer": ""}),
        ("math500", "test.jsonl", {"answer": "(1"}),
        ("omni_math", "test.jsonl", {"answer": None}),
        ("aime", "aime_2022_2024.jsonl", {"answer": "1000"}),
        ("acpbench", "app/test.mcq.json", {"answer": "E"}),
        ("musique", "musique_ans_dev.jsonl", {"answer": " "}),
        ("kor_bench", "cipher/sample.jsonl", {"answer": None}),
        ("gsm8k", "test.jsonl", {"answer": "Half an hour has 30 minutes.\nIt is 1200.\n####"}),
        ("svamp", "test.jsonl", {"Answer": " "}),
    ],
)
def test_a_row_whose_gold_alone_is_refused_keeps_its_id_subset_and_prompt(changed, name, file, changes):
    expected = {row.question.id: row.question for row in load(name).rows}
    (lost,) = (row.question for row in load(name, changed(name, file, **changes)).rows if row.error)
    whole = expected[lost.id]
    assert (lost.subset, lost.difficulty, lost.prompt) == (whole.subset, whole.difficulty, whole.prompt)


def test_the_split_does_not_depend_on_the_folder_of_the_files(tmp_path):
    row = {"problem": "?", "answer": "1", "subject": "Algebra", "level": 1}
    rows = [{**row, **({"unique_id": f"x/{i}"} if i % 3 else {})} for i in range(30)]
    ids = []
    for folder in (tmp_path / "here", tmp_path / "there/below"):
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        ids.append([row.question.id for row in load("math500", folder, split="validation").rows])
    assert ids[0] == ids[1] and len(ids[0]) == 6
