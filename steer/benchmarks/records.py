"""The rows of a json, jsonl, csv or parquet file, unchanged and one at a time.

Invariant: every row of the file is returned once, in order, either as a mapping or with the reason why it is not a
mapping. A file that cannot be read at all raises ValueError, which says what it is and the remedy.
"""

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steer.benchmarks.fields import described
from steer.benchmarks.files import FORMATS, DataFile

PARQUET_ROWS = 256
"""How many rows of a Parquet file are in memory at once."""
HEAD_BYTES = 64
"""How many bytes say what a file is."""
EXPLAINED_BYTES = 64 * 2**20
"""How much of a jsonl file without rows is read to say what it is."""
MAX_DIGITS = 1_000
"""Most digits with which a number of JSON is written out."""
MAX_CELL_CHARS = 2**27
"""Longest cell of a CSV file. Python's own limit is 131,072, and a cell may hold a whole document."""

_FOREIGN = (
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"\x1f\x8b", "gzip", "name it .gz, as in data.jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "decompress it (unzstd)"),
    (b"\xfd7zXZ\0", "xz", "decompress it (unxz)"),
    (b"\x04\x22\x4d\x18", "lz4", "decompress it (unlz4)"),
    (b"BZh91AY&SY", "bzip2", "decompress it (bunzip2)"),
    (b"PK\x03\x04", "a ZIP archive, as which Excel files are written, too", "unpack it, or save its sheet as CSV"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"SQLite format 3\0", "an SQLite data base", "export the table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer and not the data", "fetch it (git lfs pull)"),
    (b"<!doctype html", "an HTML page", "download the file itself"),
    (b"<html", "an HTML page", "download the file itself"),
    (b"\xff\xfe\0\0", "UTF-32 and not UTF-8", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 and not UTF-8", "save it as UTF-8"),
    (b"\xff\xfe", "UTF-16 and not UTF-8", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 and not UTF-8", "save it as UTF-8"),
)
"""(first bytes in small letters or not, what such a file is, the remedy)."""


@dataclass(frozen=True)
class Record:
    number: int
    """The number of the row, from 1; for jsonl, of the line in the file."""
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def read_records(file: DataFile) -> Iterator[Record]:
    """The rows of a file, each with the columns that the names of its folders give (see `DataFile.partitions`)."""
    if file.is_local and "://" not in file.root and not Path(file.path).is_file():
        raise ValueError(f"benchmark source: there is no file {file}: give the path of a {FORMATS} file")
    if not file.kind:
        raise ValueError(f"benchmark source: {file} is none of {FORMATS}: convert it or name it so")
    try:
        records, above = _READERS[file.kind](file), file.partitions
        if not above:
            yield from records
            return
        for record in records:
            yield Record(record.number, {**above, **record.values}) if not record.error else record
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is not a whole gzip file ({error}): compress it again") from None


def _open(file: DataFile) -> BinaryIO:
    """The file's bytes, decompressed. Raises ValueError, with what the file is, if it is no text in UTF-8."""
    stream = _peekable(file.open())
    head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    if file.zipped:
        if head and not head.startswith(b"\x1f\x8b"):
            what, remedy = _foreign(head) or ("no gzip file", "name it without .gz")
            raise ValueError(f"{file} is {what}: {remedy}")
        stream = gzip.open(stream)  # type: ignore[assignment]
        head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    if foreign := _foreign(head):
        raise ValueError(f"{file} is {foreign[0]}: {foreign[1]}")
    return stream


def _peekable(stream: Any) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


def _foreign(head: bytes) -> tuple[str, str] | None:
    """(what a file is that begins so, the remedy); None: it may be text."""
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic) or head.lower().startswith(magic):
            return what, remedy
    # No row begins with a NUL, and an ASCII character with a NUL beside it is UTF-16 without a byte order mark.
    if b"\0" in head[:2]:
        return "UTF-16 and not UTF-8", "save it as UTF-8"
    return None


def _mapping(number: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(number, value)
    return Record(number, error=f"is {described(value)}, not an object with named fields")


def _parsed(text: str) -> Any:
    # Deep nesting raises RecursionError. A very long integer raises a plain ValueError.
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(written: str) -> float | Decimal | str:
    """A number of JSON with a point or an exponent. One that a double cannot hold is not infinite or 0 thereby; with
    more digits than anyone would write it stays text."""
    number = float(written)
    if math.isfinite(number) and (number or not _NONZERO.match(written)):
        return number
    exact = Decimal(written)
    return exact if abs(exact.adjusted()) <= MAX_DIGITS else written


_NONZERO = re.compile(r"[-0.]*[1-9]")
_DECODER = json.JSONDecoder(parse_float=_number)


def _json(file: DataFile) -> Iterator[Record]:
    with _open(file) as stream:
        text = stream.read().decode("utf-8-sig")
    if not text.strip():
        raise ValueError(f"{file} is empty")
    try:
        values = _parsed(text)
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}): one row a line is .jsonl") from None
    if not isinstance(values, list):
        raise ValueError(f"{file} holds {described(values)}: it must hold a list of objects, or be .jsonl")
    for number, value in enumerate(values, start=1):
        yield _mapping(number, value)


def _jsonl(file: DataFile) -> Iterator[Record]:
    with _open(file) as stream:
        # A row may follow its first line with empty ones: the second line that holds something shows what the file is.
        begun: list[tuple[int, bytes]] = []
        for number, line in enumerate(stream, start=1):
            if line.isspace() or (number == 1 and not line.removeprefix(codecs.BOM_UTF8).strip()):
                continue
            if len(begun) < 2:
                begun.append((number, line))
                if len(begun) == 2:
                    _refuse_json(file, begun)
                    yield from (_line(*one) for one in begun)
                continue
            yield _line(number, line)
        if len(begun) == 1:
            _refuse_json(file, begun)
            yield _line(*begun[0])


def _refuse_json(file: DataFile, begun: Sequence[tuple[int, bytes]]) -> None:
    """Raise ValueError if a file named .jsonl holds one list, or objects over several lines. `begun`: its first lines
    that hold something, with their numbers."""
    number, first = begun[0]
    records = [_line(*one) for one in begun]
    opening = first.removeprefix(codecs.BOM_UTF8).strip()[:1]
    if opening not in (b"[", b"{") or not all(record.error for record in records):
        return
    named = f"{file} line {number} is no row of its own"
    with _open(file) as stream:
        data = stream.read(EXPLAINED_BYTES)
        cut = bool(stream.read(1))
    if cut and first.strip() == b"[":
        raise ValueError(f"{named}: the file holds one JSON list: name it .json, or write one row a line")
    text = data.decode("utf-8-sig", "ignore" if cut else "strict")
    try:
        values = _parsed(text)
    except ValueError as error:
        value, lines = _first_value(text)
        if first.strip() == b"{" or (isinstance(value, dict) and lines > 1):
            remedy = "write each object in one line, or a list of them as .json"
            raise ValueError(f"{named}: the objects are indented, or lie over several lines: {remedy}") from None
        if opening == b"[" and value is None and (first.strip() == b"[" or text.rstrip().endswith("]")):
            raise ValueError(
                f"{named}: the file holds one JSON list, which is not valid JSON ({error}): mend it and name it .json"
            ) from None
        return
    if isinstance(values, list) and (len(begun) > 1 or any(isinstance(value, dict) for value in values)):
        raise ValueError(f"{named}: the file holds one JSON list: name it .json, or write one row a line")
    if isinstance(values, dict):
        raise ValueError(f"{named} and not valid JSON: the file holds one indented object: write it in one line")


def _first_value(text: str) -> tuple[Any, int]:
    """The value with which a text begins, and over how many lines it lies; (None, 0) if it is not valid JSON."""
    text = text.lstrip("\ufeff\r\n\t ")
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    return value, text.count("\n", 0, end) + 1


def _line(number: int, line: bytes) -> Record:
    try:
        return _mapping(number, _parsed(line.decode("utf-8-sig" if number == 1 else "utf-8")))
    except UnicodeDecodeError as error:
        return Record(number, error=f"is not UTF-8 (byte {error.start} of the line)")
    except ValueError as error:
        if line.rstrip().endswith(b"},"):
            return Record(number, error=f"is not valid JSON ({error}): a comma at its end is none of the row's")
        return Record(number, error=f"is not valid JSON ({error})")


def _csv(file: DataFile) -> Iterator[Record]:
    """Cells as pandas reads them: a quote inside an unquoted cell is a character, and blank lines are no rows.

    A row of fewer cells than the header lacks its last fields; a row of more is an error.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    with _open(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        rows = _csv_rows(file, text)
        header = _column_names(next(rows, []))
        if len(header) == 1 and (apart := next((sign for sign in ";\t|" if sign in header[0]), None)):
            raise ValueError(
                f"{file} has one column, {header[0]!r}: its cells seem to be separated by {apart!r}: write "
                "it with commas"
            )
        for number, cells in enumerate(rows, start=1):
            if len(cells) > len(header):
                yield Record(number, error=f"has {len(cells)} cells, and the header has {len(header)} names")
            else:
                yield Record(number, dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True)))


def _csv_rows(file: DataFile, text: io.TextIOWrapper) -> Iterator[list[str]]:
    """The rows that hold something. Raises ValueError, with the line where it opens, for a quote that never closes."""

    def lines() -> Iterator[str]:
        yield from text
        # A reader in the middle of a quoted cell takes this for a part of the cell.
        yield _END_OF_FILE

    reader = csv.reader(lines())
    begins = 1
    try:
        for cells in reader:
            if cells and _END_OF_FILE in cells[-1]:
                if cells != [_END_OF_FILE]:
                    raise ValueError(f"{file} line {begins} is not CSV: a quote opens there and never closes: close it")
                return
            begins = reader.line_num + 1
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield cells
    except csv.Error as error:
        raise ValueError(f"{file} line {reader.line_num} is not CSV ({error}): mend that cell, or use jsonl") from None


_END_OF_FILE = "\N{END OF TRANSMISSION}end of file\N{END OF TRANSMISSION}"


def _column_names(header: Sequence[str]) -> list[str]:
    """The names as pandas gives them: `Unnamed: 0` for an empty one, `q.1` for the second `q`."""
    seen: Counter[str] = Counter()
    names = []
    for place, cell in enumerate(header):
        name = cell or f"Unnamed: {place}"
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _parquet(file: DataFile) -> Iterator[Record]:
    # A path, or an open file: a web address would be fetched again each time that it is opened.
    opened = file.open_seekable()
    with open(opened, "rb") if isinstance(opened, str) else nullcontext(opened) as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
    if not head:
        raise ValueError(f"{file} is empty")
    if not head.startswith(b"PAR1"):
        what, remedy = _foreign(head) or ("text or another format", f"name it so: {FORMATS}")
        raise ValueError(f"{file} cannot be read as Parquet: it is {what}: {remedy}")
    try:
        with pq.ParquetFile(opened) as parquet:
            number = 0
            halves = {column.name: column.type for column in parquet.schema_arrow if _has_halves(column.type)}
            for batch in parquet.iter_batches(PARQUET_ROWS):
                for values in _as_written(batch).to_pylist():
                    number += 1
                    values |= {name: _shortest(values[name], kind) for name, kind in halves.items()}
                    yield Record(number, values)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {error}") from None


def _as_written(batch: pa.RecordBatch) -> pa.Table:
    """The batch with its single floats as doubles of the same shortest decimal: 0.1 stays 0.1, and does not become
    0.10000000149011612."""
    table = pa.Table.from_batches([batch])
    for place, column in enumerate(table.schema):
        wide = _widened(column.type, pa.float64())
        if wide != column.type:
            digits = table[place].cast(_widened(column.type, pa.string()))
            table = table.set_column(place, column.name, digits.cast(wide))
    return table


def _widened(kind: pa.DataType, wide: pa.DataType) -> pa.DataType:
    """The type with `wide` in the place of single floats, in lists, maps and objects, too."""
    types = pa.types
    if types.is_float32(kind):
        return wide
    if types.is_dictionary(kind) and types.is_float32(kind.value_type):
        return wide
    if types.is_list(kind):
        return pa.list_(_widened(kind.value_type, wide))
    if types.is_large_list(kind):
        return pa.large_list(_widened(kind.value_type, wide))
    if types.is_fixed_size_list(kind):
        return pa.list_(_widened(kind.value_type, wide), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([(part.name, _widened(part.type, wide)) for part in kind])
    if types.is_map(kind):
        return pa.map_(_widened(kind.key_type, wide), _widened(kind.item_type, wide))
    return kind


def _has_halves(kind: pa.DataType) -> bool:
    """Whether floats of 16 bits are in a type. Arrow writes them with all digits of a double."""
    if pa.types.is_struct(kind):
        return any(_has_halves(part.type) for part in kind)
    return pa.types.is_float16(kind) or (_is_list(kind) and _has_halves(kind.value_type))


def _shortest(value: Any, kind: pa.DataType) -> Any:
    """The value with its floats of 16 bits as doubles of the same shortest decimal."""
    if value is None:
        return None
    if pa.types.is_float16(kind):
        return float(str(np.float16(value)))
    if _is_list(kind):
        return [_shortest(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {part.name: _shortest(value[part.name], part.type) for part in kind}
    return value


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_READERS = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
