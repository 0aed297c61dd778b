"""Live traces on the run's folder, so that a dead router, driver or cluster loses no step that was answered.

    RUN/journal/<cell>/bank                the cell's score bank, as it was when a group's log was last cut
    RUN/journal/<cell>/<group>/000001...   the group's log: records of what happened to it (`steer.history`)

Invariants: a round is in the log before its rows go out and before its traces are handed on; a record counts only if it
is whole, its checksum holds and it follows the one before it: what comes after a torn or damaged record is ignored; a
log is cut when it has outgrown the state that it leads to, so that it is bounded by the live traces. Where files cannot
be appended to (object stores), every write is a file of its own.
"""

import os
import pickle
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from steer.mixture.bank import ScoreBank
from steer.routing.replay import GroupSnapshot, LoggedRound, dump, load
from steer.storage.filesystem import open_filesystem, writing
from steer.traces import Question

CUT_BYTES = 4 * 2**20
"""A log shorter than this is never cut..."""
CUT_GROWTH = 2
"""...and a longer one when it has grown to so many times the state it began with: writing states then costs no more
than writing the log."""
SYNC_S = 1.0
"""A file is synced to its disk so often: killed processes lose nothing, a machine without power this much. In every
round it would take longer (0.6 ms) than all else of the journal."""
CUT_FILES = 200
"""...or to so many files, where each write is one."""

_HEADER = struct.Struct("<2scQIII")
"""Magic, kind, number, bytes before and after compression, checksum (CRC-32) of what precedes it and the payload."""
_MAGIC = b"SJ"
_SNAPSHOT, _ROUND, _BANK = b"M", b"C", b"B"


class LogRecord(NamedTuple):
    kind: bytes
    number: int
    payload: bytes


def encode(record: LogRecord) -> bytes:
    packed = pa.compress(record.payload, codec="zstd", asbytes=True)
    sizes = (_MAGIC, record.kind, record.number, len(record.payload), len(packed))
    checksum = zlib.crc32(packed, zlib.crc32(repr(sizes).encode()))
    return _HEADER.pack(*sizes, checksum) + packed


def decode(data: bytes) -> Iterator[LogRecord]:
    """The records of a file up to the first that is torn or damaged."""
    at = 0
    while at + _HEADER.size <= len(data):
        *sizes, checksum = _HEADER.unpack_from(data, at)
        magic, kind, number, raw, length = sizes
        packed = data[at + _HEADER.size : at + _HEADER.size + length]
        if magic != _MAGIC or len(packed) < length:
            return
        if zlib.crc32(packed, zlib.crc32(repr(tuple(sizes)).encode())) != checksum:
            return
        yield LogRecord(kind, number, pa.decompress(packed, raw, codec="zstd", asbytes=True))
        at += _HEADER.size + length


class Journal:
    """The journal of one run; `root` is `RUN/journal`, a path or URL."""

    def __init__(self, root: str):
        self._fs, self._root, url = open_filesystem(root)
        self._run = url.rpartition("/")[0]

    def open(self, cell: str) -> "CellJournal":
        """Read what there is of a cell."""
        return CellJournal(self._fs, f"{self._root}/{_name(cell)}", self._run)


class CellJournal:
    """The groups of one cell and the bank they share."""

    def __init__(self, files: fs.FileSystem, path: str, run: str):
        """`run`: path or URL of the run's folder, for what is said where the journal cannot be written."""
        self._fs, self._path, self._run = files, path, run
        self._saving = threading.Lock()
        self.bank = self._read_bank()
        self._logs: dict[str, tuple[bytes, list[LoggedRound]]] = {}
        """By group's folder: the state that its log begins with, and what came after."""
        for folder in _folders(files, path):
            records = list(_records(files, f"{path}/{folder}"))
            if records:
                with self._readable():
                    logged_rounds = [pickle.loads(record.payload) for record in records[1:]]
                self._logs[folder] = records[0].payload, logged_rounds
        self.bank.repeat(
            [
                a
                for _, logged_rounds in self._logs.values()
                for logged_round in logged_rounds
                for a in logged_round.additions
            ]
        )

    def recover(self, group: str, questions: Mapping[str, Question]) -> GroupSnapshot | None:
        """The last state of a group in the log, whose records are let go; None where the journal has no such group.

        `questions` by trace id. Raises ValueError, with the remedy, if another version of STEER wrote the log."""
        if _name(group) not in self._logs:
            return None
        beginning, logged_rounds = self._logs.pop(_name(group))
        with self._readable():
            snapshot: GroupSnapshot = load(beginning, questions, self.bank)
            for logged_round in logged_rounds:
                snapshot.replay(logged_round)
            policy = next(
                (logged_round.policy for logged_round in reversed(logged_rounds) if logged_round.policy), None
            )
            if policy is not None:
                snapshot.group.policy = load(policy, {}, self.bank)
        return snapshot

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, ImportError, TypeError, LookupError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{self._path}: the journal cannot be read ({type(error).__name__}: {error}): another version of STEER "
                "wrote it. Resume with that one, or remove the journal/ folder: finished questions are kept, "
                "the others begin again"
            ) from error

    def log(self, group: str) -> "GroupLog":
        return GroupLog(self._fs, f"{self._path}/{_name(group)}", self)

    def writing(self) -> AbstractContextManager:
        return writing(f"{self._run}/journal", self._run)

    def save_bank(self) -> None:
        """Before a log that holds additions to the bank is cut or removed; groups do so in threads."""
        with self._saving, self.writing():
            data = encode(LogRecord(_BANK, 0, pickle.dumps(self.bank, protocol=5)))
            self._fs.create_dir(self._path, recursive=True)
            _write(self._fs, f"{self._path}/.bank", data)
            self._fs.move(f"{self._path}/.bank", f"{self._path}/bank")

    def _read_bank(self) -> ScoreBank:
        with suppress(FileNotFoundError):
            for record in decode(_read(self._fs, f"{self._path}/bank")):
                return pickle.loads(record.payload)
        return ScoreBank(noted=True)


class GroupLog:
    """Where one group's rounds are written. One writer at a time."""

    def __init__(self, files: fs.FileSystem, folder: str, cell: CellJournal):
        self._fs, self._folder, self._cell = files, folder, cell
        self._appends = isinstance(files, fs.LocalFileSystem)
        self._file: int | None = None
        self._number = 0
        """Of the next record."""
        self._written, self._snapshot_bytes = 0, 0
        self._synced = 0.0
        self._first, self._names = 1, []
        """Number of the first file of this log, and all its files."""
        self.bytes = 0
        """Written in all."""

    def begin(self, snapshot: GroupSnapshot) -> None:
        """Start the log anew, with the group's state. Raises OutputFailed."""
        with self._cell.writing():
            self._begin(snapshot)

    def _begin(self, snapshot: GroupSnapshot) -> None:
        self._fs.create_dir(self._folder, recursive=True)
        old, self._names = [info.path for info in _files(self._fs, self._folder)], []
        self._close()
        last = max((int(path.rsplit("/", 1)[1]) for path in old), default=0)
        self._first = last + 1
        self._cell.save_bank()
        data = encode(LogRecord(_SNAPSHOT, self._next(), dump(snapshot)))
        hidden = f"{self._folder}/.begun"
        _write(self._fs, hidden, data)
        path = self._new_name()
        self._fs.move(hidden, path)
        if self._appends:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        for path in old:
            self._fs.delete_file(path)
        self._written, self._snapshot_bytes = 0, len(data)
        self.bytes += len(data)

    def write(self, logged_round: LoggedRound) -> None:
        """Returns when the logged_round outlives this process. Raises OutputFailed."""
        data = encode(LogRecord(_ROUND, self._next(), pickle.dumps(logged_round, protocol=5)))
        with self._cell.writing():
            if self._file is None:
                _write(self._fs, self._new_name(), data)
            else:
                _write_all(self._file, data)
                if time.monotonic() - self._synced > SYNC_S:
                    os.fdatasync(self._file)
                    self._synced = time.monotonic()
        self._written += len(data)
        self.bytes += len(data)

    @property
    def overgrown(self) -> bool:
        """It is time for `begin` with the state as it is."""
        limit = max(CUT_BYTES, CUT_GROWTH * self._snapshot_bytes)
        return self._written > limit or len(self._names) > CUT_FILES

    def remove(self) -> None:
        """The group is over and committed."""
        self._cell.save_bank()
        self._close()
        self._fs.delete_dir(self._folder)

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _new_name(self) -> str:
        self._names.append(f"{self._folder}/{self._first + len(self._names):09d}")
        return self._names[-1]

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _records(files: fs.FileSystem, folder: str) -> Iterator[LogRecord]:
    """What can be used of a log: from the newest file that begins one, as far as numbers follow each other."""
    found: list[LogRecord] = []
    for info in _files(files, folder):
        for record in decode(_read(files, info.path)):
            if record.kind == _SNAPSHOT:
                found = [record]
            elif found and record.number == found[-1].number + 1:
                found.append(record)
    return iter(found)


def _name(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _folders(files: fs.FileSystem, path: str) -> list[str]:
    found = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)


def _files(files: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    found = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted((info for info in found if info.base_name.isdecimal()), key=lambda info: info.base_name)


def _read(files: fs.FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as file:
        return file.read()


def _write(files: fs.FileSystem, path: str, data: bytes) -> None:
    with files.open_output_stream(path) as file:
        file.write(data)


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
