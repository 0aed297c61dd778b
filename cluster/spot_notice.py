"""Watches a spot node for its notice, and drains the node in Ray: python cluster/spot_notice.py aws|gcp, on the node.

Ray's autoscaler replaces a node that is gone, but does not listen for the cloud's notice. Once Ray is told that a node
is to go, STEER gives its replicas no new rows, lets them answer what they have and starts successors elsewhere. AWS
gives notice two minutes ahead, Google Cloud 30 seconds. Needs no package but Ray.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

METADATA = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
POLL_S = 2
"""AWS recommends 5 s; a sixth of Google's 30 s would be lost so."""
GCP_NOTICE_S = 30
ANSWER_S = 2
PREEMPTED = 2
"""Ray's DRAIN_NODE_REASON_PREEMPTION."""


def notice(cloud: str, address: str | None = None) -> float | None:
    """Seconds until this node goes; None if it stays. `address`: of the cloud's metadata server.

    A server that does not answer is taken for "stays", so that the watch goes on.
    """
    address = address or METADATA[cloud]
    try:
        return _aws(address) if cloud == "aws" else _gcp(address)
    except (OSError, ValueError):
        return None


def _aws(address: str) -> float | None:
    token = _get(f"{address}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    try:
        action = _get(f"{address}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError:  # 404: no notice
        return None
    at = datetime.fromisoformat(json.loads(action)["time"])
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _gcp(address: str) -> float | None:
    preempted = _get(f"{address}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return float(GCP_NOTICE_S) if preempted.strip() == "TRUE" else None


def _get(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
        return answer.read().decode()


def drain(seconds: float) -> None:
    """Tell Ray that the node of this process goes in so many seconds. RuntimeError if Ray refuses."""
    import ray

    ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    context = ray.get_runtime_context()
    head = ray._raylet.GcsClient(address=context.gcs_address)
    deadline_ms = int((time.time() + seconds) * 1000)
    accepted, reason = head.drain_node(context.get_node_id(), PREEMPTED, "spot notice", deadline_ms)
    ray.shutdown()
    if not accepted:
        raise RuntimeError(f"Ray did not drain this node: {reason}")


def main() -> None:
    if sys.argv[1:] not in (["aws"], ["gcp"]):
        sys.exit("usage: python cluster/spot_notice.py aws|gcp")
    while (seconds := notice(sys.argv[1])) is None:
        time.sleep(POLL_S)
    print(f"cluster/spot_notice.py: this node goes in {seconds:.0f} s; Ray is told", flush=True)
    drain(seconds)


if __name__ == "__main__":
    main()
