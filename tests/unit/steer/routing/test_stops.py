"""Stop strings in a text that comes in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.routing.stops import StopScanner


def scanned(pieces, stops):
    scanner = StopScanner(stops)
    handed = [scanner.feed(piece) for piece in pieces]
    return handed, scanner.end(), scanner.found


def whole(text, stops):
    return min((text.partition(stop)[0] for stop in stops), key=len, default=text)


@pytest.mark.parametrize(
    ("pieces", "stops", "handed", "rest"),
    [
        (["ab", "cd"], (), ["ab", "cd"], ""),
        (["ab", "cd"], ("bc",), ["a", ""], ""),
        (["ab", "dd"], ("bc",), ["a", "bdd"], ""),
        (["ab"], ("bc",), ["a"], "b"),
        (["a", "a", "a", "b"], ("aab",), ["", "", "a", ""], ""),
        (["x\n", "\ny"], ("\n\n",), ["x", ""], ""),
        (["one END two END"], ("END",), ["one "], ""),
        (["abc"], ("bcd", "c"), ["a"], "b"),
        (["abc", "d"], ("bcd", "c"), ["a", ""], ""),
    ],
)
def test_what_is_handed_on_when(pieces, stops, handed, rest):
    assert scanned(pieces, stops)[:2] == (handed, rest)


small_texts = st.text(alphabet="ab\n", max_size=30)


@given(st.lists(st.text(alphabet="ab\n", max_size=4), max_size=12), st.lists(small_texts.filter(len), max_size=3))
def test_pieces_do_not_matter(pieces, stops):
    text = "".join(pieces)
    handed, rest, found = scanned(pieces, stops)
    assert "".join(handed) + rest == whole(text, stops)
    assert found == any(stop in text for stop in stops)


def test_nothing_is_handed_on_after_a_stop():
    scanner = StopScanner(("x",))
    assert [scanner.feed(piece) for piece in ("ax", "b", "x")] == ["a", "", ""] and scanner.end() == ""
