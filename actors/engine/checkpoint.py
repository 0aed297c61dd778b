"""A model's checkpoint: its download, the folder of its weights, its parameter count, and a fingerprint of its
weights."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

EMBEDDED_PREFIX = "embedded:"
"""Prefix of the paths of models that ship with STEER."""
EMBEDDED = ("small", "large", "prm", "judge", "mixed/small", "mixed/large")
"""Names of these models."""
SKYWORK_PRM = "Qwen2ForPrmModel"
"""Architecture of the Skywork-o1-Open-PRM checkpoints. vLLM has no class for it; `models/skywork_prm.py` adds one."""
OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
"""Name prefixes of the weights in a Gemma-3 checkpoint that its language model does not use."""
CONVERTED = ("F64", "F32", "F16", "BF16")
"""Dtypes, as safetensors names them, of weights that an engine converts to its own dtype."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
"""Kinds of weights in vLLM's order of preference. It loads the first that a checkpoint has."""
BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
"""Configuration, tokenizer, chat template and the code of a model of its own."""
HUB_FORMATS = ("auto", "hf", "safetensors", "pt")
"""Values of vLLM's `load_format` with which it reads the files of a Hub repository."""

_REFUSED = "check the model's path; a gated model needs your access and HF_TOKEN on every node"
_UNREACHED = "see that the node reaches huggingface.co (HF_ENDPOINT: a mirror) and has room in HF_HOME"
"""Remedies for a download that the Hub refused, and for one that did not get there."""
_SAMPLE_BYTES = 2**20
"""Bytes that a fingerprint reads at each of three places in a file of weights."""


def model_folder(path: str) -> str:
    """The folder of an embedded model (`embedded:small`). Any other path or Hub id comes back unchanged.

    ValueError if no embedded model has that name.
    """
    if not path.startswith(EMBEDDED_PREFIX):
        return path
    from steer.embedded import weights_path

    name = path.removeprefix(EMBEDDED_PREFIX)
    if name not in EMBEDDED:
        known = ", ".join(EMBEDDED_PREFIX + each for each in EMBEDDED)
        raise ValueError(f"model path {path!r}: the embedded models are {known}")
    return str(weights_path(name))


class DownloadFailed(Exception):
    """The weights of a Hub id cannot be had. The message says why, and what to do."""


def on_hub(path: str) -> bool:
    """Whether a model's path is an id of the Hugging Face Hub. A folder on this machine is none."""
    folder = path.startswith((EMBEDDED_PREFIX, "/", ".", "~")) or path.count("/") > 1 or Path(path).exists()
    return not folder and "://" not in path


def download(path: str, engine: Mapping[str, Any]) -> None:
    """Have the files that vLLM will read of a Hub id in this machine's cache. Any other path is left alone, and so is a
    source of weights that `engine`, the model's `engine:` entry, names (`load_format`).

    Without a connection the files that were downloaded earlier do. Raises DownloadFailed.
    """
    if (
        not on_hub(path)
        or engine.get("load_format", "auto") not in HUB_FORMATS
        or os.environ.get("VLLM_USE_MODELSCOPE")
    ):
        return
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        return  # vLLM says what its cache lacks
    where = {"revision": engine.get("revision"), "token": engine.get("hf_token")}
    try:
        names = HfApi().list_repo_files(path, **where)
        snapshot_download(path, allow_patterns=needed_files(names), cache_dir=engine.get("download_dir"), **where)
    except Exception as failure:
        # A connection's errors are of classes of the client that the Hub's library is built on.
        try:
            snapshot_download(path, local_files_only=True, cache_dir=engine.get("download_dir"), **where)
        except Exception:
            answered = isinstance(failure, HfHubHTTPError | HFValidationError)
            raise DownloadFailed(f"{_first_line(failure)}; {_REFUSED if answered else _UNREACHED}") from failure


def needed_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files those that vLLM reads: not its subfolders, and of several kinds of weights the first."""
    top = [name for name in names if "/" not in name]
    kinds = ([name for name in top if fnmatch(name, kind)] for kind in WEIGHTS)
    beside = [name for name in top if any(fnmatch(name, kind) for kind in BESIDE_WEIGHTS)]
    return [*next((kind for kind in kinds if kind), []), *beside]


def _first_line(failure: Exception) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[0].rstrip(".")


def count_parameters(path: str) -> float:
    """Parameters of the checkpoint, from the headers of its safetensors files.

    Tied weights count once. Gemma-3's vision tower does not count. The count is wrong for a quantised checkpoint, which
    packs several weights into one number: set the model's `parameters:` there. ValueError if the checkpoint has no
    safetensors file.
    """
    return float(sum(math.prod(entry["shape"]) for file in _weight_files(path) for entry in _tensors(file)))


def weights_bytes(path: str, number_bytes: int) -> int:
    """Bytes of the checkpoint's weights in an engine, from the headers of its safetensors files.

    `number_bytes`: bytes of a number of the engine's dtype, to which floating-point weights are converted. Quantised
    weights keep their size. ValueError if the checkpoint has no safetensors file, OSError if it is not on this machine.
    """
    total = 0
    for file in _weight_files(path):
        for entry in _tensors(file):
            start, end = entry["data_offsets"]
            numbers = math.prod(entry["shape"])
            total += numbers * number_bytes if entry["dtype"] in CONVERTED else end - start
    return total


def model_fingerprint(path: str) -> str:
    """A hash of the weights, by which a probe knows the model that it was trained on. Copies have the same hash.

    Only the start, the middle and the end of each file of weights are read, so any size takes about a second.
    ValueError if the checkpoint has no file of weights.
    """
    folder = _weights_folder(path)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise ValueError(f"{path} has no file of weights to tell the model by")
    content = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        content.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                stream.seek(start)
                content.update(stream.read(_SAMPLE_BYTES))
    return content.hexdigest()[:16]


def _weights_folder(path: str) -> Path:
    """The folder on this machine. A Hub id must have been downloaded before."""
    folder = Path(model_folder(path))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=["*.safetensors*"], local_files_only=True))


def _weight_files(path: str) -> list[Path]:
    """The safetensors files of the checkpoint. ValueError if there is none."""
    folder = _weights_folder(path)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(folder / name for name in set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path} has no safetensors file to count the parameters of: give the model's `parameters:`")
    return files


def _tensors(file: Path) -> list[dict]:
    """Dtype, shape and place of each tensor in one safetensors file. Its header is 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    skipped = ("__metadata__", *OTHER_PARTS)
    return [entry for name, entry in header.items() if not name.startswith(skipped)]
