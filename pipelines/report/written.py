"""What a report is put together from, as its sections are written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pipelines.report import page
from pipelines.report.charts import Chart
from pipelines.report.plotly_json import spec
from pipelines.report.tables import Table


@dataclass
class Written:
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, heading, HTML)"""
    charts: dict[str, Any] = field(default_factory=dict)
    """Plotly's JSON by key."""
    tables: list[Table] = field(default_factory=list)
    """Saved as CSV and Markdown, whether the page shows them or not."""

    def chart(self, key: str, drawn: Chart) -> None:
        self.charts[key] = spec(drawn)

    def section(self, name: str, heading: str, body: Sequence[str]) -> None:
        self.sections.append((name, heading, "".join(body)))

    def table(self, slug: str, title: str, columns: tuple, frame: pd.DataFrame) -> str:
        """Add a table to those that are saved; returns its HTML."""
        self.tables.append(Table(slug, title, columns, frame))
        return page.table(self.tables[-1])
