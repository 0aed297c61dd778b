"""The house of docs/architecture.md, beside the import-linter contracts in pyproject.toml (`make lint`)."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from paths import ROOT

FLOORS = ("steer", "actors", "pipelines")
HEAVY = ("ray", "vllm", "torch", "transformers", "numpy", "pandas", "pyarrow", "sklearn", "matplotlib", "datasets")
FOLDERS = {"steer", "actors", "pipelines", "cluster", "notebooks", "tests", "docs"}
MOST_LINES = 500
MOST_MODULES = 15
DRAWERS = ("utils", "util", "helpers", "common", "misc")


def files(floor):
    """The floor's modules. A Python file in a model's folder belongs to the model: transformers alone reads it."""
    return sorted(p for p in (ROOT / floor).rglob("*.py") if "weights" not in p.parts)


MODULES = [path for floor in FLOORS for path in files(floor)]


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph(*FLOORS, cache_dir=None)
    circles = [
        {module, other}
        for module in graph.modules
        for other in graph.find_upstream_modules(module)
        if module in graph.find_upstream_modules(other)
    ]
    assert circles == []


def test_the_top_level_is_fixed():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git tree")
    folders = {Path(name).parts[0] for name in listed.stdout.splitlines() if "/" in name}
    assert {f for f in folders if not f.startswith(".")} <= FOLDERS


def test_files_stay_short_enough_to_read():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}


def test_folders_stay_small_enough_to_find_a_file_in():
    modules = [path.parent for path in MODULES if path.name != "__init__.py"]
    assert {str(folder): modules.count(folder) for folder in modules if modules.count(folder) > MOST_MODULES} == {}


def test_no_drawer_for_odds_and_ends():
    assert not [path for path in MODULES if path.stem in DRAWERS]


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
