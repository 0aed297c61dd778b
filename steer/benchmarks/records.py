"""The rows of a local json, jsonl, csv or parquet file, unchanged and one at a time.

Invariant: every row of the file is returned once, in order, either as a mapping or with the reason why it is not a
mapping. A file that cannot be read at all raises ValueError with the remedy.
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
PARQUET_ROWS = 256
"""How many rows of a Parquet file are in memory at once."""


@dataclass(frozen=True)
class Record:
    number: int
    """The number of the row, from 1; for jsonl, of the line in the file."""
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def kind(path: Path) -> str:
    """The format of a file: `.json`, `.jsonl`, `.csv` or `.parquet`; empty for any other file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = (suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:]
    named = {".ndjson": ".jsonl"}.get(last[0], last[0]) if last else ""
    return named if named in _READERS and not (named == ".parquet" and suffixes[-1] == ".gz") else ""


def read_records(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise ValueError(f"benchmark source: there is no file {path}: give the path of a {FORMATS} file")
    if not kind(path):
        raise ValueError(f"benchmark source: {path} is none of {FORMATS}: convert it or name it so")
    try:
        yield from _READERS[kind(path)](path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}): compress it again") from None


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _mapping(number: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(number, value)
    return Record(number, error=f"is a {type(value).__name__}, not an object with named fields")


def _parsed(text: str) -> Any:
    # Deep nesting raises RecursionError. A very long integer raises a plain ValueError.
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json(path: Path) -> Iterator[Record]:
    with _open(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        values = _parsed(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): one row a line is .jsonl") from None
    if not isinstance(values, list):
        raise ValueError(f"{path} holds a {type(values).__name__}: it must hold a list of objects, or be .jsonl")
    for number, value in enumerate(values, start=1):
        yield _mapping(number, value)


def _jsonl(path: Path) -> Iterator[Record]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _line(number, line)


def _line(number: int, line: bytes) -> Record:
    try:
        return _mapping(number, _parsed(line.decode("utf-8-sig" if number == 1 else "utf-8")))
    except UnicodeDecodeError as error:
        return Record(number, error=f"is not UTF-8 (byte {error.start} of the line)")
    except ValueError as error:
        return Record(number, error=f"is not valid JSON ({error})")


def _csv(path: Path) -> Iterator[Record]:
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, restkey=None, strict=True)
        try:
            for number, values in enumerate(reader, start=1):
                if None in values:
                    yield Record(number, error="has more cells than the header has names")
                else:
                    yield Record(number, values)
        except csv.Error as error:
            remedy = "quote that cell, or use jsonl"
            raise ValueError(f"{path} line {reader.line_num} is not CSV ({error}): {remedy}") from None


def _parquet(path: Path) -> Iterator[Record]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(PARQUET_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(number, values)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None


_READERS = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
