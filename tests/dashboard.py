"""What the Grafana dashboard asks of Prometheus."""

import json

from paths import ROOT

FILE = ROOT / "cluster/monitoring/grafana/dashboards/steer.json"


def panels():
    """All panels but the rows' titles, folded ones too."""
    top = json.loads(FILE.read_text())["panels"]
    return [panel for each in top for panel in (each, *each.get("panels", ())) if panel["type"] != "row"]


def expressions():
    return [target["expr"] for panel in panels() for target in panel["targets"]]
