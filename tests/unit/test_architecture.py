"""The house of docs/: imports point downward only, and the command line answers before anything heavy is loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("steer", "actors", "pipelines")
HEAVY = ("ray", "vllm", "torch", "transformers", "numpy", "pandas", "pyarrow", "sklearn", "matplotlib", "datasets")
TRAINING = {f"steer/embedded/{name}.py" for name in ("train", "muon", "checkpoint", "signals", "train_signals")}
"""Nothing that runs a pipeline imports these; torch is a matter of training."""
FOLDERS = {"steer", "actors", "pipelines", "cluster", "notebooks", "tests", "docs"}


def imports(path):
    """Every module that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            yield node.module


def tops(path):
    return {name.split(".")[0] for name in imports(path)}


def files(floor):
    """The floor's modules; a Python file in a model's folder belongs to the model, and transformers alone reads it."""
    return sorted(p for p in (ROOT / floor).rglob("*.py") if "weights" not in p.parts)


@pytest.mark.parametrize("path", files("steer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_method_knows_no_cluster_and_no_engine(path):
    allowed = {"torch"} if str(path.relative_to(ROOT)) in TRAINING else set()
    assert not tops(path) & ({"ray", "vllm", "torch", "transformers", "actors", "pipelines"} - allowed)


@pytest.mark.parametrize("path", files("actors"), ids=lambda p: str(p.relative_to(ROOT)))
def test_actors_know_no_pipeline(path):
    assert "pipelines" not in tops(path)


def test_nobody_imports_tests():
    assert not [p for floor in FLOORS for p in files(floor) if "tests" in tops(p)]


def test_the_top_level_is_fixed():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git tree")
    folders = {Path(name).parts[0] for name in listed.stdout.splitlines() if "/" in name}
    assert {f for f in folders if not f.startswith(".")} <= FOLDERS


def test_files_stay_short_enough_to_read():
    long = {
        str(p.relative_to(ROOT)): n for f in FLOORS for p in files(f) if (n := len(p.read_text().splitlines())) > 350
    }
    assert not long


def test_no_drawer_for_odds_and_ends():
    assert not [p for floor in FLOORS for p in files(floor) if p.stem in ("utils", "util", "helpers", "common", "misc")]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["sweep", "--help"], ["bench", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    program = (
        "import sys\nfrom pipelines.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage: steer" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"
