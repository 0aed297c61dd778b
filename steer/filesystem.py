"""Where a run's folder lies: a path of this machine, or a URL that pyarrow or fsspec knows."""

from pathlib import Path

from pyarrow import fs


def open_filesystem(root: str | Path) -> tuple[fs.FileSystem, str, str]:
    """(file system, path in it, the root as an absolute path or URL)."""
    uri = str(root)
    absolute = uri if "://" in uri else str(Path(uri).absolute())
    return *fs.FileSystem.from_uri(absolute), absolute
