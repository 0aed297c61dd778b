"""`quota://PATH`: a folder of this machine that can be full or read-only, for any user, as root too.

A file `.quota` in one of the folders above says how: the bytes that fit below that folder, or `read-only`. It is read
at every write, so a test fills the disk in mid-run and frees it again. `install` makes the scheme known to every
process that has the folder on its PYTHONPATH, Ray's workers too.
"""

import errno
import os
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

SCHEME = "quota"
READ_ONLY = "read-only"


class QuotaFileSystem(LocalFileSystem):
    protocol = SCHEME

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix(f"{SCHEME}://"))

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            return super()._open(path, mode, **options)
        _require(path, 0)
        return _Bounded(path, open(path, mode))

    def mkdir(self, path, create_parents=True, **options):
        _require(path, 0)
        super().mkdir(path, create_parents, **options)


class _Bounded:
    """A file that is written, byte by byte counted before it is."""

    def __init__(self, path, file):
        self._path, self._file = path, file

    def write(self, data):
        _require(self._path, len(data))
        written = self._file.write(data)
        self._file.flush()
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


def _require(path: str, more: int) -> None:
    for folder in Path(path).parents:
        if (folder / ".quota").exists():
            rule = (folder / ".quota").read_text()
            break
    else:
        return
    if rule == READ_ONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != ".quota")
    if held + more > int(rule):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def install(folder: Path) -> None:
    """Put an installed package's entry point there, as fsspec looks for one; tests/ must be on PYTHONPATH too."""
    about = folder / "quota_filesystem-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quota-filesystem\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[fsspec.specs]\n{SCHEME} = {__name__}:QuotaFileSystem\n")
