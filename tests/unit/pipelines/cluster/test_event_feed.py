"""What is printed and kept of the events of replicas."""

import pytest

from pipelines.cluster.events import EventFeed, line
from steer.events import KEPT, Event, EventLog, What


def logs(number):
    made = [EventLog() for _ in range(number)]
    return made, lambda since: [log.since(after) for log, after in zip(made, since, strict=True)]


def test_a_line_says_what_which_replica_where_and_why():
    event = Event(0, 0.0, What.DIED, "small", "small-0", "3f2a91bc" * 7, "the process was killed")
    assert line(event) == "small-0 died and is replaced (node 3f2a91bc): the process was killed"
    assert line(Event(0, 0.0, What.GROWN, "large", "", "", "2 instead of 1")) == "large pool grows: 2 instead of 1"
    assert all(line(event._replace(what=what)) for what in What)


def test_every_event_of_every_router_is_written_once(capsys):
    (first, second), ask = logs(2)
    written = []
    first.note(What.LOADED, "small", "0/small-0")
    with EventFeed(ask, 2, written.extend) as feed:
        feed.flush()
        second.note(What.DIED, "small", "1/small-0", "n", "1/small-0 died: told so")
        feed.flush()
        first.note(What.RELEASED, "small", "0/small-0")
    assert [event.replica for event in written] == ["0/small-0", "1/small-0", "0/small-0"]
    assert written[1].reason == "told so"
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_rows_that_cannot_be_written_are_kept_for_the_next_time():
    (log,), ask = logs(1)
    written = []

    def full(events):
        if not written:
            written.append("refused")
            raise OSError("no space left")
        written.extend(event.what for event in events)

    log.note(What.LOADED, "small", "small-0")
    feed = EventFeed(ask, 1, full)
    feed.flush()
    log.note(What.DIED, "small", "small-0")
    feed.flush()
    assert written == ["refused", What.LOADED, What.DIED]


def test_a_router_that_is_gone_stops_nothing():
    def ask(since):
        raise ConnectionError("gone")

    with EventFeed(ask, 1, pytest.fail) as feed:
        feed.flush()


def test_a_log_keeps_the_last_events_and_short_reasons():
    log = EventLog()
    for number in range(KEPT + 5):
        log.note(What.DIED, "small", f"small-{number}", reason="word " * 1000)
    kept = log.since(0)
    assert (len(kept), kept[0].number, kept[-1].number) == (KEPT, 5, KEPT + 4)
    assert max(len(event.reason) for event in kept) <= 500
