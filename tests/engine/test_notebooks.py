"""The notebooks from first cell to last: one race on the real pair, which two others then read, and an endpoint.

The race is `make demo`'s own sweep (pipelines/configs/demo.yaml) with fewer questions and one row more, so that engines
start once for these three.
"""

import ast
import json
import os

import nbformat
import pytest
from nbclient import NotebookClient
from paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.engine]

NOTEBOOKS = ROOT / "notebooks"
QUESTIONS = 40


def executed(name, folder, run):
    """The notebook with its outputs; a cell that fails raises CellExecutionError with its trace."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "OMP_NUM_THREADS", "MPLBACKEND")}
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")}
    environment |= {"STEER_RUN": str(run), "STEER_QUESTIONS": str(QUESTIONS)}
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    return executed("your-own-policy", folder, "race"), folder


def shown(notebook, kind):
    """Every output of that MIME type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_your_own_policy_races_on_the_real_pair(raced):
    notebook, folder = raced
    rows = json.loads((folder / "race" / "summary.json").read_text())
    mine = [row for row in rows if row["policy"] == "Sceptic"]
    assert {row["setting"] for row in mine} == {"least=0.8", "least=0.9", "least=0.98"}
    tested = {(row["benchmark"], row["policy"]): row for row in rows if row["split"] == "test"}
    for benchmark in ("chain_math", "hops"):
        assert tested[benchmark, "Sceptic"]["n"] == QUESTIONS
        assert 0.0 < tested[benchmark, "Sceptic"]["share_large"] < 1.0
        assert tested[benchmark, "Sceptic"]["accuracy"] > tested[benchmark, "small"]["accuracy"]
    compared, _ = shown(notebook, "text/html")
    assert all(policy in compared for policy in ("steer", "random_query", "large"))


def test_reading_the_tables_on_its_run(raced):
    notebook = executed("reading-the-tables", raced[1], "race")
    tables = "".join(shown(notebook, "text/html"))
    assert all(word in tables for word in ("chain_math/test/steer/gamma=", "rewrite", "discarded", "mean_confident"))


def test_paper_figures_on_its_run(raced):
    notebook = executed("paper-figures", raced[1], "race")
    saved = {path.name for path in (raced[1] / "race-figures").iterdir()}
    for kind in ("curve", "confidence-by-step", "large-share", "auroc"):
        assert {f"{kind}-chain_math.png", f"{kind}-chain_math.svg"} <= saved
    assert len(shown(notebook, "image/png")) == len(saved) / 2


def test_calling_the_endpoint(tmp_path):
    notebook = executed("calling-the-endpoint", tmp_path, "none")
    printed = ["".join(out.text for out in cell.get("outputs", ()) if "text" in out) for cell in notebook.cells]
    asked, streamed = (text for text in printed if text)
    for model in ("steer/embedded", "steer/embedded/small", "steer/embedded/large"):
        assert f"{model} says The answer is" in asked
    assert "The answer is" in streamed
    used, returned = shown(notebook, "text/plain")
    generated = ast.literal_eval(used)
    assert generated["large"]["generated"] > 0
    assert returned == "0"
