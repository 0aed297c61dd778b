"""Runs in a folder of Parquet files, by option under Hive partitions: `PATH/traces/benchmark=math500/policy=steer/`.

Every file belongs to one run, whose id its name begins with. Invariant: an export that was cut short is mended by
asking again, since the files of a run are deleted before it is written.
"""

import json

import pyarrow as pa
import pyarrow.dataset as pads
from pyarrow import fs

from pipelines.tables.runs import TABLES, ExportedRun
from steer.config.load import SettingsError
from steer.storage.filesystem import open_filesystem, writing, written_whole

ABOUT = "tables.json"
"""File in the folder that says how its tables are partitioned."""
MOST_PARTITIONS = 1024
"""Of one run. More would be files of a few rows each."""


class ParquetFolder:
    def __init__(self, out: str, partition_by: tuple[str, ...]):
        """`partition_by`: columns; a table is partitioned by those of them that it has. Raises ValueError for a folder
        that holds something else, or tables with other partitions."""
        self._fs, self._path, self._root = open_filesystem(out)
        self._partition_by = partition_by
        held = self._held()
        if held is None and self._fs.get_file_info(fs.FileSelector(self._path, allow_not_found=True)):
            raise ValueError(f"{out} holds something else than tables of `steer tables`: give another --out")
        if held is not None and held != list(partition_by):
            by = f"by {','.join(held)}" if held else "without partitions"
            raise ValueError(f"{out} holds tables {by}: give the same --partition-by, or another --out")
        if held is None:
            about = f"{self._path}/{ABOUT}"
            with writing(f"{self._root}/{ABOUT}", self._root), written_whole(self._fs, about) as hidden:
                with self._fs.open_output_stream(hidden) as file:
                    file.write(json.dumps({"partition_by": list(partition_by)}).encode())

    def close(self) -> None:
        pass

    def replace(self, run: ExportedRun) -> dict[str, int]:
        return {table: self._replace(run, table, schema) for table, schema in TABLES.items()}

    def _held(self) -> list[str] | None:
        try:
            with self._fs.open_input_stream(f"{self._path}/{ABOUT}") as file:
                return list(json.loads(file.read())["partition_by"])
        except FileNotFoundError:
            return None

    def _replace(self, run: ExportedRun, table: str, schema: pa.Schema) -> int:
        folder = f"{self._path}/{table}"
        for info in self._fs.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True)):
            if info.base_name.startswith(f"{run.id}-"):
                with writing(info.path, self._root):
                    self._fs.delete_file(info.path)
        by = [schema.field(name) for name in self._partition_by if name in schema.names]
        rows = 0
        for number, piece in enumerate(run.pieces(table)):
            with writing(f"{self._root}/{table}", self._root):
                self._write(piece, folder, f"{run.id}-{number:05d}-{{i}}.parquet", by)
            rows += piece.num_rows
        return rows

    def _write(self, piece: pa.Table, folder: str, names: str, by: list[pa.Field]) -> None:
        try:
            pads.write_dataset(
                piece,
                folder,
                filesystem=self._fs,
                format="parquet",
                file_options=pads.ParquetFileFormat().make_write_options(compression="zstd"),
                basename_template=names,
                partitioning=pads.partitioning(pa.schema(by), flavor="hive") if by else None,
                existing_data_behavior="overwrite_or_ignore",
                max_partitions=MOST_PARTITIONS,
            )
        except pa.ArrowInvalid as error:
            said = " ".join(str(error).split())
            raise SettingsError(f"{folder} cannot be partitioned so: {said}; name fewer columns") from error
