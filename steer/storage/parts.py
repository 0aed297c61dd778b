"""The parts of one table: small ones as they are committed, and merged ones that take their place.

A day of commits would leave tens of thousands of files. Merging writes the rows of several parts as one, under a hidden
name, renames it, and then deletes those parts. A merged part lists in its Parquet metadata the parts whose rows it has
(`REPLACES`). No file system replaces several files by one in a single step. So between the rename and the last deletion
both are there: for milliseconds or, after a kill, until `remove_replaced`.

Invariants: `paths` never names two parts with the same row, and leaves out no committed row, at any moment and after a
kill at any moment. A part is deleted only once a part that has its rows is in place, and on disk. So a reader of all
files may meet a row twice in that time, but misses none.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import PurePosixPath
from time import monotonic_ns

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from steer.storage.columns import RunValues, conformed
from steer.storage.filesystem import written_whole

MERGED = "merged-"
"""How the names of merged parts begin."""
EMPTY = "empty"
"""Name of the part that gives a table its columns before it has rows. It is never merged."""
REPLACES = b"steer.replaces"
SMALL_BYTES = 64 * 2**20
"""A part that is smaller may be merged."""
FULL_BYTES = 128 * 2**20
"""Small parts are merged as soon as they have this many bytes together. The result is at most `SMALL_BYTES` larger."""
MANY_PARTS = 256
"""Or as soon as there are this many, whatever their size: a slow run commits a few kB at a time. What comes out may be
small, and is then merged again with the next ones: for 64 MB at most, once in this many commits."""
ROW_GROUP_BYTES = 32 * 2**20
"""Rows in memory while parts are merged, and in a row group of what comes out."""
LISTINGS = 20
"""Times that a folder is listed before its parts are given up. Each time a part must have been merged meanwhile."""


def stem(path: str) -> str:
    return PurePosixPath(path).stem


class Parts:
    """The parts of one table. Any number of readers and committing processes, but only one that merges."""

    def __init__(self, files: fs.FileSystem, folder: str):
        self._fs, self._folder = files, folder
        self._known: dict[str, frozenset[str]] = {}
        """By name of a merged part: the names of the parts that it replaces. (Its own name follows from them.)"""

    def paths(self) -> list[str]:
        """Paths of the parts that hold the table's rows, each row once."""
        return sorted(self._live())

    def names(self) -> set[str]:
        """Names of all parts that were committed, also of those that are merged by now."""
        for _ in range(LISTINGS):
            found = self._listed()
            with suppress(FileNotFoundError):  # A merged part was merged again.
                return {stem(path) for path in found} | self._replaced(found)
        raise FileNotFoundError(f"{self._folder}: parts vanish as fast as they are listed")

    def replaced_by(self, path: str) -> frozenset[str]:
        """Names of the parts that a part replaces; none, unless it is a merged one."""
        name = stem(path)
        if not name.startswith(MERGED):
            return frozenset()
        if name not in self._known:
            with self._fs.open_input_file(path) as file:
                metadata = pq.read_metadata(file).metadata or {}
            self._known[name] = frozenset(json.loads(metadata.get(REPLACES, b"[]")))
        return self._known[name]

    def remove_replaced(self) -> None:
        """Delete the parts whose rows are in a merged one too: a process that merged was killed, or a commit was tried
        again after its part had been merged."""
        listed = self._listed()
        replaced = self._replaced(listed)
        for path in listed:
            if stem(path) in replaced:
                self._delete(path)

    def merge(
        self,
        schema: pa.Schema,
        values: RunValues,
        least: int = MANY_PARTS,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        """Merge small parts while they have `FULL_BYTES` together, or there are `least` of them.

        `values`: of the run's own columns. `only`: whether a part of this name may be merged. Raises OSError if the
        folder cannot be written.
        """
        self.remove_replaced()
        small = sorted((size, path) for path, size in self._live().items() if size < SMALL_BYTES)
        for size, batch in _batches((size, path) for size, path in small if self._may_merge(stem(path), only)):
            if len(batch) > 1 and (size >= FULL_BYTES or len(batch) >= least):
                self._merge(batch, schema, values)

    def remove_rows(self, schema: pa.Schema, values: RunValues, doomed: Callable[[pa.Table], pa.BooleanArray]) -> None:
        """Replace each part that has such rows by one without them, which may be empty: parts of other tables go by its
        name. Call this only while no other process writes. Raises OSError if the folder cannot be written."""
        for path in self.paths():
            with self._fs.open_input_file(path) as file:
                parquet = pq.ParquetFile(file)
                if not any(pc.any(doomed(rows)).as_py() for rows in tables_of(parquet, schema, values)):
                    continue
                metadata = (
                    {REPLACES: json.dumps(sorted(replaced)).encode()} if (replaced := self.replaced_by(path)) else {}
                )
                hidden = f"{self._folder}/.{stem(path)}.{monotonic_ns()}"
                with written_whole(self._fs, path, hidden):
                    with pq.ParquetWriter(hidden, schema, filesystem=self._fs, compression="zstd") as writer:
                        for rows in tables_of(parquet, schema, values):
                            writer.write_table(rows.filter(pc.invert(doomed(rows))))
                        writer.add_key_value_metadata(metadata)
                    self._sync(hidden)

    @staticmethod
    def _may_merge(name: str, only: Callable[[str], bool] | None) -> bool:
        return name != EMPTY and (only is None or name.startswith(MERGED) or only(name))

    def _merge(self, paths: Sequence[str], schema: pa.Schema, values: RunValues) -> None:
        replaced = sorted({stem(path) for path in paths} | self._replaced(paths))
        name = MERGED + blake2b("\0".join(replaced).encode(), digest_size=10).hexdigest()
        merged, hidden = f"{self._folder}/{name}.parquet", f"{self._folder}/.{name}.{monotonic_ns()}"
        with written_whole(self._fs, merged, hidden):
            with pq.ParquetWriter(hidden, schema, filesystem=self._fs, compression="zstd") as writer:
                for table in self._row_groups(paths, schema, values):
                    writer.write_table(table)
                writer.add_key_value_metadata({REPLACES: json.dumps(replaced).encode()})
            self._sync(hidden)
        self._sync(self._folder)
        for path in paths:
            self._delete(path)

    def _row_groups(self, paths: Iterable[str], schema: pa.Schema, values: RunValues) -> Iterator[pa.Table]:
        """The rows of the parts as tables of about `ROW_GROUP_BYTES`."""
        yield from joined(self._tables(paths, schema, values), ROW_GROUP_BYTES)

    def _tables(self, paths: Iterable[str], schema: pa.Schema, values: RunValues) -> Iterator[pa.Table]:
        for path in paths:
            with self._fs.open_input_file(path) as file:
                yield from tables_of(pq.ParquetFile(file), schema, values)

    def _replaced(self, paths: Iterable[str]) -> set[str]:
        """Names of all parts that one of these replaces."""
        return {name for path in paths for name in self.replaced_by(path)}

    def _sync(self, path: str) -> None:
        """Wait until a file or folder is on disk: a machine that loses power must not lose what was there for long.
        Object stores do so by themselves."""
        if isinstance(self._fs, fs.LocalFileSystem):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.delete_file(path)

    def _live(self) -> dict[str, int]:
        """Bytes of each part that no merged part replaces, by its path."""
        for _ in range(LISTINGS):
            before = self._listed()
            # A listing takes time. If a part was merged meanwhile, it may have neither that part nor those that it
            # replaces; the next listing has it.
            if any(stem(path).startswith(MERGED) for path in self._listed().keys() - before.keys()):
                continue
            with suppress(FileNotFoundError):  # A merged part was merged again.
                replaced = self._replaced(before)
                return {path: size for path, size in before.items() if stem(path) not in replaced}
        raise FileNotFoundError(f"{self._folder}: parts are merged as fast as they are listed")

    def _listed(self) -> dict[str, int]:
        """Bytes of every part, by its path."""
        found = self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return {info.path: info.size for info in found if info.path.endswith(".parquet") and info.base_name[0] != "."}


def joined(tables: Iterable[pa.Table], least_bytes: int) -> Iterator[pa.Table]:
    """The rows of small tables as tables of at least so many bytes, but for the last. None of them is empty."""
    held: list[pa.Table] = []
    size = 0
    for rows in tables:
        held.append(rows)
        size += rows.nbytes
        if size >= least_bytes:
            yield pa.concat_tables(held)
            held, size = [], 0
    if size:
        yield pa.concat_tables(held)


def tables_of(parquet: pq.ParquetFile, schema: pa.Schema, values: RunValues) -> Iterator[pa.Table]:
    """The rows of a part with today's columns, in pieces."""
    for batch in parquet.iter_batches():
        yield conformed(pa.Table.from_batches([batch]), schema, values)


def _batches(small: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """(bytes, paths) of successive parts, each with `FULL_BYTES` or a little more, but for the last."""
    held, size = [], 0
    for more, path in small:
        held.append(path)
        size += more
        if size >= FULL_BYTES:
            yield size, held
            held, size = [], 0
    if held:
        yield size, held
