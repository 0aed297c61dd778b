"""The notebooks as they are committed: without outputs, without anyone's paths, and in step with the docs."""

import json
import re

import pytest
from paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_POLICY_LINES = 20


def cells(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_they_are_found_and_the_readme_names_them():
    readme = (ROOT / "README.md").read_text()
    assert len(NOTEBOOKS) == 4 and all(f"notebooks/{path.name}" in readme for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_they_hold_no_outputs_and_name_no_machine(path):
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert not re.search(r"[\"'( ]/(home|tmp|work|root|Users|opt)/", path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_their_links_lead_somewhere(path):
    links = re.findall(r"\]\((\.\./[^)#]+)", "".join(cells(path, "markdown")))
    assert links and not [link for link in links if not (path.parent / link).exists()]


def test_the_policy_is_as_short_as_promised_and_the_docs_show_the_same():
    path = ROOT / "notebooks" / "your-own-policy.ipynb"
    (written,) = [cell for cell in cells(path, "code") if cell.startswith("%%writefile")]
    assert len(written.splitlines()) - 1 <= MOST_POLICY_LINES
    method = written[written.index("    def decision") :]
    assert method in (ROOT / "docs" / "policies.md").read_text()
