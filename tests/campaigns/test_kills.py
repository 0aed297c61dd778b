"""The kill campaign of docs/reliability.md: 30 SIGKILLs over several runs. Takes about a quarter of an hour."""

from campaigns.kills import QUESTIONS, kill_campaign

from pipelines.bench.bench import print_rows


def test_no_kill_costs_a_row_or_changes_an_answer():
    rows = kill_campaign()
    print_rows("the kill campaign", rows)
    everything = rows[-1]
    assert everything["kills"] == 20
    assert [everything[name] for name in ("lost", "doubled", "changed", "orphans")] == [0] * 4
    assert everything["begun_twice_most"] <= QUESTIONS, "more than one text a live trace was begun again"


def test_no_kill_costs_a_row_or_a_step_of_a_run_that_writes_on():
    rows = kill_campaign(kills=10, seed=3, ways=("write-on",))
    print_rows("the kill campaign, writing on", rows)
    everything = rows[-1]
    assert everything["kills"] == 10
    assert [everything[name] for name in ("lost", "doubled", "changed", "orphans")] == [0] * 4
    assert everything["begun_twice_most"] <= QUESTIONS, "more than one text a live trace was begun again"
