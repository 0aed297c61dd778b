"""5,000 hostile outputs by every grader. Takes some minutes."""

from campaigns.hostile_grading import check, grade_hostile_outputs
from campaigns.hostile_outputs import KINDS

from pipelines.bench.bench import print_rows

COUNT = 5_000
MOST_TIMED_OUT = COUNT // 50
"""Some 40 take the worker's two seconds. Limits that no longer keep a kind from it show in the count."""


def test_hostile_outputs_raise_run_credit_and_hang_nothing(tmp_path):
    campaign = grade_hostile_outputs(COUNT, tmp_path)
    print_rows("hostile outputs", [campaign.row()])
    check(campaign)
    assert campaign.row()["kinds"] == len(KINDS)
    assert campaign.row()["timed_out"] <= MOST_TIMED_OUT
