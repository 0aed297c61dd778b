"""`steer report` on hand-made runs: what is on the page, what is beside it, and that hostile text stays text."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from handmade_runs import make

from pipelines import cli
from pipelines.report.tables import CURVE, Column, Table, as_csv, markdown
from pipelines.report.trace_view import MOST_CHARACTERS, MOST_TRACES, embedded
from pipelines.report.write import write_report
from steer.config.load import SettingsError
from steer.storage.run_folder import RunFolder

HOSTILE = (
    "<script>alert(1)</script><!-- ]]> \u2028\u2029 \u202eevil\u202c <img src=https://x.example/a.png> \x00 & | $x$"
)

TIME = {"wall": {"wall": 8.0}, "small": {"writing": 2.0, "idle": 6.0}}


class Page(HTMLParser):
    """What a browser would make of the file: tags with their attributes, text by section, scripts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.scripts, self.text, self.sections = [], [], [], []
        self.whole = path.read_text(encoding="utf-8")
        self.feed(self.whole)
        self.data = json.loads(next(s for s in self.scripts if s.startswith('{"charts"')))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.sections.append(dict(attrs)["id"])

    def handle_data(self, data):
        (self.scripts if self.tags and self.tags[-1][0] == "script" and len(data) > 40 else self.text).append(data)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    root = tmp_path_factory.mktemp("one")
    run = make(root / "run", signal=0.5)
    RunFolder.open(run).update(time=TIME)
    write_report([run], root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    write_report([make(root / "a"), make(root / "b", flip=1)], root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    write_report([make(root / "run<b>&|$x$", text=HOSTILE)], root / "out")
    return root / "out"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is there --------------------------------------------------------------------------------------------------


def test_every_section_table_and_figure_is_there(one):
    sections = ["accuracy", "against-large", "setting", "auroc", "traces", "time", "run-0"]
    assert Page(one / "report.html").sections == sections
    names = ["accuracy", "against-large", "auroc", "confidence-by-step", "large-share", "oracle", "time"]
    assert files(one / "tables") == sorted(f"{name}.{kind}" for name in names for kind in ("csv", "md"))
    figures = [f"{name}-chain-test" for name in ("auroc", "confidence-by-step", "curve", "large-share")]
    assert files(one / "figures") == sorted(f"{name}.{kind}" for name in figures for kind in ("png", "svg"))
    assert all(path.stat().st_size > 1000 for path in (one / "figures").iterdir())


def test_the_page_shows_both_counts_of_compute_and_the_bar(one):
    charts = Page(one / "report.html").data["charts"]
    assert set(charts) == {"curve-0-chain-test-flops_paper", "curve-0-chain-test-flops_full"}
    names = [t.get("name") for t in charts["curve-0-chain-test-flops_paper"]["data"]]
    assert names == ["Pareto set", "random_query (the bar)", "small", "large", "steer", "oracle"]


def test_the_oracle_and_what_each_policy_recovers_have_tables(tmp_path):
    run = make(tmp_path / "run", full={"small": 1e-6, "steer": 3e-6, "large": 9e-6})
    write_report([run], tmp_path / "out")
    (oracle,) = csv.DictReader((tmp_path / "out/tables/oracle.csv").open())
    assert (float(oracle["accuracy"]), int(oracle["questions"])) == (1.0, 40)
    assert float(oracle["flops_full"]) == pytest.approx((26 * 1e-6 + 14 * 9e-6) / 40), "26 of 40 are right on small"
    (recovered,) = csv.DictReader((tmp_path / "out/tables/gap-recovered.csv").open())
    assert (recovered["policy"], float(recovered["settings"])) == ("steer", 1)
    # steer is as accurate as small, at a quarter of the cost between the models: PGR 0, 0, 1 at c = 0, .25, 1.
    assert float(recovered["apgr"]) == pytest.approx(0.75 / 2)
    assert float(recovered["cpt_50"]) == pytest.approx(0.25 + 0.75 / 2)
    rows = {r["policy"]: r["pareto"] for r in csv.DictReader((tmp_path / "out/tables/accuracy.csv").open())}
    assert rows == {"small": "True", "large": "True", "steer": "False"}


def test_intervals_rest_on_rules_where_questions_share_them(tmp_path):
    labels = [f'{{"rule_id": "{i // 4}"}}' for i in range(40)]
    for name, given in (("apart", None), ("shared", labels)):
        write_report([make(tmp_path / name, labels=given)], tmp_path / f"out-{name}")
    apart, shared = (
        next(csv.DictReader((tmp_path / f"out-{name}/tables/accuracy.csv").open())) for name in ("apart", "shared")
    )
    assert (apart["clusters"], shared["clusters"]) == ("40", "10")
    assert shared["accuracy"] == apart["accuracy"] and shared["accuracy_low"] != apart["accuracy_low"]
    assert "clusters" in (tmp_path / "out-shared/tables/accuracy.md").read_text().split("---")[0]
    assert "clusters" not in (tmp_path / "out-apart/tables/accuracy.md").read_text().split("---")[0]


def test_csv_holds_the_raw_numbers(one):
    rows = list(csv.DictReader((one / "tables" / "accuracy.csv").open()))
    assert [(r["policy"], float(r["accuracy"])) for r in rows] == [("small", 0.65), ("large", 1.0), ("steer", 0.65)]
    assert float(rows[0]["flops_paper"]) == pytest.approx(2e-6)
    assert float(rows[2]["of_large_paper"]) == 1.0


def test_no_text_in_csv_is_run_as_a_formula_and_numbers_stay_numbers():
    texts = ["=1+1", "+a", "-a", "@sum(a1)", "\t=1", "\n=1", "＝1", "--1", "\r=1", "a\r\n=1", "a=1", "", "-1", "+2.5e3"]
    columns = (Column("name", "name", "text", "a text"), Column("x", "x", "number", "a number"))
    frame = pd.DataFrame({"name": texts, "x": [-1.5] * len(texts)})
    rows = list(csv.reader(io.StringIO(as_csv(Table("t", "t", columns, frame)), newline="")))[1:]
    expected = [*(f"'{text}" for text in texts[:8]), "'\n=1", "a\n=1", *texts[10:]]
    assert rows == [[name, "-1.5"] for name in expected]


def test_markdown_says_units_and_what_columns_mean(one):
    text = (one / "tables" / "accuracy.md").read_text()
    assert "MFLOP/question, paper" in text and "| 65.0 |" in text
    assert "- accuracy %: share of right answers" in text


def test_the_run_is_described(one):
    text = " ".join(Page(one / "report.html").text)
    for fact in (
        "tiny",
        "big",
        "chain, test: 40 traces (by hand)",
        "python",
        "commit",
        "machine",
        "What the columns mean",
    ):
        assert fact in text


def test_a_signal_has_its_auroc_and_stands_in_the_trace_view(one):
    page = Page(one / "report.html")
    assert "the policy's signal" in [m["name"] for m in page.data["details"][0]["measures"]]
    assert page.data["traces"][-1]["steps"][0]["signal"] == 0.5


def test_traces_are_of_every_kind_and_keep_discarded_drafts_in_place(one):
    traces = Page(one / "report.html").data["traces"]
    assert len(traces) == MOST_TRACES
    assert {(t["row"], t["correct"]) for t in traces} == {
        *((f"chain · test · {row}", verdict) for row in ("small", "steer gamma=0.5") for verdict in (True, False)),
        ("chain · test · large", True),
    }
    routed = next(t for t in traces if "steer" in t["row"])
    assert [(s["step"], s["model"], s["kept"], s["decision"]) for s in routed["steps"]] == [
        (1, "small", False, "rewrite"),
        (1, "large", True, "small"),
        (2, "small", True, "small"),
        (3, "small", True, "small"),
    ]
    assert (routed["gold"]["head"], routed["rule"], routed["grader"]) == ("4", "boxed:exact", "math")


def test_long_texts_are_cut_and_say_so(tmp_path):
    write_report([make(tmp_path / "run", text="x" * (MOST_CHARACTERS + 7), n=5)], tmp_path / "out")
    shown = Page(tmp_path / "out" / "report.html").data["traces"][0]["prompt"]
    assert (len(shown["head"]), shown["more"]) == (MOST_CHARACTERS, 7)


# --- what is not there ----------------------------------------------------------------------------------------------


def test_without_large_and_bar_nothing_speaks_of_them(tmp_path):
    write_report([make(tmp_path / "run", cells=["steer"])], tmp_path / "out")
    page = Page(tmp_path / "out" / "report.html")
    assert "against-large" not in page.sections and not (tmp_path / "out" / "tables" / "against-large.csv").exists()
    assert [t["name"] for t in page.data["charts"]["curve-0-chain-test-flops_paper"]["data"]] == ["steer"]
    assert "random_query" not in " ".join(page.text)


def test_without_routed_traces_there_is_no_chart_of_routing(tmp_path):
    write_report([make(tmp_path / "run", cells=["large"])], tmp_path / "out")
    page = Page(tmp_path / "out" / "report.html")
    assert page.sections == ["accuracy", "traces", "run-0"]
    assert files(tmp_path / "out" / "figures") == ["curve-chain-test.png", "curve-chain-test.svg"]


def test_columns_that_an_older_steer_did_not_write_are_fine(tmp_path):
    import pyarrow.parquet as pq

    root = make(tmp_path / "run")
    for part in (root / "steps").glob("part-*.parquet"):
        pq.write_table(pq.read_table(part).drop_columns(["signal", "signal_seconds", "max_prob_large"]), part)
    write_report([root], tmp_path / "out")
    assert "score it routed by" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_an_unfinished_run_says_so(tmp_path):
    write_report([make(tmp_path / "run", done=False)], tmp_path / "out")
    assert "This run did not end" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_run_behind_an_fsspec_url_is_reported_too(one):
    from uuid import uuid4

    url = f"memory://{uuid4()}/run"
    RunFolder.open(make(url, signal=0.5)).update(time=TIME)
    out = one.parent / "remote"
    write_report([url], out)
    assert (out / "tables" / "accuracy.csv").read_bytes() == (one / "tables" / "accuracy.csv").read_bytes()
    assert (out / "tables" / "auroc.csv").read_bytes() == (one / "tables" / "auroc.csv").read_bytes()
    assert files(out / "figures") == files(one / "figures")


# --- hostile text, and nothing fetched ------------------------------------------------------------------------------


def test_hostile_text_stays_text(hostile):
    page = Page(hostile / "report.html")
    assert [tag for tag, _ in page.tags].count("script") == 3, "data, plotly, the page's own"
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "link", "b")]
    assert {t["prompt"]["head"] for t in page.data["traces"]} == {HOSTILE}, "and nothing of it is lost"
    assert "alert(1)" not in page.whole.replace("\\u003cscript\\u003ealert(1)", "")


def test_the_script_puts_text_into_isolated_text_nodes_only(hostile):
    own = Page(hostile / "report.html").scripts[-1]
    assert "textContent" in own and '"bdi"' in own
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", own)


def test_embedded_json_has_no_markup_and_reads_back():
    text = embedded({"a": HOSTILE})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": HOSTILE}


@pytest.mark.parametrize("report", ["one", "two", "hostile"])
def test_nothing_is_fetched(report, request):
    page = Page(request.getfixturevalue(report) / "report.html")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data", "style"):
            value = attributes.get(name) or ""
            assert not re.search(r"//|url\(", value), (tag, name, value)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';") and "http" not in policy
    style = re.search(r"<style>(.*?)</style>", page.whole, re.DOTALL)[1]
    assert not re.search(r"@import|url\(|https?:", style)
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?:|WebSocket", page.scripts[-1])
    assert page.whole.count("plotly.js v") == 1


def test_names_cannot_break_a_markdown_table():
    import pandas as pd

    values = {c.name: 0.5 for c in CURVE} | {end: 0.5 for c in CURVE for end in c.ends or ()}
    frame = pd.DataFrame([{**values, "benchmark": "a|b\n<i>", "policy": "p", "setting": "", "run": "r", "split": "s"}])
    lines = markdown(Table("t", "T", CURVE, frame)).splitlines()
    assert lines[4].startswith("| a\\|b &lt;i>")


# --- two runs -------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_question_by_question(two):
    page = Page(two / "report.html")
    assert page.sections[:2] == ["accuracy", "comparison"] and page.sections[-2:] == ["run-0", "run-1"]
    rows = list(csv.DictReader((two / "tables" / "comparison.csv").open()))
    assert [r["policy_a"] for r in rows] == ["small", "large", "steer"]
    assert {(r["run_a"], r["run_b"], r["questions"]) for r in rows} == {("a", "b", "40")}
    assert float(rows[0]["accuracy_difference"]) == pytest.approx(27 / 40 - 26 / 40)
    assert float(rows[0]["accuracy_low"]) < 0 < float(rows[0]["accuracy_high"])
    assert "comparison-a-b.png" in files(two / "figures")


def test_runs_without_shared_questions_are_refused(tmp_path):
    runs = [make(tmp_path / "a"), make(tmp_path / "b", first=100)]
    with pytest.raises(SettingsError, match="no row on the same questions"):
        write_report(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_of_one_name_are_told_apart(tmp_path):
    write_report([make(tmp_path / "x" / "run"), make(tmp_path / "y" / "run")], tmp_path / "out")
    assert "run (1) against run (2)" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_same_run_gives_the_same_bytes_but_for_the_date(one, tmp_path):
    root = one.parent / "run"
    assert cli.main(["report", str(root), "--out", str(tmp_path / "again")]) == cli.OK
    for path in sorted(p for p in one.rglob("*") if p.is_file()):
        first, second = (
            re.sub(rb"made [\d :-]+ UTC", b"", p.read_bytes())
            for p in (path, tmp_path / "again" / path.relative_to(one))
        )
        assert first == second, path.name


def test_what_cannot_be_reported_is_usage(tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    RunFolder.create(tmp_path / "empty", "run", {}, [0])
    make(tmp_path / "run", n=5)
    for run, out, said in (
        ("nothing", "out", "holds no run.json"),
        ("empty", "out", "holds no traces"),
        ("run", "nothing", "choose another --out"),
    ):
        assert cli.main(["report", str(tmp_path / run), "--out", str(tmp_path / out)]) == cli.USAGE
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
