"""cluster/spot_notice.py against a metadata server of this test."""

import importlib.util
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from paths import ROOT

spec = importlib.util.spec_from_file_location("spot_notice", ROOT / "cluster" / "spot_notice.py")
spot_notice = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spot_notice)


@pytest.fixture
def metadata():
    """(address, answers): text by path; a path without one is not found. AWS's wants the session's token."""
    answers: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = (
                {"X-aws-ec2-metadata-token": "session"} if "meta-data" in self.path else {"Metadata-Flavor": "Google"}
            )
            allowed = all(self.headers.get(name) == value for name, value in wanted.items())
            self.send_response(401 if not allowed else 200 if self.path in answers else 404)
            self.end_headers()
            if allowed:
                self.wfile.write(answers.get(self.path, "").encode())

        def do_PUT(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"session")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_aws_gives_the_time_when_the_node_goes(metadata):
    address, answers = metadata
    assert spot_notice.notice("aws", address) is None
    at = (datetime.now(UTC) + timedelta(seconds=120)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answers["/latest/meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": at})
    assert 100 < spot_notice.notice("aws", address) <= 120


def test_a_notice_that_came_late_leaves_no_time(metadata):
    address, answers = metadata
    action = {"action": "stop", "time": "2020-01-01T00:00:00Z"}
    answers["/latest/meta-data/spot/instance-action"] = json.dumps(action)
    assert spot_notice.notice("aws", address) == 0


def test_google_cloud_gives_its_half_minute(metadata):
    address, answers = metadata
    answers["/computeMetadata/v1/instance/preempted"] = "FALSE\n"
    assert spot_notice.notice("gcp", address) is None
    answers["/computeMetadata/v1/instance/preempted"] = "TRUE\n"
    assert spot_notice.notice("gcp", address) == spot_notice.GCP_NOTICE_S


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_metadata_server_that_is_away_is_no_notice(metadata, cloud):
    address, answers = metadata
    answers["/latest/meta-data/spot/instance-action"] = "no JSON"
    assert spot_notice.notice(cloud, "http://127.0.0.1:9") is None
    assert spot_notice.notice(cloud, address) is None
