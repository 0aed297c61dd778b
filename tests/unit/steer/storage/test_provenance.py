"""The commit of a source tree, and of one that a job was submitted with."""

import shutil
import subprocess
import sys

import pytest
from paths import ROOT

PRINT = "from steer.storage.provenance import git_commit; print(git_commit())"


@pytest.fixture
def uploaded(tmp_path):
    """What Ray makes of a working directory: the files without `.git`."""
    folder = tmp_path / "uploaded"
    shutil.copytree(
        ROOT / "steer" / "storage", folder / "steer" / "storage", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def commit(folder, **environment):
    done = subprocess.run([sys.executable, "-c", PRINT], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_commit_of_a_submitted_job_is_what_the_submitter_says(uploaded):
    assert commit(uploaded, PATH="/usr/bin:/bin") == "None"
    assert commit(uploaded, PATH="/usr/bin:/bin", STEER_GIT_COMMIT=" 81700ec-dirty\n") == "81700ec-dirty"
    assert commit(uploaded, PATH="/usr/bin:/bin", STEER_GIT_COMMIT="") == "None"


def test_a_source_tree_speaks_for_itself(uploaded):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-C", str(uploaded)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit(uploaded, PATH="/usr/bin:/bin", STEER_GIT_COMMIT="other") == head
