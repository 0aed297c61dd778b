"""Where the rows of a public benchmark come from: local files, or a hub data set that is streamed.

A source yields `Record`s and knows the split and the subset of all its rows. Invariant: nothing is fetched before
`records()` is called; then rows are fetched one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steer.benchmarks.records import FORMATS, Record, kind, read_records


@dataclass(frozen=True)
class FileSource:
    path: Path
    split: str = ""
    subset: str = ""

    def records(self) -> Iterator[Record]:
        return read_records(self.path)

    def place(self, number: int) -> str:
        return f"{self.path} row {number}"


@dataclass(frozen=True)
class HubSource:
    """One split of `datasets.load_dataset(repo, config)`."""

    repo: str
    hub_split: str
    config: str | None = None
    split: str = ""
    subset: str = ""

    def records(self) -> Iterator[Record]:
        """Raises ValueError if the data set cannot be reached or has another layout."""
        from datasets import load_dataset

        try:
            rows = load_dataset(self.repo, self.config, split=self.hub_split, streaming=True)
            for number, values in enumerate(rows, start=1):
                yield Record(number, dict(values))
        except Exception as error:  # many libraries can raise here: network, authentication, layout, file formats
            raise ValueError(
                f"{self._name()} cannot be read from the hub ({type(error).__name__}: {error}): check the network and "
                "HF_TOKEN, or download the data set and set benchmark.source to its file or folder"
            ) from error

    def place(self, number: int) -> str:
        return f"{self._name()} row {number}"

    def _name(self) -> str:
        return "/".join(filter(None, (self.repo, self.config, self.hub_split)))


def data_files(root: Path, *preferred: str) -> list[Path]:
    """The data files of a folder, sorted; for a file, the file itself. Raises ValueError if the folder has none.

    If some paths contain a word of `preferred`, only those files are returned.
    """
    if not root.is_dir():
        return [root]
    inside = [path.relative_to(root) for path in sorted(root.rglob("*")) if kind(path) and path.is_file()]
    shown = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    liked = [path for path in shown if any(word in str(path).lower() for word in preferred)]
    if not shown:
        raise ValueError(f"benchmark source: folder {root} has no {FORMATS} file")
    return [root / path for path in liked or shown]
