"""Open the file system of a path or URL, write files whole, and say why a file cannot be written.

Invariant: a reader sees a file that `written_whole` or `write_whole` writes either whole or not at all.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from fsspec import AbstractFileSystem
from pyarrow import fs

OBJECT_STORES = ("s3", "gcs", "abfs")
"""Pyarrow's names of file systems whose files appear whole when their writer closes them, and in which a rename is a
copy and a deletion."""

REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have the quota raised",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.ENOTDIR: "move away the file that stands where a folder should be",
    errno.EISDIR: "move away the folder that stands where a file should be",
    errno.EIO: "see to the disk",
    errno.ESTALE: "mount it again",
    errno.ENOENT: "give a folder that can be made",
}
"""What a person can do about an error, by its number."""
_MEND = "mend that"
"""Remedy for any other error."""


class OutputFailed(Exception):
    """A file of a run folder cannot be written, or the folder cannot be listed at the start. `root`: the run folder."""

    def __init__(self, path: str, root: str, reason: str, remedy: str):
        super().__init__(path, root, reason, remedy)  # Pickle rebuilds the exception from these arguments.
        self.path, self.root, self.reason, self.remedy = path, root, reason, remedy

    @classmethod
    def of(cls, error: OSError, path: str, root: str) -> "OutputFailed":
        number = error.errno or 0
        reason = os.strerror(number) if number else " ".join(str(error).split()) or type(error).__name__
        return cls(path, root, reason, REMEDIES.get(number, _MEND))

    def __str__(self) -> str:
        return f"{self.path} cannot be written: {self.reason}; {self.remedy}"


@contextmanager
def writing(path: str, root: str) -> Iterator[None]:
    """Turn an OSError of the block into an OutputFailed with the file and the run folder."""
    try:
        yield
    except OSError as error:
        raise OutputFailed.of(error, path, root) from error


@contextmanager
def written_whole(files: fs.FileSystem, path: str, hidden: str | None = None) -> Iterator[str]:
    """Yield a hidden name, to which the block writes the file. The file is renamed to `path` when the block ends, and
    deleted if the block fails.

    `hidden`: a name in the same folder. None: the file's name with a dot in front.
    """
    folder, _, name = path.rpartition("/")
    hidden = hidden or f"{folder}/.{name}"
    try:
        files.create_dir(folder, recursive=True)
        yield hidden
        files.move(hidden, path)
    except BaseException:
        with suppress(OSError):
            files.delete_file(hidden)
        raise


def write_whole(files: fs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    """Write a file whole: under a hidden name, or on an object store in one request under its own."""
    if is_object_store(files):
        with files.open_output_stream(path) as file:
            file.write(data)
        return
    with written_whole(files, path) as hidden, files.open_output_stream(hidden) as file:
        file.write(data)


def is_object_store(files: fs.FileSystem) -> bool:
    return files.type_name in OBJECT_STORES


def open_filesystem(root: str | Path) -> tuple[fs.FileSystem, str, str]:
    """(file system, path in it, the root as an absolute path or URL).

    Pyarrow's own file systems (file, s3, gs, abfs, hdfs) are tried first: they are compiled, and the journal can append
    to the local one. Raises ValueError, with the remedy, for a URL that neither pyarrow nor fsspec can open.
    """
    uri = str(root)
    if "://" not in uri:
        absolute = str(Path(uri).absolute())
        return fs.LocalFileSystem(), absolute, absolute
    try:
        return *fs.FileSystem.from_uri(_in_one_request(uri)), uri
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unknown:
        files, path = _from_fsspec(uri, unknown)
        return fs.PyFileSystem(fs.FSSpecHandler(files)), path, uri


def _in_one_request(uri: str) -> str:
    """The URL of an S3 bucket with the option that a small file is written by one request, not by three."""
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _from_fsspec(uri: str, unknown: Exception) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = uri.split("://", 1)[0]
    try:
        # No cache of listings, because other processes write to the same folder.
        files, path = url_to_fs(uri, use_listings_cache=False)
        return files, path
    except ImportError as missing:
        remedy = known_implementations.get(scheme, {}).get("err") or str(missing)
        raise ValueError(f"{uri}: {remedy.rstrip('.')}, on every node of the cluster") from missing
    except ValueError as error:
        if scheme in known_implementations:
            raise ValueError(f"{uri}: {error}") from error
        raise ValueError(
            f"{uri}: neither pyarrow ({unknown}) nor fsspec knows {scheme}://. Install, on every node of the cluster, "
            f"the package that adds {scheme} to fsspec, or give a path or a URL of file, s3, gs, abfs or hdfs"
        ) from error
