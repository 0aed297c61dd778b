"""Where a run's folder lies: a path of this machine, or a URL that pyarrow or fsspec knows."""

from pathlib import Path

import pyarrow as pa
from pyarrow import fs


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
