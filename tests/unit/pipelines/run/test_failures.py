"""A run's folder on file systems of others, and on ones that are full or cannot be written."""

import pickle

import fsspec
import pytest
import ray
from graded_rows import graded
from quota_filesystem import READ_ONLY, SCHEME, QuotaFileSystem

from pipelines.cli import _report
from pipelines.run.failures import message_of
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.storage.filesystem import OutputFailed
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS

fsspec.register_implementation(SCHEME, QuotaFileSystem, clobber=True)


@pytest.fixture
def disk(tmp_path):
    """A disk with room; its quota can be written anew."""
    (tmp_path / ".quota").write_text(str(10**9))
    return tmp_path


@pytest.mark.parametrize("scheme", ["memory", SCHEME, "local"])
def test_a_run_lies_on_any_file_system_that_fsspec_knows(scheme, tmp_path):
    url = f"{scheme}://{tmp_path}/run"
    run = RunFolder.create(url, "run", {"seed": 1}, [1])
    assert run.root == url
    run.commit(graded("q2", "q0"))
    run.commit(graded("q1"))
    run.commit(graded("q2", "q0"))
    run.write_file("summary.json", b"[]")
    run.finish()
    again = pickle.loads(pickle.dumps(RunFolder.open(url)))
    assert again.read("traces", columns=["question_id"])["question_id"].to_pylist() == ["q0", "q1", "q2"]
    assert again.read_file("summary.json") == b"[]" and again.read_file("nothing") is None
    assert again.describe()["finished"] is not None
    files, path = fsspec.core.url_to_fs(url)
    assert [name for name in files.find(path) if "/." in name] == []
    with pytest.raises(FileExistsError, match="another run"):
        RunFolder.create(url, "run", {}, [0])
    again.remove()
    assert not files.exists(path)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("nobody://there/run", "on every node.* package that adds nobody"),
        ("oss://bucket/run", "Install ossfs.* on every node"),
    ],
)
def test_a_scheme_that_nobody_knows_is_refused_with_the_package_to_install(url, remedy):
    with pytest.raises(SettingsError, match=f"{url}: .*{remedy}"), refusals_as_settings_errors():
        RunFolder.refuse_used(url)


def test_a_file_in_the_way_is_said_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SettingsError, match="Not a directory.*choose another --out"), refusals_as_settings_errors():
            RunFolder.create(out, "run", {}, [0])


@pytest.mark.parametrize(("rule", "reason"), [("100", "No space left"), (READ_ONLY, "Read-only file system")])
def test_a_folder_that_cannot_be_made_leaves_nothing_and_is_named(rule, reason, disk):
    (disk / ".quota").write_text(rule)
    url = f"{SCHEME}://{disk}/run"
    with pytest.raises(SettingsError, match=f"{url}/run.json .*{reason}.* or choose another"):
        with refusals_as_settings_errors():
            RunFolder.create(url, "run", {}, [0])
    assert [path.name for path in disk.iterdir()] == [".quota"]


def test_a_disk_that_fills_up_leaves_what_is_committed_and_no_half_part(disk):
    url = f"{SCHEME}://{disk}/run"
    run = RunFolder.create(url, "run", {}, [0])
    run.commit(graded("q0"))
    for room in (10, 4000):  # not one part fits; the steps do, the traces do not
        held = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file() and path.name != ".quota")
        (disk / ".quota").write_text(str(held + room))
        with pytest.raises(OutputFailed, match="No space left on device; free space there"):
            run.commit(graded("q1", "q2"))
        with pytest.raises(OutputFailed, match="run.json"):
            run.update(cells=["x" * 5000])
        assert [path for path in disk.rglob(".*") if path.name != ".quota"] == []
        assert run.read("traces")["question_id"].to_pylist() == ["q0"]
        assert run.describe()["cells"] == []
        assert all(run.read(table) is not None for table in SCHEMAS)
    (disk / ".quota").write_text(str(10**9))
    run.commit(graded("q1", "q2"))
    assert run.read("traces")["question_id"].to_pylist() == ["q0", "q1", "q2"]


def test_a_node_that_does_not_see_the_run_s_folder_writes_no_rows_beside_it(tmp_path):
    elsewhere = RunFolder(tmp_path / "run")
    for write in (lambda: elsewhere.commit(graded("q0")), lambda: elsewhere.write_groups(iter(()), [])):
        with pytest.raises(OutputFailed, match="does not see its run.json; give --out a folder or URL that all nodes"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_the_cause_is_found_however_it_is_wrapped_and_said_alone(capsys):
    full = OutputFailed("/d/traces/p.parquet", "/d", "No space left on device", "free space there")
    try:
        try:
            wrapping = ray.exceptions.RayTaskError("write", "a trace", full).as_instanceof_cause()
            raise RuntimeError("of Ray Data") from wrapping
        except RuntimeError as error:
            raise ValueError("and more") from error
    except ValueError as wrapped:
        assert _report(wrapped) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for part in ("/d/traces/p.parquet", "No space left on device", "free space", "steer run --resume /d"):
        assert part in said
    assert message_of(PermissionError(13, "no", "/x")).startswith("/x: Permission denied; give this user the right")
    assert message_of(RuntimeError("a mistake of ours")) is None
