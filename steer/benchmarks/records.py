"""The rows of a local json, jsonl, csv or parquet file, as they stand.

Invariant: every row of the file comes back once, in order, as a mapping or as the reason why it is none. A file that
cannot be read at all raises ValueError with the remedy.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = "json, jsonl, csv (each also .gz) or parquet"


@dataclass(frozen=True)
class Record:
    number: int
    """1 for the first row; for jsonl the line of the file."""
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def read_records(path: Path) -> list[Record]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = (suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:]
    reader = {".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}.get(kind[0] if kind else "")
    if not path.is_file():
        raise ValueError(f"benchmark source: there is no file {path}: give the path of a {FORMATS} file")
    if kind == [".parquet"]:
        return _parquet(path)
    if reader is None:
        raise ValueError(f"benchmark source: {path} is none of {FORMATS}: convert it or name it so")
    return list(reader(_text(path), path))


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}): compress it again") from None


def _mapping(number: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(number, value)
    return Record(number, error=f"is a {type(value).__name__}, not an object with named fields")


def _parsed(text: str) -> Any:
    # Too deep a nesting raises RecursionError, too long an integer a plain ValueError.
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json(text: str, path: Path) -> Iterator[Record]:
    try:
        values = _parsed(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): one row a line is .jsonl") from None
    if not isinstance(values, list):
        raise ValueError(f"{path} holds a {type(values).__name__}: it must hold a list of objects, or be .jsonl")
    for number, value in enumerate(values, start=1):
        yield _mapping(number, value)


def _jsonl(text: str, path: Path) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _mapping(number, _parsed(line))
            except ValueError as error:
                yield Record(number, error=f"is not valid JSON ({error})")


def _csv(text: str, path: Path) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=None, strict=True)
    try:
        for number, values in enumerate(reader, start=1):
            if None in values:
                yield Record(number, error="has more cells than the header has names")
            else:
                yield Record(number, values)
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not CSV ({error}): quote that cell, or use jsonl") from None


def _parquet(path: Path) -> list[Record]:
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    return [Record(number, values) for number, values in enumerate(rows, start=1)]
