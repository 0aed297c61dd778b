"""The files of a source: a path, a URL, a folder, a glob, or several of them.

Invariants: files come sorted within a source. A file keeps the file system of its source, so that it can be opened on
any machine that has it. Folders named `key=value` (hive partitions) below the source are columns of the files in them.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from os.path import commonprefix
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from steer.storage.filesystem import open_filesystem

FORMATS = "json, jsonl, csv (each also .gz) or parquet"
KINDS = (".json", ".jsonl", ".csv", ".parquet")
MAX_FILES_SHOWN = 3
MAX_REASON_CHARS = 300
"""How much of what a store's client says is passed on: some list every place that they looked at."""
_MAGIC = re.compile(r"[*?\[]")
_ABOUT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that `datasets` writes beside the data."""
_HIDDEN = (".", "_")
"""How names begin that are none of the data, by the customs of Spark, macOS and the hub."""
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class DataFile:
    root: str
    """The absolute path or URL from which the file was found: it opens the file system."""
    path: str
    """The path in that file system."""
    label: str
    """The path below the source, or the file's name: the same on every machine, and no other file's of the sources."""
    folders: tuple[str, ...] = ()
    """The folders above it whose names may be columns: those below the source, and the `key=value` ones directly above
    a file that is named. Folders further up are where the data happens to lie."""

    def __str__(self) -> str:
        if self.is_local or _is_web(self.root):
            return self.path
        scheme, _, rest = self.root.partition("://")
        parts = urlsplit(self.root)
        if parts.path.strip("/") and self.path.startswith(parts.path):
            return f"{scheme}://{parts.netloc}{self.path}"
        return self.root if rest.endswith(self.path.lstrip("/")) else f"{scheme}://{self.path.lstrip('/')}"

    @property
    def is_local(self) -> bool:
        """Whether other machines may lack the file."""
        return is_local([self.root])

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.path).path if _is_web(self.root) else self.path).name

    @property
    def zipped(self) -> bool:
        return self.name.lower().endswith(".gz")

    @property
    def kind(self) -> str:
        """The format by the file's name: `.json`, `.jsonl`, `.csv` or `.parquet`; empty for any other file."""
        suffixes = [suffix.lower() for suffix in PurePosixPath(self.name).suffixes]
        last = (suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:]
        named = {".ndjson": ".jsonl"}.get(last[0], last[0]) if last else ""
        return named if named in KINDS and not (named == ".parquet" and self.zipped) else ""

    @cached_property
    def partitions(self) -> dict[str, str | None]:
        """Columns from the names of the folders above: `{"grader": "math"}` for `.../grader=math/part-0.parquet`."""
        named = (folder.partition("=") for folder in self.folders)
        pairs = ((unquote(key), unquote(value)) for key, equals, value in named if equals and key and value)
        return {key: None if value == _NULL_PARTITION else value for key, value in pairs}

    def open(self) -> BinaryIO:
        """The file's bytes, as they lie there. Raises ValueError if the file cannot be opened."""
        if "://" not in self.root:
            return open(self.path, "rb")
        if _is_web(self.root):
            # Servers may neither tell a file's length nor let one seek in it.
            return io.BytesIO(self._stream().read())
        return io.BufferedReader(self._stream())

    def open_seekable(self) -> Any:
        """The same for a reader that jumps: a path, or an open file."""
        if "://" not in self.root:
            return self.path
        if _is_web(self.root):
            return self.open()
        return self._opened(lambda files: files.open_input_file(self.path))

    def _stream(self) -> Any:
        return self._opened(lambda files: files.open_input_stream(self.path, compression=None))

    def _opened(self, opening: Any) -> Any:
        try:
            return opening(_file_system(self.root)[0])
        except ValueError:
            raise
        except Exception as error:  # Each store's client has exceptions of its own.
            raise _unreachable(str(self), error) from error

    def beside(self, name: str) -> "DataFile":
        """The file of that name in the same folder."""
        above, _, _ = self.label.rpartition("/")
        if _is_web(self.root):
            url = f"{self.root.rpartition('/')[0]}/{name}"
            return DataFile(url, url, name, self.folders)
        path = str(PurePosixPath(self.path).with_name(name))
        root = self.root
        if not self.is_local and root.endswith(self.path.lstrip("/")):
            root = f"{root.rpartition('/')[0]}/{name}"
        return DataFile(root, path, f"{above}/{name}".lstrip("/"), self.folders)


def several(source: str | Sequence[str]) -> tuple[str, ...]:
    """The sources of a configuration, which may name one alone."""
    return (source,) if isinstance(source, str) else tuple(source)


def is_local(sources: Sequence[str]) -> bool:
    """Whether other machines may lack one of the sources."""
    return any("://" not in source or source.startswith("file://") for source in sources)


def shown(names: Sequence[object]) -> str:
    """Names in a message: the first three, and how many more there are."""
    more = len(names) - MAX_FILES_SHOWN
    return ", ".join(map(str, names[:MAX_FILES_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _all(files: list[DataFile]) -> list[DataFile]:
    return files


def data_files(
    source: str | Path | Sequence[str | Path],
    *preferred: str,
    choose: Callable[[list[DataFile]], list[DataFile]] = _all,
) -> list[DataFile]:
    """The data files of one or several sources, sorted within each; a file that is named is taken whatever it is.

    A source is a path or a URL: of a file, of a folder with files anywhere below it, or with `*`, `?`, `[...]` or `**`
    in it; a folder that matches stands for its files. Of the files of a folder that is a source, only those whose path
    contains a word of `preferred` are returned, if there are any, and of these only what `choose` leaves. Raises
    ValueError for a source without a data file, and for one that cannot be reached.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    found = [file for one in sources for file in _found(str(one), preferred, choose)]
    return _told_apart(
        list({(file.root.partition("://")[0] * ("://" in file.root), file.path): file for file in found}.values())
    )


def _told_apart(files: list[DataFile]) -> list[DataFile]:
    """The files with distinct labels: if two are equal, the paths below the deepest folder that holds all files."""
    if len({file.label for file in files}) == len(files):
        return files
    # A web address may end with a key that nobody else should see.
    paths = [(urlsplit(str(file)).path if _is_web(file.root) else str(file)).split("/") for file in files]
    shared = len(commonprefix([path[:-1] for path in paths]))
    labels = ["/".join(path[shared:]).lstrip("/") for path in paths]
    seen: Counter[str] = Counter()
    apart = []
    for file, label in zip(files, labels, strict=True):
        seen[label] += 1
        apart.append(replace(file, label=label if seen[label] == 1 else f"{label} ({seen[label]})"))
    return apart


def _found(source: str, preferred: Sequence[str], choose: Callable[[list[DataFile]], list[DataFile]]) -> list[DataFile]:
    if _is_web(source):
        path = urlsplit(source).path
        if set("*[") & set(path):
            raise ValueError(f"benchmark source: {source}: a web address names one file: list the address of each")
        return [DataFile(source, source, PurePosixPath(path).name, _partitions_above(path))]
    base, pattern = _split_at_magic(source)
    files, path, root = _file_system(base)
    try:
        (info,) = files.get_file_info([path])
        if info.type == fs.FileType.NotFound and (pattern or not _is_prefix(files, path)):
            remedy = f"give a {FORMATS} file, a folder of them or a pattern such as data/*.jsonl, or source: hub"
            raise ValueError(f"benchmark source: there is no {source}: {remedy} for a public benchmark")
        if not pattern and info.type == fs.FileType.File:
            return [DataFile(root, path, PurePosixPath(path).name, _partitions_above(path))]
        # A pattern of one part asks for the folder itself, which may lie above many others.
        deep = len(pattern) != 1 or pattern == ("**",)
        listed = files.get_file_info(fs.FileSelector(path, recursive=deep))
        for entry in [] if deep else list(listed):
            if entry.type == fs.FileType.Directory and _matches([entry.base_name], pattern):
                listed += files.get_file_info(fs.FileSelector(entry.path, recursive=True))
    except ValueError:
        raise
    except Exception as error:  # Each store's client has exceptions of its own.
        raise _unreachable(source, error) from error
    above = path.rstrip("/") + "/"
    inside = sorted(
        entry.path[len(above) :] if entry.path.startswith(above) else entry.path.lstrip("/")
        for entry in listed
        if entry.type == fs.FileType.File
    )
    wanted = [name for name in inside if (_matches(name.split("/"), pattern) if pattern else not _is_hidden(name))]
    data = [DataFile(root, above + name, name, _folders(above + name, name, bool(pattern))) for name in wanted]
    data = [file for file in data if file.kind]
    if not data:
        what = f"no {FORMATS} file matches {source}" if pattern else f"folder {source} has no {FORMATS} file"
        raise ValueError(f"benchmark source: {what}")
    liked = [file for file in data if any(word in file.label.lower() for word in preferred)]
    return data if pattern else choose(liked or data)


def _folders(path: str, below: str, is_named: bool) -> tuple[str, ...]:
    """The folders of a file that may be columns. `below`: its path below the source; `is_named`: by a pattern."""
    inside = tuple(below.split("/")[:-1])
    return max(inside, _partitions_above(path) if is_named else (), key=len)


def _partitions_above(path: str) -> tuple[str, ...]:
    """The folders named `key=value` directly above a file."""
    parts = PurePosixPath(path).parts[:-1]
    first = len(parts)
    while first and "=" in parts[first - 1]:
        first -= 1
    return parts[first:]


def _file_system(root: str) -> tuple[fs.FileSystem, str, str]:
    try:
        return open_filesystem(root)
    except OSError as error:
        raise _unreachable(root, error) from error


def _unreachable(source: str, error: Exception) -> ValueError:
    reason = shorten(str(error), MAX_REASON_CHARS, placeholder=" ...") or "no reason given"
    return ValueError(f"{source} cannot be read ({type(error).__name__}: {reason}): check the address and its access")


def _is_web(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _is_prefix(files: fs.FileSystem, path: str) -> bool:
    """Whether files lie below a path that a store does not know as a folder."""
    return bool(files.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True)))


def _is_hidden(label: str) -> bool:
    """Whether a file below a folder is none of its data."""
    parts = label.split("/")
    return any(part.startswith(_HIDDEN) for part in parts) or parts[-1] in _ABOUT_DATA


def _split_at_magic(source: str) -> tuple[str, tuple[str, ...]]:
    """(the folder before the first part with a wildcard, that part and those after it); no parts without wildcard."""
    scheme, separator, rest = source.rpartition("://")
    if not _MAGIC.search(rest) or (not separator and Path(source).exists()):
        return source, ()
    parts = rest.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    base = "/".join(parts[:first]) or ("/" if rest.startswith("/") else "" if separator else ".")
    return f"{scheme}{separator}{base}", tuple(filter(None, parts[first:]))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a file, or a folder around it, matches. As in a shell, a wildcard matches no hidden name: only a pattern
    that begins with the same `.` or `_` does."""
    if not pattern:
        return not parts or not _is_hidden("/".join(parts))
    if pattern[0] == "**":
        return any(
            not _is_hidden("/".join(parts[:skipped])) and _matches(parts[skipped:], pattern[1:])
            for skipped in range(len(parts) + 1)
        )
    if not parts or not fnmatchcase(parts[0], pattern[0]):
        return False
    named = pattern[0][0] == parts[0][0] if parts[0].startswith(_HIDDEN) else True
    about = parts[0] in _ABOUT_DATA and len(parts) == 1 and pattern[0] != parts[0]
    return named and not about and _matches(parts[1:], pattern[1:])
