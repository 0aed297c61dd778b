"""Where a model's weights are, how many there are, and by what a copy of them is known."""

import hashlib
import json
import math
from pathlib import Path

EMBEDDED_PREFIX = "embedded:"


EMBEDDED = ("small", "large", "prm", "judge")


OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
"""How the weights of a Gemma-3 checkpoint begin that the language model does not use."""


_SAMPLE_BYTES = 2**20


def model_folder(path: str) -> str:
    """The folder of `embedded:small` and the like; any other path or Hub id as it is."""
    if not path.startswith(EMBEDDED_PREFIX):
        return path
    from steer.embedded import weights_path

    name = path.removeprefix(EMBEDDED_PREFIX)
    if name not in EMBEDDED:
        known = ", ".join(EMBEDDED_PREFIX + each for each in EMBEDDED)
        raise ValueError(f"model path {path!r}: the embedded models are {known}")
    return str(weights_path(name))


def count_parameters(path: str) -> float:
    """Parameters of the checkpoint, from its safetensors headers; weights that are tied count once, Gemma-3's vision
    tower not at all.

    Quantised checkpoints pack several weights into one number: give `parameters:` for those. ValueError if there is no
    safetensors file.
    """
    folder = _weights_folder(path)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(folder / name for name in set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path} has no safetensors file to count the parameters of: give the model's `parameters:`")
    return float(sum(_file_parameters(file) for file in files))


def model_fingerprint(path: str) -> str:
    """A hash by which a probe knows the model it was trained on: the same for every copy of the same weights.

    Reads the start, the middle and the end of each file of weights: a second for any size. ValueError if there is none.
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
    folder = Path(model_folder(path))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=["*.safetensors*"], local_files_only=True))


def _file_parameters(file: Path) -> int:
    """Weights in one safetensors file, whose header is a length of 8 bytes and then JSON."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    skipped = ("__metadata__", *OTHER_PARTS)
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if not name.startswith(skipped))


SKYWORK_PRM = "Qwen2ForPrmModel"
"""Architecture of the Skywork-o1-Open-PRM checkpoints, which vLLM has no class for."""
