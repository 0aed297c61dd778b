"""Every grader on texts that nobody meant to write: it never raises, what it extracts can be stored, and an answer that
is written again in the form its grader reads first is extracted again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.grading import GRADERS, aime, choice, exact, grade, kor, qa
from steer.grading.answers import answer_is, boxed, response_end
from steer.grading.verdict import MAX_TEXT_CHARS

FRAGMENTS = st.sampled_from(
    [
        *(
            "\\boxed{",
            "\\boxed {",
            "\\fbox{",
            "\\\\boxed{",
            "\\text{",
            "\\textbf{",
            "\\frac{1}{2}",
            "\\mathbf{B}",
            "\\",
        ),
        *("{", "}", "\\{", "\\}", "[[", "]]", "[", "]", "$", "$\\boxed{", "}$", "(", ")", "^\\circ", "\\ ", "\\,"),
        *("answer is", "Answer:", "**Answer**:", "The final answer is ", "answer", "is", "**", "*", ":", ";", ",", "."),
        *("A", "B", "b", "(C)", "D. ", "A car", "I think", "option B", "All", "go to l1", "go", "and", "or"),
        *("0", "033", "7", "1,234", "999", "-5", "1/2", "2.5", "=", "x=5", "+", "−3", "٣", "²"),
        *("the", "Ada Moss", "É", "e\u0301", "\u0301", "“", "’", "–", "\u200b", "\u202e", "\u2066", "\ufeff", "\x00"),
        *("\ud800", "\r\n", "\n", "\n\n", "\t", " ", "\u00a0", "\u2028", "👍🏽"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(FRAGMENTS, max_size=14).map("".join),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=4)), max_size=10).map("".join),
    st.lists(FRAGMENTS, max_size=8).map(" ".join),
)
OPTIONS = ["go to l1", "go", "go to l1 and stay", "A car is at l1"]
LABELS = [
    {},
    {"aliases": ["Ada", ""], "options": OPTIONS, "subset": "logic", "rule_id": "5"},
    {"official": True, "letters": "ABCDEFGHI", "subset": "cipher", "rule_id": "1"},
]
fuzzed = settings(derandomize=True, max_examples=300, deadline=None)


@pytest.mark.parametrize("grader", GRADERS)
@settings(derandomize=True, max_examples=200, deadline=None)
@given(text=TEXTS, gold=TEXTS, labels=st.sampled_from(LABELS))
def test_a_grader_returns_a_verdict_for_any_text_and_any_gold(grader, text, gold, labels):
    verdict = grade(text, gold, grader, labels)
    verdict.extracted.encode("utf-8")
    assert verdict.rule
    assert isinstance(verdict.correct, bool)
    assert verdict == grade(text, gold, grader, labels)
    if grader == "qa":
        assert 0.0 <= verdict.f1 <= 1.0
        assert verdict.f1 == 1.0 or not verdict.correct
    else:
        assert verdict.f1 is None


def rewritten(found):
    """A statement as its grader would be told it: in a box, after "answer is", or bare."""
    return {"boxed": "\\boxed{%s}", "answer_is": "The answer is %s"}.get(found.where, "%s") % found.text


@pytest.mark.parametrize("extract", [exact.extract, qa.extract, aime.extract], ids=["exact", "qa", "aime"])
@fuzzed
@given(text=TEXTS)
def test_a_statement_written_again_is_extracted_again(extract, text):
    found = extract(text)
    # "The answer is" and nothing behind it says nothing.
    if found and (found.text or found.where == "boxed"):
        assert extract(rewritten(found))[:2] == found[:2]


@fuzzed
@given(text=TEXTS)
def test_extraction_of_an_integer_is_idempotent(text):
    found = aime.extract(text)
    if found and aime.integer(found.text).kind == "integer":
        assert aime.extract(found.text).text == found.text
        assert aime.extract(f"\\boxed{{{found.text}}}").text == found.text


@fuzzed
@given(text=TEXTS)
def test_extraction_of_a_short_answer_is_idempotent(text):
    found = qa.extract(text)
    if found and found.text:
        assert qa.extract(found.text).text == found.text


@fuzzed
@given(text=TEXTS, letters=st.sampled_from(["AB", "ABCD", "ABCDEFGHI"]), options=st.sampled_from([(), OPTIONS]))
def test_extraction_of_a_letter_is_idempotent(text, letters, options):
    chosen = choice.extract(text, letters, options)
    if chosen:
        assert choice.extract(f"\\boxed{{{chosen.text}}}", letters, options).text == chosen.text
        if len(chosen.text) == 1:
            assert choice.extract(chosen.text, letters, options).text == chosen.text
            assert choice.last_capital(chosen.text, letters).text == chosen.text


@fuzzed
@given(text=TEXTS)
def test_extraction_from_brackets_is_idempotent(text):
    found = kor.extract(text)
    if found:
        again = kor.extract(kor.wrapped(found))
        assert (again.text, again.where) == (found.text, found.where)


def balanced(text):
    depth = 0
    for char in text.replace("\\\\", "").replace("\\{", "").replace("\\}", ""):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0 and not text.endswith("\\")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(text=TEXTS)
def test_extraction_of_a_formula_is_idempotent(text):
    # A box has no space at its ends, whatever other place the formula was read from.
    extracted = grade(text, "5", "math", {}).extracted.strip()
    if extracted and balanced(extracted):
        assert grade(f"\\boxed{{{extracted}}}", "5", "math", {}).extracted == extracted


@fuzzed
@given(text=TEXTS, before=TEXTS)
def test_a_box_behind_any_text_is_the_answer_of_every_grader_that_reads_boxes(text, before):
    # A box that was opened and never closed would take the closing brace of a later one only if that had none.
    assert boxed(response_end(before) + " \\boxed{033}").text == "033"
    assert grade(before + " \\boxed{033}", "33", "aime", {}).correct
    assert grade(before + " \\boxed{ Ada }", "Ada", "qa", {}).correct
    assert grade(before + " \\boxed{B}", "B", "choice", {}).correct
    said = answer_is(response_end(text) + "\nthe answer is yes")
    assert said.text == "yes"


@fuzzed
@given(text=TEXTS, behind=TEXTS)
def test_the_first_double_brackets_are_the_answer_whatever_follows(text, behind):
    text = text.replace("[", "").replace("\\boxed", "")
    assert grade(f"{text}[[ W C ]]{behind}", "[[WC]]", "kor", {"subset": "cipher"}).correct


@pytest.mark.parametrize("grader", GRADERS)
def test_a_response_of_the_greatest_length_is_read_at_its_end(grader):
    end = {"kor": "", "choice": "\\boxed{B}"}.get(grader, "\\boxed{33}")
    start = "[[33]]" if grader == "kor" else ""
    text = start + "word " * MAX_TEXT_CHARS + end
    assert grade(text, "B" if grader == "choice" else "33", grader, {}).correct
