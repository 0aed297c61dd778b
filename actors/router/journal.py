"""The journal: live traces in the run's folder, so that a dead router, driver or cluster loses no answered step.

    RUN/journal/<cell>/bank                the cell's score bank, as it was when a group's log was last cut
    RUN/journal/<cell>/<group>/000001...   the group's log: a snapshot and the rounds after it (`steer.routing.replay`)

Invariants: a round is in the log before its traces are handed on, and on a disk before its rows go out. A record counts
only if it is whole, its checksum is right and it follows the record before it; everything after a torn or damaged
record is ignored. What is read is plain data (`steer.routing.plain_pickle`): whoever can write to the folder can change
what a run answers, but not have its processes run code of his. A log is cut when it has outgrown the state that it
leads to, so its size is bounded by the live traces.

Object stores cannot append to a file. There the rounds of up to `HOLD_S` seconds make one file. A kill loses these
rounds: the rows that they sent out are asked again, with the same seeds, and nothing of them has left the router.
"""

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from steer.mixture.bank import ScoreBank
from steer.routing.replay import GroupSnapshot, LoggedRound, dump, dump_bank, load, load_bank, of_kind
from steer.storage.filesystem import open_filesystem, write_whole, writing
from steer.traces import Question

CUT_BYTES = 16 * 2**20
"""A log that has grown by less than this is not cut, unless it has more than `CUT_FILES` files."""
CUT_GROWTH = 4
"""A longer log is cut when it has grown by this many times its snapshot. At 2, and 4 MiB for a log of any
state, snapshots took a fifth of the router's CPU time at 25,000 live traces, and half of that at 4 and 16 MiB."""
CUT_FILES = 200
"""A log of more files than this is cut. It matters where a file cannot be appended to."""
SYNC_S = 1.0
"""Seconds between two syncs of a file to its disk. A killed process loses nothing; a machine that loses power loses
this much. A sync in every round would take longer (0.6 ms) than the rest of the journal."""

HOLD_S = 5.0
"""Seconds for which rounds are held where a file cannot be appended to: as long as finished traces wait for a commit. A
file a round would be the larger part of a run's requests."""

BANK_FILE = "bank"
"""Name of the score bank's file in the folder of a cell."""

_HEADER = struct.Struct("<2scQIII")
"""Magic, kind, number, bytes before and after compression, and the CRC-32 of these fields and the compressed
payload."""
_MAGIC = b"SJ"
_SNAPSHOT, _ROUND, _BANK = b"M", b"C", b"B"


class LogRecord(NamedTuple):
    """One record of a log: a snapshot, a round or a score bank."""

    kind: bytes
    number: int
    payload: bytes


def encode(record: LogRecord) -> bytes:
    packed = pa.compress(record.payload, codec="zstd", asbytes=True)
    sizes = (_MAGIC, record.kind, record.number, len(record.payload), len(packed))
    checksum = zlib.crc32(packed, zlib.crc32(repr(sizes).encode()))
    return _HEADER.pack(*sizes, checksum) + packed


def decode(data: bytes) -> Iterator[LogRecord]:
    """The records of a file, up to the first one that is torn or damaged."""
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
    """The journal of one run."""

    def __init__(self, root: str):
        """`root`: path or URL of `RUN/journal`."""
        self._fs, self._root, url = open_filesystem(root)
        self._run = url.rpartition("/")[0]

    def open(self, cell: str) -> "CellJournal":
        """Read the journal of a cell; a cell without one has an empty journal."""
        return CellJournal(self._fs, f"{self._root}/{folder_name(cell)}", self._run)


class CellJournal:
    """The logs of one cell's groups, and the score bank that the groups share."""

    def __init__(self, files: fs.FileSystem, path: str, run: str):
        """`run`: path or URL of the run's folder, for the error if the journal cannot be written."""
        self._fs, self._path, self._run = files, path, run
        self._saving = threading.Lock()
        self.bank = self._read_bank()
        self._logs: dict[str, tuple[bytes, list[LoggedRound]]] = {}
        """By folder of a group: the snapshot that its log begins with, and the rounds after it."""
        for folder in _folders(files, path):
            records = _records(files, f"{path}/{folder}")
            if records:
                with self._readable(folder):
                    logged_rounds = [_round(record) for record in records[1:]]
                self._logs[folder] = records[0].payload, logged_rounds
        rounds = [logged_round for _, logged_rounds in self._logs.values() for logged_round in logged_rounds]
        self.bank.repeat([addition for logged_round in rounds for addition in logged_round.additions])

    def recover(
        self, group: str, questions: Mapping[str, Question], classes: Sequence[type] = ()
    ) -> GroupSnapshot | None:
        """The last state of a group in its log, which is then dropped from memory. None: the journal has no such group.

        `questions` by trace id. `classes`: those of a user's policy. Raises ValueError, with the remedy, if another
        version of STEER wrote the log, or it holds what no log of this configuration does.
        """
        if folder_name(group) not in self._logs:
            return None
        first, logged_rounds = self._logs.pop(folder_name(group))
        with self._readable(folder_name(group)):
            snapshot = of_kind(GroupSnapshot, load(first, questions, self.bank, classes))
            snapshot.refuse_other_format()
            for logged_round in logged_rounds:
                snapshot.replay(logged_round)
            policies = [logged_round.policy for logged_round in logged_rounds if logged_round.policy]
            if policies:
                snapshot.group.policy = load(policies[-1], {}, self.bank, classes)
        return snapshot

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        """Turn whatever reading the file or folder of this name raises into a ValueError with the remedy."""
        try:
            yield
        except Exception as error:  # What is not as it was written can fail in any way.
            raise ValueError(
                f"{self._path}/{name}: the journal cannot be read ({type(error).__name__}: {error}): another version "
                "of STEER wrote it, or somebody has changed it. Resume with that version, or remove the journal/ "
                "folder: finished questions are kept, the others begin again"
            ) from error

    def log(self, group: str) -> "GroupLog":
        """The log of a group, to be written from its beginning."""
        return GroupLog(self._fs, f"{self._path}/{folder_name(group)}", self)

    def writing(self) -> AbstractContextManager[None]:
        """Turn an OSError of the block into OutputFailed."""
        return writing(f"{self._run}/journal", self._run)

    def save_bank(self) -> None:
        """Write the bank. Call this before a log that holds additions to it is cut or removed. Safe to call from
        several threads, since each group has its own. Raises OutputFailed."""
        with self._saving, self.writing():
            data = encode(LogRecord(_BANK, 0, dump_bank(self.bank)))
            write_whole(self._fs, f"{self._path}/{BANK_FILE}", data)

    def _read_bank(self) -> ScoreBank:
        with suppress(FileNotFoundError):
            for record in decode(_read(self._fs, f"{self._path}/{BANK_FILE}")):
                with self._readable(BANK_FILE):
                    return load_bank(record.payload)
        return ScoreBank(noted=True)


class GroupLog:
    """The log of one group. One writer at a time."""

    def __init__(self, files: fs.FileSystem, folder: str, cell: CellJournal):
        self._fs, self._folder, self._cell = files, folder, cell
        self._appends = isinstance(files, fs.LocalFileSystem)
        self._file: int | None = None
        self._held: list[bytes] = []
        """Rounds that are in no file yet."""
        self._held_since_s = 0.0
        self._number = 0
        """Number of the next record."""
        self._written, self._snapshot_bytes = 0, 0
        self._synced = 0.0
        self._first = 1
        """Number of the first file since the last cut."""
        self._names: list[str] = []
        """Paths of the files since the last cut."""

    def begin(self, snapshot: GroupSnapshot) -> None:
        """Cut the log: it starts again with the group's state. Raises OutputFailed."""
        with self._cell.writing():
            self._begin(snapshot)

    def _begin(self, snapshot: GroupSnapshot) -> None:
        old, self._names = [info.path for info in _files(self._fs, self._folder)], []
        self._close()
        last = max((int(path.rsplit("/", 1)[1]) for path in old), default=0)
        self._first = last + 1
        self._cell.save_bank()
        data = encode(LogRecord(_SNAPSHOT, self._next(), dump(snapshot)))
        path = self._new_name()
        write_whole(self._fs, path, data)
        self._held = []
        if self._appends:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        for path in old:
            self._fs.delete_file(path)
        self._written, self._snapshot_bytes = 0, len(data)

    def write(self, logged_round: LoggedRound) -> None:
        """Append a round. On a disk it outlives this process then; elsewhere after `flush`. Raises OutputFailed."""
        data = encode(LogRecord(_ROUND, self._next(), dump(logged_round)))
        with self._cell.writing():
            if self._file is None:
                self._held_since_s = self._held_since_s if self._held else time.monotonic()
                self._held.append(data)
                if self.due_s == 0:
                    self._flush()
            else:
                _write_all(self._file, data)
                if time.monotonic() - self._synced > SYNC_S:
                    os.fdatasync(self._file)
                    self._synced = time.monotonic()
        self._written += len(data)

    @property
    def hold_s(self) -> float:
        """Seconds for which a round is held at most."""
        return 0.0 if self._appends else HOLD_S

    @property
    def due_s(self) -> float | None:
        """Seconds until the held rounds are to be written. None: there are none."""
        return max(self._held_since_s + HOLD_S - time.monotonic(), 0.0) if self._held else None

    def flush(self) -> None:
        """Write the held rounds: call this before a trace that ended in them is handed on. Raises OutputFailed."""
        with self._cell.writing():
            self._flush()

    def _flush(self) -> None:
        if self._held:
            write_whole(self._fs, self._new_name(), b"".join(self._held))
            self._held = []

    @property
    def overgrown(self) -> bool:
        """Whether the log should be cut by `begin`, with the group's present state."""
        limit = max(CUT_BYTES, CUT_GROWTH * self._snapshot_bytes)
        return self._written > limit or len(self._names) > CUT_FILES

    def remove(self) -> None:
        """Delete the log of a group whose traces are all committed."""
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


def _round(record: LogRecord) -> LoggedRound:
    return of_kind(LoggedRound, load(record.payload, {}, None))


def _records(files: fs.FileSystem, folder: str) -> list[LogRecord]:
    """The usable records of a log: the newest snapshot, and the rounds after it as long as their numbers follow."""
    found: list[LogRecord] = []
    for info in _files(files, folder):
        for record in decode(_read(files, info.path)):
            if record.kind == _SNAPSHOT:
                found = [record]
            elif found and record.number == found[-1].number + 1:
                found.append(record)
    return found


def folder_name(text: str) -> str:
    """The folder of a cell or a group, by its name."""
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


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
