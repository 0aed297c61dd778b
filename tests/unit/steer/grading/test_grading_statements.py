"""Which statement of a response counts: the last one, where empty boxes and echoes of the instruction are none."""

import pytest

from steer.grading.responses.statements import MAX_STATEMENTS, last_statement, statements

LAST = [
    (r"\boxed{1} The answer is 2.", "2.", "answer_is"),
    (r"The answer is 1. \\boxed{2}", "2", "boxed"),
    (r"The answer is \\boxed{2}.", "2", "boxed"),
    (r"\boxed{The answer is 2}", "The answer is 2", "boxed"),
    (r"\boxed{} The answer is 2.", "2.", "answer_is"),
    (r"The answer is 2. \\boxed{ }", "2.", "answer_is"),
    (r"The answer is 2.\n\nThe answer is \\boxed{}.", "2.", "answer_is"),
    ("The answer is 2.\n\nThe answer is", "2.", "answer_is"),
    ("Answer: 2\nAnswer: ...", "2", "answer_is"),
    ("Answer: 2\nAnswer: [your answer here]", "2", "answer_is"),
    (r"\boxed{2} This answer is correct.", "2", "boxed"),
    ("The answer is right.", "right.", "answer_is"),
    (r"\boxed{}", "", "boxed"),
    (r"\boxed{your answer}", "your answer", "boxed"),
    (r"\boxed{the answer to everything} is what the answer is: 42", "42", "answer_is"),
]
ECHOES = [
    *("", " ", "...", "…", r"\ldots", r"\text{...}", "?", "__", r"\square", r"\,", "$ $", "( )"),
    *("answer", "your answer", r"\text{your answer}", "Your Answer Here", "<your answer>", "[final answer]"),
    *("the final answer", "insert answer here", "your final result", "number here", "YOUR OPTION"),
]
ANSWERS = ["0", "-", "answers", "the number 5", "Answer Me", "no answer", "A", "option A", r"\emptyset", "x", "integer"]


@pytest.mark.parametrize(("text", "content", "where"), LAST, ids=range(len(LAST)))
def test_the_last_statement(text, content, where):
    found = last_statement(text.replace(r"\n", "\n"))
    assert (found.text, found.where) == (content, where)


@pytest.mark.parametrize("echo", ECHOES)
def test_an_empty_box_or_an_echo_beats_no_other_statement(echo):
    for text in (f"\\boxed{{{echo}}} The answer is 7", f"The answer is 7\n\\boxed{{{echo}}}"):
        assert last_statement(text).text == "7"


@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer != "-"])
def test_a_box_with_an_answer_beats_what_stands_before_it(answer):
    assert last_statement(f"The answer is 7\n\\boxed{{{answer}}}").text == answer


def test_without_a_statement_there_is_none():
    assert last_statement("7") is None
    assert last_statement(r"\boxed{7") is None


def test_of_many_statements_the_last_are_read():
    text = "".join(rf"\\boxed{{{i}}}" for i in range(2 * MAX_STATEMENTS))
    assert len(list(statements(text))) == MAX_STATEMENTS
    assert last_statement(text).text == str(2 * MAX_STATEMENTS - 1)
