"""Where a thought ends, on made-up texts."""

import time

import pytest

from steer.thoughts import ThoughtSplitter, answer_start, closing_text

TAG = "</think>"
ANSWERS = {
    "one tag": ("Two and two.\n\nFour.\n</think>\n\nIt is 4.", "\n\nIt is 4."),
    "no line break around it": ("four</think>4", "4"),
    "at the very start": ("</think>\n\n4", "\n\n4"),
    "nothing behind it": ("four\n</think>", ""),
    "the opening tag is there too": ("<think>\nfour\n</think>\n4", "\n4"),
    "two tags: the first one ends it": ("a\n</think>\nb\n</think>\nc", "\nb\n</think>\nc"),
    "quoted in code within a line": ("I must write `</think>` at the end.\n\nSo.\n</think>\n4", "\n4"),
    "quoted with other code": ("`a </think> b` and `c`\n</think>4", "4"),
    "between marks": ('The tag "</think>" ends it.\n</think>4', "4"),
    "between curly marks": ("The tag \u201c</think>\u201d ends it.\n</think>4", "4"),
    "a single backtick is no code": ("a ` b </think>4", "4"),
    "code that has ended": ("`x = 1` and done</think>4", "4"),
    "in a block of code": ("```python\nprint('a')  # </think> here\n```\nSo.\n</think>\n4", "\n4"),
    "in a block of another fence": ("~~~\na </think> b\n```\nc </think> d\n~~~\n</think>4", "4"),
    "behind a block": ("```\nx\n```\nfour</think>4", "4"),
    "on the line that ends a block": ("```\nx\n```</think>4", "4"),
    "alone in a block that nobody ended": ("```python\nx = 1\n</think>\n\n```python\ny\n```", "\n\n```python\ny\n```"),
    "code within a line is no fence": ("```x``` is code\nso </think>4", "4"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_begins_behind_the_first_tag_that_is_not_quoted(name):
    text, answer = ANSWERS[name]
    assert text[answer_start(text, TAG) :] == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "four",
        "<think>\nfour",
        "four </THINK>",
        "say `</think>`",
        '"</think>"',
        "```\na </think>\n```\n",
        "</ think>",
    ],
)
def test_a_thought_without_a_tag_of_its_own_does_not_end(text):
    assert answer_start(text, TAG) is None


def test_other_tags_are_taken_as_they_are_written():
    assert answer_start("a[/T](b", "[/T]") == 5
    assert answer_start("a/T(b", "[/T]") is None


def test_a_thought_is_closed_on_a_line_of_its_own_before_a_blank_one():
    for text in ("so far", "so far.\n\n"):
        closed = text + closing_text(text, TAG)
        assert closed.strip().splitlines()[-1] == TAG and closed.endswith("\n\n")
        assert answer_start(closed, TAG) == len(closed) - 2
    assert closing_text("", TAG).strip() == TAG


@pytest.mark.parametrize("part", ["`</think>``", "```\n</think> a\n", '"</think>"', " ", "`", "~~~", "```a`"])
def test_hostile_thoughts_take_linear_time(part):
    text = part * (2_000_000 // len(part))
    started = time.process_time()
    answer_start(text + "x </think", TAG)
    answer_start(text + "\n`</think>`", TAG)
    assert time.process_time() - started < 10.0


class TestSplitter:
    """A response in pieces."""

    def split(self, pieces, tag="</think>"):
        splitter = ThoughtSplitter(tag)
        parts = [*(splitter.feed(piece) for piece in pieces), splitter.end()]
        return "".join(thought for thought, _ in parts), "".join(answer for _, answer in parts)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("I think.\n</think>\n\nIt is 7.\n", ("I think.", "It is 7.\n")),
            ("I think.</think>It is 7.", ("I think.", "It is 7.")),
            ("I write `</think>` here.\n</think>\n\n7", ("I write `</think>` here.", "7")),
            ("never ends\n\nat all\n", ("never ends\n\nat all", "")),
            ("</think>\n\nat once", ("", "at once")),
            ("a\n</think>\nb\n</think>\nc", ("a", "b\n</think>\nc")),
        ],
    )
    def test_as_the_whole_text_is_split(self, text, expected):
        assert self.split([text]) == self.split(text) == expected
        for cut in range(len(text)):
            assert self.split([text[:cut], text[cut:]]) == expected

    def test_a_model_that_does_not_think_only_answers(self):
        assert self.split([" a", "\n</think> b"], tag="") == ("", "a\n</think> b")

    def test_lines_of_a_thought_come_as_they_are_written(self):
        splitter = ThoughtSplitter("</think>")
        assert splitter.feed("one\ntw") == ("one", "") and splitter.feed("o\n") == ("\ntwo", "")
