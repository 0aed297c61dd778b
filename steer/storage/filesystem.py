"""Where a run's folder lies, a path of this machine or a URL that pyarrow or fsspec knows, and why it cannot be
written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

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
_MEND = "mend that"


class OutputFailed(Exception):
    """A file of a run's folder cannot be written (or, at the start, its folder not be looked into). `root`: that
    folder."""

    def __init__(self, path: str, root: str, reason: str, remedy: str):
        super().__init__(path, root, reason, remedy)  # what pickle rebuilds it from
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
    """What the file system refuses in the block is an OutputFailed that names the file and the run's folder."""
    try:
        yield
    except OSError as error:
        raise OutputFailed.of(error, path, root) from error


def open_filesystem(root: str | Path) -> tuple[fs.FileSystem, str, str]:
    """(file system, path in it, the root as an absolute path or URL).

    Pyarrow's own file systems come first (file, s3, gs, abfs, hdfs): they are compiled, and the only ones that append.
    Raises ValueError, with the remedy, for a URL that nobody here can open.
    """
    uri = str(root)
    if "://" not in uri:
        absolute = str(Path(uri).absolute())
        return fs.LocalFileSystem(), absolute, absolute
    try:
        return *fs.FileSystem.from_uri(uri), uri
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unknown:
        files, path = _from_fsspec(uri, unknown)
        return fs.PyFileSystem(fs.FSSpecHandler(files)), path, uri


def _from_fsspec(uri: str, unknown: Exception):
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = uri.split("://", 1)[0]
    try:
        # Without its cache of listings: other processes write to the same folder.
        return url_to_fs(uri, use_listings_cache=False)
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
