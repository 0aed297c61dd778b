#!/usr/bin/env bash
# Installs a lock and this project (editable) into the environment of the Python given: used by `make`,
# and by the nodes of a cluster.
#
#   bash cluster/install.sh .venv/bin/python          CPU: the lock, to the last version
#   bash cluster/install.sh .venv/bin/python gpu      GPU: requirements-gpu.lock, each file checked by its hash
#
# The locks are complete, so pip resolves nothing (--no-deps). torch goes first, because its CPU build has an index of
# its own: name that index in TORCH_INDEX and torch is taken from there; without it the plain install is tried.
set -euo pipefail

python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
torch=2.13.0
pip=("$python" -m pip install --disable-pip-version-check --quiet --quiet --no-deps)

"$python" - <<'EOF' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"STEER needs Python 3.11 or later, this is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11")
EOF

remedy() {
    echo "cluster/install.sh: $1" >&2
    echo "  Name the PyTorch CPU wheel index (the 'CPU' choice on PyTorch's install page) and run again:" >&2
    echo "    make setup TORCH_INDEX=<PyTorch CPU wheel index>" >&2
    exit 1
}

installed() { "$python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true; }

if [[ ${2:-cpu} == gpu ]]; then
    "$python" - <<'EOF' || exit 1
import platform, sys
if sys.version_info[:2] != (3, 11) or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
    sys.exit(
        f"requirements-gpu.lock is for Python 3.11 on Linux x86_64; this is Python {platform.python_version()} on "
        f"{platform.system()} {platform.machine()}: name a python3.11 there"
    )
EOF
    echo "installing requirements-gpu.lock (about 10 GB with CUDA's libraries) ..."
    "${pip[@]}" --only-binary :all: --require-hashes -r "$root/requirements-gpu.lock"
    "${pip[@]}" --no-build-isolation --editable "$root"
    "$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
    exit
fi

if [[ $(installed) != "$torch"* ]]; then
    echo "installing torch $torch ..."
    if [[ -n ${TORCH_INDEX:-} ]]; then
        "${pip[@]}" --index-url "$TORCH_INDEX" "torch==$torch" || remedy "no torch $torch at TORCH_INDEX=$TORCH_INDEX"
    else
        "${pip[@]}" "torch==$torch" || remedy "torch $torch was not found"
    fi
fi

echo "installing requirements.lock ..."
"${pip[@]}" -r "$root/requirements.lock"
"${pip[@]}" --no-build-isolation --editable "$root"

# A plain install may have brought the CUDA build: it works on CPU too, once its CUDA libraries are there (3 GB more).
if ! "$python" -c 'import torch' 2>/dev/null; then
    case $(installed) in
        *+cpu) remedy "torch $torch does not import: $("$python" -c 'import torch' 2>&1 | tail -1)" ;;
        *)
            echo "torch $(installed) is a CUDA build: fetching its libraries too (TORCH_INDEX would have saved 3 GB) ..."
            "$python" -m pip install --disable-pip-version-check --quiet "torch==$torch" ||
                remedy "the CUDA libraries of torch $torch were not found"
            ;;
    esac
fi
"$python" -c 'import torch; print("torch", torch.__version__)'
