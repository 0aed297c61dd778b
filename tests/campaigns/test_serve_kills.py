"""The kill campaign of an endpoint. Ten minutes of load; STEER_CAMPAIGN_MINUTES and STEER_CAMPAIGN_KILL_S change it."""

from campaigns.serve_kills import serve_campaign

from pipelines.bench.bench import print_rows


def test_a_replica_killed_every_minute_costs_no_request_and_leaves_nothing_behind():
    tally = serve_campaign()
    print_rows("an endpoint whose replicas are killed", [tally.row()])
    assert tally.kills.total() >= 1
    assert tally.faults() == []
