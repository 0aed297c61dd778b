"""The metrics page of the first node of the cluster that this process is on."""

import urllib.request

import ray
from prometheus_client.parser import text_string_to_metric_families


def address():
    """Its host and port."""
    node = ray.nodes()[0]
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def samples():
    """What is on it now."""
    with urllib.request.urlopen(f"http://{address()}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    return [sample for family in families for sample in family.samples]
