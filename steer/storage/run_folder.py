"""A run folder: Parquet tables and `run.json`, written part by part and read back in one order.

    RUN/questions/   the groups as they were admitted      RUN/traces/    one row a question and sample
    RUN/steps/       one row a generated step              RUN/mixtures/  one row a fitted mixture
    RUN/events/      what happened to the replicas
    RUN/run.json     configuration without its secrets, versions, git commit, seeds, times
    RUN/journal/     live traces, until the run ends (`actors/router/journal.py`)
    RUN/live.json    what the run counts now, until it ends (`pipelines/watch/live_file.py`)
    RUN/driver.json  the run lock (`pipelines/run/run_lock.py`)

docs/tables.md describes every column. Invariants: a file is written under another name and renamed, so a reader sees it
whole or not at all. A committed row stays, but for error rows that are asked again (`steer.storage.retry`): a part is
replaced by one with the same rows and other verdicts (a regrade), or deleted once a merged part with its rows is in
place (`steer.storage.parts`). What this class reads has every
committed row once, also while parts are merged, and after a kill. The steps and mixtures of a trace are written before
the trace. A part that cannot be written leaves nothing behind and raises OutputFailed.
"""

import json
import platform
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs

from steer.config.secrets import masked
from steer.events import Event, What
from steer.storage.columns import conformed, model_names, run_id, with_earlier_names
from steer.storage.commits import mixtures_of, part_name, steps_of
from steer.storage.filesystem import OutputFailed, is_object_store, open_filesystem, write_whole, writing, written_whole
from steer.storage.parts import EMPTY, MANY_PARTS, MERGED, REPLACES, Parts, stem, tables_of
from steer.storage.provenance import git_commit, versions
from steer.storage.schemas import (
    EVENTS_SCHEMA,
    GROUPS_SCHEMA,
    MIXTURE_KEYS,
    MIXTURES_SCHEMA,
    ORDER,
    SCHEMAS,
    STEPS_SCHEMA,
    TRACES_SCHEMA,
)

_SORTED_BYTES = 2**30
"""A table that is larger is sorted with large strings: sorting puts each column into one array, and 2 GiB of text would
exceed the 32-bit offsets of strings."""


LIVE_FILE = "live.json"
READINGS = 10
"""Times that a table is read, if parts of it are merged each time meanwhile. Merges are minutes apart."""


class Committed(NamedTuple):
    """What a run's tables hold of one group."""

    trace_ids: frozenset[str] = frozenset()
    mixtures: frozenset[tuple[Any, ...]] = frozenset()
    """Values of `MIXTURE_KEYS`."""


class CommittedRows(NamedTuple):
    """What a run's tables hold of several groups, as tables, because a million ids as objects take 100 MB."""

    traces: pa.Table
    """Columns group_id (a dictionary) and trace_id."""
    mixtures: pa.Table
    """Columns group_id (a dictionary) and `MIXTURE_KEYS`."""

    def of(self, group: str) -> Committed:
        """What they hold of one group."""
        traces, mixtures = (table.filter(pc.equal(table["group_id"], group)) for table in self)
        fits = [mixtures[key].to_pylist() for key in MIXTURE_KEYS]
        return Committed(frozenset(traces["trace_id"].to_pylist()), frozenset(zip(*fits, strict=True)))


class RunFolder:
    """Can be pickled, because it holds no open file. Parts are named by their content, so many writers do not clash."""

    def __init__(self, root: str | Path, retries: int = 0):
        """`retries`: how often error rows were taken out of the tables. Parts that are committed afterwards have other
        names: an earlier one with the same traces may be merged by now, and a part of its name counts as replaced."""
        self._fs, self._path, self.root = open_filesystem(root)
        self.retries = retries
        self._parts = {table: Parts(self._fs, f"{self._path}/{table}") for table in ("questions", "events", *SCHEMAS)}
        self._values: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[type["RunFolder"], tuple[str, int]]:
        return RunFolder, (self.root, self.retries)

    # --- run.json ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, root: str | Path, kind: str, config: dict[str, Any], seeds: list[int]) -> "RunFolder":
        """Make a new folder with empty tables.

        `kind`: the command that the run belongs to. `config`: the resolved configuration as JSON values. Raises
        FileExistsError if the folder holds anything, and OutputFailed if it cannot be made.
        """
        run = cls(root)
        cls.refuse_used(root)
        was_there = run._fs.get_file_info(run._path).type != fs.FileType.NotFound
        started = datetime.now(UTC)
        described = {
            "id": f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            "kind": kind,
            "config": config,
            "seeds": seeds,
            "started": started.isoformat(timespec="seconds"),
            "finished": None,
            "seconds": None,
            "host": platform.node(),
            "git_commit": git_commit(),
            "versions": versions(),
            "cells": [],
        }
        try:
            run._write_json(described)
            run._lay_out()
        except OutputFailed:
            with suppress(OSError):
                (run._fs.delete_dir_contents if was_there else run._fs.delete_dir)(run._path)
            raise
        return run

    def _lay_out(self) -> None:
        """Give each table without a part an empty one. Then `RUN/mixtures/*.parquet` can be read even if the run fitted
        no mixture."""
        for table, schema in (*SCHEMAS.items(), ("events", EVENTS_SCHEMA)):
            if not self.parts(table):
                self._write_part(table, EMPTY, schema.empty_table())

    @classmethod
    def refuse_used(cls, root: str | Path) -> None:
        """Raise FileExistsError if the folder holds anything, and OutputFailed if it cannot be listed."""
        run = cls(root)
        with run._named(run._path):
            held = run._fs.get_file_info(fs.FileSelector(run._path, allow_not_found=True))
        if held:
            what = "holds another run" if any(info.base_name == "run.json" for info in held) else "is not empty"
            raise FileExistsError(f"{root} {what}: choose another --out or remove it")

    @classmethod
    def open(cls, root: str | Path) -> "RunFolder":
        """Open the run in a folder. Raises FileNotFoundError if there is none."""
        run = cls(root)
        if run._fs.get_file_info(f"{run._path}/run.json").type != fs.FileType.File:
            raise FileNotFoundError(f"{root} holds no run.json: give the --out folder of a run")
        return run

    def describe(self) -> dict[str, Any]:
        """The content of `run.json`."""
        with self._fs.open_input_stream(f"{self._path}/run.json") as file:
            described: dict[str, Any] = json.loads(file.read())
        return described

    def update(self, **entries: Any) -> None:
        """Set entries of `run.json`."""
        self._write_json({**self.describe(), **entries})

    def finished_cells(self) -> set[str]:
        """Names of the cells whose traces are all in `traces/`."""
        held = self.read_unsorted("traces", columns=["cell"])["cell"].value_counts().to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in held}
        return {cell["name"] for cell in self.describe()["cells"] if counts.get(cell["name"]) == cell["traces"]}

    def clean(self) -> None:
        """Remove what a process that was cut off left behind: unfinished files, parts of `steps/` and `mixtures/` whose
        traces were not committed, and parts whose rows are in a merged part too. Call this only while no other process
        writes."""
        committed = self._parts["traces"].names()
        for table in ("questions", "events", *SCHEMAS):
            for info in self._fs.get_file_info(fs.FileSelector(f"{self._path}/{table}", allow_not_found=True)):
                name = stem(info.path)
                stray = table in SCHEMAS and not name.startswith(MERGED) and name not in committed
                if info.base_name.startswith(".") or stray:
                    self._fs.delete_file(info.path)
        for table in ("events", *SCHEMAS):
            self._parts[table].remove_replaced()
        self.remove_file(LIVE_FILE)
        self._lay_out()

    def committed(self, cells: Iterable[str]) -> CommittedRows:
        """What the tables hold of these cells' groups."""
        names = list(cells)
        traces = self.read_unsorted("traces", names, ["group_id", "trace_id"])
        mixtures = self.read_unsorted("mixtures", names, ["group_id", *MIXTURE_KEYS])
        return CommittedRows(_by_group(traces), _by_group(mixtures))

    @property
    def is_local(self) -> bool:
        """Whether the folder is in a file system of this machine, network file systems included."""
        return isinstance(self._fs, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """Name of the folder, without what leads to it."""
        return self._path.rstrip("/").rpartition("/")[2]

    @property
    def on_object_store(self) -> bool:
        return is_object_store(self._fs)

    @property
    def journal(self) -> str:
        """Path or URL of the journal's folder."""
        return f"{self.root}/journal"

    def remove_journal(self) -> None:
        if self._fs.get_file_info(f"{self._path}/journal").type == fs.FileType.Directory:
            self._fs.delete_dir(f"{self._path}/journal")

    def finish(self, **entries: Any) -> None:
        """Remove the journal and the live counts, and set `entries` of `run.json`, and `finished` and `seconds` if the
        run was not finished before."""
        self.remove_journal()
        self.remove_file(LIVE_FILE)
        if self.describe()["finished"]:
            self.update(**entries)
            return
        finished = datetime.now(UTC)
        started = datetime.fromisoformat(self.describe()["started"])
        self.update(
            finished=finished.isoformat(timespec="seconds"), seconds=(finished - started).total_seconds(), **entries
        )

    def read_file(self, name: str) -> bytes | None:
        """The content of a file beside the tables. None: there is no such file."""
        try:
            with self._fs.open_input_stream(f"{self._path}/{name}") as file:
                data: bytes = file.read()
        except FileNotFoundError:
            return None
        return data

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file beside the tables. Raises OutputFailed."""
        path = f"{self._path}/{name}"
        with self._named(path):
            write_whole(self._fs, path, data)

    def remove_file(self, name: str) -> None:
        """Remove a file beside the tables, if there is one."""
        with suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._path}/{name}")

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        self._fs.delete_dir(self._path)

    # --- writing ----------------------------------------------------------------------------------------------------

    def write_groups(self, tables: Iterable[pa.Table], cells: list[dict[str, Any]]) -> None:
        """Write admitted groups as one part of `questions/`, a row group each, and add their cells to `run.json`, with
        the name of the part. Raises ValueError if the run has a cell of the same name, and OutputFailed."""
        self._refuse_unshared()
        earlier = self.describe()["cells"]
        names = [cell["name"] for cell in [*earlier, *cells]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cell {twice[0]} is in {self.root} already: give every cell of a run its own name")
        part = f"groups-{len(self.parts('questions')):06d}"
        self._write_part("questions", part, tables)
        self.update(cells=[*earlier, *({**cell, "part": part} for cell in cells)])

    def read_groups(self, part: str, cells: Iterable[str], fields: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the groups of these cells in a part of `questions/`, as tables of one row, one at a time. `fields`:
        only these of the questions; None: all."""
        wanted = set(cells)
        with self._fs.open_input_file(f"{self._path}/questions/{part}.parquet") as file:
            parquet = pq.ParquetFile(file)
            keys = [name for name in parquet.schema_arrow.names if name != "questions"]
            columns = None if fields is None else [*keys, *(f"questions.list.element.{name}" for name in fields)]
            for number in range(parquet.num_row_groups):
                held = parquet.read_row_group(number, ["cell"])["cell"].to_pylist()
                if not wanted.isdisjoint(held):
                    rows = parquet.read_row_group(number, columns).rename_columns(GROUPS_SCHEMA.names)
                    yield from (rows.slice(i, 1) for i, cell in enumerate(held) if cell in wanted)

    def commit(self, graded: pa.Table) -> None:
        """Write rows of `GRADED_SCHEMA`: their steps and mixtures first, the traces last. Raises OutputFailed."""
        self._refuse_unshared()
        name = part_name(graded, self.retries)
        self._write_part("steps", name, conformed(steps_of(graded), STEPS_SCHEMA, self._run_values))
        mixtures = conformed(mixtures_of(graded), MIXTURES_SCHEMA, self._run_values)
        if mixtures.num_rows:
            self._write_part("mixtures", name, mixtures)
        self._write_part("traces", name, conformed(graded, TRACES_SCHEMA, self._run_values))

    def merge_parts(self, least: int = MANY_PARTS) -> None:
        """Merge small parts of every table, once they have `parts.FULL_BYTES` together or there are `least` of them.

        Others may commit and read meanwhile, but one process alone may merge. Holds `parts.ROW_GROUP_BYTES` of rows.
        Raises OutputFailed.
        """
        committed = self._parts["traces"].names()
        for table, schema in SCHEMAS.items():
            with self._named(f"{self._path}/{table}"):
                # Steps of traces that are not committed would be taken for committed ones, once they were merged.
                self._parts[table].merge(
                    schema, self._run_values, least, None if table == "traces" else committed.__contains__
                )
        with self._named(f"{self._path}/events"):
            self._parts["events"].merge(EVENTS_SCHEMA, self._run_values, least)

    def write_events(self, events: Sequence[Event]) -> None:
        """Add rows to the table `events/`, as one part. Raises OutputFailed."""
        columns = {
            "time": [datetime.fromtimestamp(event.at_s, UTC) for event in events],
            **{name: [str(getattr(event, name)) for event in events] for name in EVENTS_SCHEMA.names[1:]},
        }
        # Two drivers never write at the same time, and the clock tells the parts of one apart.
        self._write_part("events", f"part-{time.time_ns()}", pa.Table.from_pydict(columns, EVENTS_SCHEMA))

    def read_events(self) -> pa.Table:
        """The table `events/` in the order of time. Empty for a run of a version that kept none."""
        parts = self.parts("events")
        if not parts:
            return EVENTS_SCHEMA.empty_table()
        rows = pads.dataset(parts, EVENTS_SCHEMA, format="parquet", filesystem=self._fs).to_table()
        return rows.sort_by("time")

    def count_events(self, what: What) -> int:
        """How often this happened, in all tries of the run."""
        return sum(each == what for each in self.read_events()["what"].to_pylist())

    def parts(self, table: str) -> list[str]:
        """Paths of the parts that hold a table's rows, each row once."""
        return self._parts[table].paths()

    def read_part(self, part: str) -> pa.Table:
        """A part of `traces/`. Columns that an older STEER did not write are null."""
        return self._rows([part], "traces")

    def replace_traces(self, part: str, rows: pa.Table) -> None:
        """Replace a part of `traces/` by the same rows with other verdicts. Raises OutputFailed."""
        replaced = self._parts["traces"].replaced_by(part)
        metadata = {REPLACES: json.dumps(sorted(replaced)).encode()} if replaced else None
        self._write_part("traces", stem(part), conformed(rows, TRACES_SCHEMA, self._run_values), metadata)

    def remove_traces(self, doomed: pa.Table) -> None:
        """Remove the rows of these traces (columns cell and trace_id), and of their steps. Mixtures stay: others were
        routed by them. Call this only while no other process writes, and again if it was cut off. Raises OutputFailed.
        """
        keys = _keys(doomed)
        for table in ("traces", "steps"):
            with self._named(f"{self._path}/{table}"):
                self._parts[table].remove_rows(
                    SCHEMAS[table], self._run_values, lambda rows: pc.is_in(_keys(rows), keys)
                )

    def _write_part(
        self,
        table: str,
        name: str,
        rows: pa.Table | Iterable[pa.Table],
        metadata: dict[bytes, bytes] | None = None,
    ) -> str:
        """Write one part: a table, or several one after the other. Returns its path."""
        folder = f"{self._path}/{table}"
        part = f"{folder}/{name}.parquet"
        if isinstance(rows, pa.Table) and is_object_store(self._fs):
            with self._named(part):
                write_whole(self._fs, part, _parquet(rows, metadata))
            return part
        parts = iter([rows] if isinstance(rows, pa.Table) else rows)
        first = next(parts)
        # The dot and the missing suffix hide the file from DuckDB's `*.parquet` and pyarrow's folder scan. The clock
        # keeps two attempts at one part apart.
        hidden = f"{folder}/.{name}.{time.monotonic_ns()}"
        with self._named(part), written_whole(self._fs, part, hidden):
            with pq.ParquetWriter(hidden, first.schema, filesystem=self._fs, compression="zstd") as writer:
                for rows in chain([first], parts):
                    writer.write_table(rows)
                if metadata:
                    writer.add_key_value_metadata(metadata)
        return part

    def _write_json(self, values: dict[str, Any]) -> None:
        data = (json.dumps(masked(values), indent=2, ensure_ascii=False, default=str) + "\n").encode()
        self.write_file("run.json", data)

    def _named(self, path: str) -> AbstractContextManager[None]:
        """Turn an OSError of the block into an OutputFailed that names the file by the run's path or URL."""
        return writing(self.root + path.removeprefix(self._path), self.root)

    def _refuse_unshared(self) -> None:
        """Raise OutputFailed if this node does not see the folder that the driver made. It would write rows to another
        folder of the same name, and they would be lost. (Nodes that see an object store see the same one.)"""
        if is_object_store(self._fs):
            return
        if self._fs.get_file_info(f"{self._path}/run.json").type != fs.FileType.File:
            reason = f"node {platform.node()} does not see its run.json"
            raise OutputFailed(self.root, self.root, reason, "give --out a folder or URL that all nodes share")

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, table: str, cells: list[str] | None = None, columns: list[str] | None = None) -> pa.Table:
        """The table `traces`, `steps` or `mixtures`, sorted by `ORDER`. `cells`, `columns`: only these; None: all."""
        order = ORDER[table]
        extra = ["draft"] if table == "mixtures" else []
        names = columns if columns is None else [*columns, *(name for name in [*order, *extra] if name not in columns)]
        rows = self.read_unsorted(table, cells, names)
        keys = [(name, "ascending") for name in order]
        if extra:
            keys.insert(order.index("step") + 1, ("draft", "descending"))
        if rows.nbytes > _SORTED_BYTES:
            rows = rows.cast(_with_large_strings(rows.schema))
        rows = rows.sort_by(keys)
        return rows if columns is None else rows.select(columns)

    def read_unsorted(
        self,
        table: str,
        cells: list[str] | None = None,
        columns: list[str] | None = None,
        wanted: pads.Expression | None = None,
    ) -> pa.Table:
        """The same in any order: much cheaper where there are millions of rows. `wanted`: only rows of which it holds;
        of columns that every version has written under the same name."""
        if cells is not None:
            of_cells = pads.field("cell").isin(pa.array(cells, pa.string()))
            wanted = of_cells if wanted is None else of_cells & wanted
        for _ in range(READINGS - 1):
            # Of the parts that were listed some may be merged before they are opened. Then the list is made again.
            with suppress(FileNotFoundError):
                return self._rows(self.parts(table), table, columns, wanted)
        return self._rows(self.parts(table), table, columns, wanted)

    def stream(self, table: str) -> Iterator[pa.Table]:
        """The rows of a table in any order, in pieces: for tables that are larger than memory.

        Raises FileNotFoundError if a part was merged after the first piece was asked for. Then ask again for all."""
        for part in self.parts(table):
            with self._fs.open_input_file(part) as file:
                yield from tables_of(pq.ParquetFile(file), SCHEMAS[table], self._run_values)

    def _rows(
        self,
        parts: list[str],
        table: str,
        columns: list[str] | None = None,
        wanted: pads.Expression | None = None,
    ) -> pa.Table:
        """Rows of these parts as today's columns (`steer.storage.columns`)."""
        schema = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in columns])
        held = pads.dataset(parts, with_earlier_names(SCHEMAS[table]), format="parquet", filesystem=self._fs)
        rows = held.to_table(columns=with_earlier_names(schema).names, filter=wanted)
        return conformed(rows, schema, self._run_values)

    def _run_values(self) -> dict[str, Any]:
        """Values of the run's own columns. They never change, so `run.json` is read once."""
        if self._values is None:
            described = self.describe()
            started = datetime.fromisoformat(described["started"])
            self._values = {"run_id": run_id(described), "started_at": started, **model_names(described)}
        return self._values


def _parquet(rows: pa.Table, metadata: dict[bytes, bytes] | None) -> pa.Buffer:
    """A table as the content of a Parquet file."""
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, rows.schema, compression="zstd") as writer:
        writer.write_table(rows)
        if metadata:
            writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def _by_group(rows: pa.Table) -> pa.Table:
    """The rows with column group_id as a dictionary: the same few names stand in all of them."""
    return rows.set_column(rows.schema.get_field_index("group_id"), "group_id", rows["group_id"].dictionary_encode())


def _keys(rows: pa.Table) -> pa.Array:
    """What names the trace of each row."""
    return pc.binary_join_element_wise(rows["cell"], rows["trace_id"], "\0").combine_chunks()


def _with_large_strings(schema: pa.Schema) -> pa.Schema:
    """The schema with 64-bit offsets of texts."""
    return pa.schema([pa.field(f.name, pa.large_string()) if pa.types.is_string(f.type) else f for f in schema])
