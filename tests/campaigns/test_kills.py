"""The kill campaign of docs/reliability.md: 20 SIGKILLs over several runs. Takes about ten minutes."""

from campaigns.kills import QUESTIONS, kill_campaign

from pipelines.bench.bench import print_rows


def test_no_kill_costs_a_row_or_changes_an_answer():
    rows = kill_campaign()
    print_rows("the kill campaign", rows)
    everything = rows[-1]
    assert everything["kills"] == 20
    assert [everything[name] for name in ("lost", "doubled", "changed", "orphans")] == [0] * 4
    assert everything["begun_twice_most"] <= QUESTIONS, "more than one text a live trace was begun again"
