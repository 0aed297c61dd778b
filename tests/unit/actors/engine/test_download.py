"""Which weights are downloaded before a model loads, and what is said if they cannot be had."""

import huggingface_hub
import pytest
from huggingface_hub import constants

from actors.engine.checkpoint import DownloadFailed, download, needed_files, on_hub


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the Hub. It has one repository, `org/model`, and whatever `cached` names is on this machine."""
    asked, cached = [], set()

    def listed(_, path, **where):
        if path != "org/model":
            raise ConnectionError("no route to the Hub")
        return ["config.json", "model.safetensors", "pytorch_model.bin", "original/model.safetensors"]

    def snapshot(path, local_files_only=False, **options):
        if local_files_only and path not in cached:
            raise FileNotFoundError(path)
        asked.append((path, local_files_only, options))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked, cached


def test_a_folder_is_no_id_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    ids = ["org/model", "model"]
    others = ["embedded:small", str(tmp_path), "./mine", "mine", "~/mine", "s3://bucket/model", "a/b/c"]
    assert [path for path in [*ids, *others] if on_hub(path)] == ids


def test_of_a_repository_that_is_taken_which_vllm_reads():
    names = ["README.md", "config.json", "tokenizer.model", "a.safetensors", "b.safetensors", "c.bin", "onnx/c.bin"]
    assert needed_files(names) == ["a.safetensors", "b.safetensors", "config.json", "tokenizer.model"]
    assert needed_files(["c.bin", "config.json", "original/a.safetensors"]) == ["c.bin", "config.json"]


def test_the_weights_go_where_vllm_looks_for_them(hub):
    download("org/model", {"revision": "v2", "download_dir": "/fast"})
    ((path, local, options),) = hub[0]
    assert (path, local, options["revision"], options["cache_dir"]) == ("org/model", False, "v2", "/fast")
    assert options["allow_patterns"] == ["model.safetensors", "config.json"]


def test_weights_from_elsewhere_are_left_to_vllm(hub, monkeypatch):
    download("org/model", {"load_format": "dummy"})
    download("embedded:small", {})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    download("org/model", {})
    assert hub[0] == []


def test_without_a_connection_an_earlier_download_does(hub):
    hub[1].add("org/other")
    download("org/other", {})
    assert [(path, local) for path, local, _ in hub[0]] == [("org/other", True)]


def test_a_download_that_fails_says_why_and_what_to_do(hub):
    with pytest.raises(DownloadFailed, match="no route to the Hub; see that the node reaches huggingface.co"):
        download("org/third", {})
