"""The kill campaign of docs/reliability.md: 40 SIGKILLs over several runs. Takes about half an hour."""

from campaigns.kills import kill_campaign, most_begun_twice

from pipelines.bench.bench import print_rows
from pipelines.bench.storage import s3_server, store_environ


def assert_clean(everything, kills, on_s3=False):
    assert everything["kills"] == kills
    assert [everything[name] for name in ("lost", "doubled", "changed", "orphans")] == [0] * 4
    assert everything["begun_twice_most"] <= most_begun_twice(on_s3), "a kill cost more than the last step of a trace"


def test_no_kill_costs_a_row_or_changes_an_answer():
    rows = kill_campaign()
    print_rows("the kill campaign", rows)
    assert_clean(rows[-1], kills=20)


def test_no_kill_costs_a_row_or_a_step_of_a_run_that_writes_on():
    rows = kill_campaign(kills=10, seed=3, ways=("write-on",))
    print_rows("the kill campaign, writing on", rows)
    assert_clean(rows[-1], kills=10)


def test_no_kill_costs_a_row_or_changes_an_answer_of_a_run_on_an_object_store(monkeypatch):
    with s3_server() as store:
        for name, value in store_environ(store.url).items():
            monkeypatch.setenv(name, value)
        rows = kill_campaign(kills=10, seed=5, on_s3=True)
    print_rows("the kill campaign, on S3", rows)
    assert_clean(rows[-1], kills=10, on_s3=True)
