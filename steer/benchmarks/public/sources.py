"""Where the rows of a public benchmark come from: local files, or a hub data set that is streamed.

A source yields `Record`s and knows the split and the subset of all its rows. Invariant: nothing is fetched before
`records()` is called; then rows are fetched one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from steer.benchmarks.files import DataFile
from steer.benchmarks.records import Record, read_records


@dataclass(frozen=True)
class FileSource:
    file: DataFile
    split: str = ""
    subset: str = ""

    def records(self) -> Iterator[Record]:
        return read_records(self.file)

    def place(self, number: int) -> str:
        return f"{self.file} row {number}"

    def name(self, number: int) -> str:
        return f"{self.file.label} row {number}"


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

    def name(self, number: int) -> str:
        return self.place(number)

    def _name(self) -> str:
        return "/".join(filter(None, (self.repo, self.config, self.hub_split)))
