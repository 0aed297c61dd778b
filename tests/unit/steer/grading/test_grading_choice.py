"""Grader `choice`: letters as models write them, texts of options, the harness's own rule, and real ACPBench rows."""

import json

import pytest
from cheap import cheap
from paths import SHARED

from steer.grading import grade
from steer.grading.choice import extract

DATA = SHARED / "data" / "acpbench"

LETTERS = [
    (r"\boxed{B}", "B", True, "boxed"),
    (r"\boxed{b}", "B", True, "boxed"),
    (r"\boxed {B}", "B", True, "boxed"),
    (r"\fbox{B}", "B", True, "boxed"),
    (r"\\boxed{B}", "B", True, "boxed"),
    (r"$\boxed{\text{B}}$", "B", True, "boxed"),
    (r"\boxed{\mathbf{B}}", "B", True, "boxed"),
    (r"\boxed{\textbf{(B)}}", "B", True, "boxed"),
    (r"\boxed{(B)}", "B", True, "boxed"),
    (r"\boxed{**B**}", "B", True, "boxed"),
    (r"\boxed{B.}", "B", True, "boxed"),
    (r"\boxed{\text{B) }}", "B", True, "boxed"),
    (r"\boxed{\text{(C)}}", "C", True, "boxed"),
    (r"\boxed{D. the last one}", "D", True, "boxed"),
    (r"\boxed{Option B}", "B", True, "boxed"),
    (r"\boxed{\boxed{B}}", "B", True, "boxed"),
    (r"\boxed{A} no, \boxed{B}", "B", True, "boxed"),
    (r"\boxed{B} and then \boxed{never closed", "B", True, "boxed"),
    (r"\boxed{B} The answer is clear.", "B", True, "boxed"),
    (r"\boxed{A} but the answer is B", "B", True, "answer_is"),
    (r"the answer is A, that is \boxed{B}", "B", True, "boxed"),
    (r"\boxed{B} and \boxed{42}", "B", True, "boxed"),
    (r"\boxed{A, B}", "A", False, "boxed:several"),
    (r"\boxed{A and B}", "B", False, "boxed:several"),
    (r"\boxed{\text{A}, \text{B}} so C", "C", False, "boxed:several"),
    (r"\boxed{B, B}", "B", True, "boxed"),
    (r"\boxed{All}", "A", False, "none"),
    (r"\boxed{}", "A", False, "none"),
    (r"\boxed{E}", "E", False, "none"),
    (r"\boxed{A car is at l1}", "A", False, "none"),
    ("The answer is B.", "B", True, "answer_is"),
    ("The answer is B because A and C fail.", "B", True, "answer_is"),
    ("The answer is A because C fails.", "A", True, "answer_is"),
    ("Answer: (b)", "B", True, "answer_is"),
    ("Answer: b) travel by sea", "B", True, "answer_is"),
    ("**Answer**: **B**", "B", True, "answer_is"),
    ("**Final Answer:** B", "B", True, "answer_is"),
    ("ANSWER IS: B", "B", True, "answer_is"),
    ("The final answer is:\n\nB", "B", True, "answer_is"),
    ("The answer is [[B]]", "B", True, "answer_is"),
    ("the answer is: **option C**", "C", True, "answer_is"),
    ("The correct answer is the option (c).", "C", True, "answer_is"),
    ("The answer is A. No: the answer is B.", "B", True, "answer_is"),
    ("The answer is B. I hope that this answer is helpful, or else A or C.", "B", True, "answer_is"),
    ("The answer is A or B.", "A", False, "answer_is:several"),
    ("the answer is a lack of B", "B", True, "last_letter"),
    ("the answer isn't A but B", "B", True, "verdict"),
    ("Answer: A car is at l1", "A", False, "none"),
    ("Either A or C, so C", "C", True, "verdict"),
    ("So I choose **B**", "B", True, "last_letter"),
    ("B", "B", True, "last_letter"),
    ("(B)", "B", True, "last_letter"),
    ("B)", "B", True, "last_letter"),
    ("Hence option B", "B", True, "last_letter"),
    ("Therefore A is right.", "A", True, "last_letter"),
    ("A is right.", "A", True, "last_letter"),
    ("Take B.\nA car is then at l1.", "B", True, "last_letter"),
    ("Take B. A ferry moves.", "B", True, "last_letter"),
    ("I take A for that reason", "A", True, "last_letter"),
    ("B\u200b", "B", True, "last_letter"),
    ("\u202eB\u202c", "B", True, "last_letter"),
    ("All of it, Because", "A", False, "none"),
    ("A1 and B_2, D-day, C's", "A", False, "none"),
    ("Washington D.C. and É", "D", False, "none"),
    ("a", "A", False, "none"),
    ("Α В С", "A", False, "none"),
    ("I do not know", "A", False, "none"),
    ("", "A", False, "none"),
]

OPENS = [
    ("C\n\nA cannot be, because the crane is at the other depot.", "C", True, "opening_letter"),
    ("**C**\n\nIn A the crate is still in the truck.", "C", True, "opening_letter"),
    ("Option C\n\nNeither A nor B can be loaded.", "C", True, "opening_letter"),
    ("(C) because A needs an empty truck", "C", True, "opening_letter"),
    ("[C] A would need an empty truck.", "C", True, "opening_letter"),
    ("C since B takes two trucks", "C", True, "opening_letter"),
    ("C: in A and B the crane is busy", "C", True, "opening_letter"),
    ("C - A takes longer", "C", True, "opening_letter"),
    ("C) lift the crate. A) takes longer.", "C", True, "opening_letter"),
    ("(c) as (a) takes longer", "C", True, "opening_letter"),
    ("\\textbf{(C)}: \\textbf{(A)} takes longer", "C", True, "opening_letter"),
    ("A\n\nB takes longer.", "A", True, "opening_letter"),
    ("C\nA: too long\nB: too long\nD: too long", "C", True, "opening_letter"),
    ("C。AとBは時間がかかる。", "C", True, "opening_letter"),
    # The options are gone through from the first on.
    ("A. lift: takes longer.\nB. drop: the shortest.\n\nSo B.", "B", True, "verdict"),
    ("A. takes longer. B. is the shortest. C. takes longer.", "A", False, "last_letter"),
    ("A crane is needed, then B", "B", True, "last_letter"),
    ("A and B both take longer than C", "C", True, "last_letter"),
]
VERDICTS = [
    ("So C holds. The rest (A, B, D) fail.", "C", True, "verdict"),
    ("I choose C. Options A and D are wrong.", "C", True, "verdict"),
    ("**C** is correct: A and D take two trucks.", "C", True, "verdict"),
    ("Choice (C) is right. (D) isn't.", "C", True, "verdict"),
    ("Option C is what we need; D and B are not", "C", True, "verdict"),
    ("I would go with C rather than D.", "C", True, "verdict"),
    ("The correct option is (c). Option (d) takes longer.", "C", True, "verdict"),
    ("The correct choice is c and (d) is out", "C", True, "verdict"),
    ("The best option is C, D being longer", "C", True, "verdict"),
    ("Only C works: A, B, and D break the rule.", "C", True, "verdict"),
    ("That leaves C, as A, B and D have been ruled out.", "C", True, "verdict"),
    ("A: wrong\nB: wrong\nC: right\nD: wrong", "C", True, "verdict"),
    ("A ✗, B ✗, C ✓, D ✗", "C", True, "verdict"),
    ("A is right? No, the crane is busy. C is right, not D.", "C", True, "verdict"),
    ("If A is right, the truck is full. It is empty. Hence C, and not B.", "C", True, "verdict"),
    ("It cannot be D, so it must be C.", "C", True, "verdict"),
    ("C is right, I thought; but in fact B is right.", "B", True, "verdict"),
    ("D is not the right one, so take C.", "C", True, "verdict"),
    ("A. Wait, actually B.", "B", True, "verdict"),
    ("\\mathrm{C} is right, \\mathrm{A} is wrong", "C", True, "verdict"),
    ("A fails, B fails, C reaches it, D fails", "C", True, "last_letter"),
    ("A is excluded. With C one gets there. Not D.", "C", True, "last_letter"),
    ("Option A (lift) is wrong.\nOption B (drop) is right.\nOption C (move) is wrong.", "B", True, "verdict"),
    # Denied, hedged, or asked.
    ("I do not choose C.", "C", False, "none"),
    ("It is not C.", "C", False, "none"),
    ("C is wrong, D is right", "C", False, "verdict"),
    ("B or C", "C", False, "last_letter:several"),
    ("Either B or C.", "C", False, "last_letter:several"),
    ("I think it is B or C.", "C", False, "verdict:several"),
    ("Both B and C are correct.", "C", False, "verdict:several"),
    ("B, C", "C", False, "last_letter:several"),
    ("The answer is either B or C, hard to say", "C", False, "answer_is:several"),
    (r"\boxed{\text{B or C}}", "C", False, "boxed:several"),
    (r"\boxed{b or c}", "C", False, "boxed:several"),
]
SMALL = [
    ("The correct option is (c).", "C", True, "last_letter"),
    ("option c", "C", True, "last_letter"),
    ("So choice (c) remains.", "C", True, "last_letter"),
    ("Answer: c", "C", True, "answer_is"),
    ("Answer: c, as the crane is busy", "C", True, "answer_is"),
    ("The correct choice is: c", "C", True, "last_letter"),
    ("option a", "A", True, "last_letter"),
    ("The option a driver takes", "A", False, "none"),
    ("c", "C", False, "none"),
    ("f(c) = 3", "C", False, "none"),
]
OTHER_SCRIPTS = [
    ("정답은 C입니다.", "C", True, "last_letter"),
    ("정답은 C이고 A는 오답입니다.", "C", True, "verdict"),
    ("C번이 정답이고 A번은 틀립니다.", "C", True, "verdict"),
    ("正确答案是C。", "C", True, "last_letter"),
    ("答案：C。A、B都不对。", "C", True, "verdict"),
    ("应选C，而不是A", "C", True, "verdict"),
    ("答えはCです。", "C", True, "last_letter"),
    ("Cが正解で、Aは間違いです。", "C", True, "verdict"),
    ("Правильный ответ: C, вариант A неверен.", "C", True, "verdict"),
    ("الإجابة الصحيحة هي C وليس A", "C", True, "verdict"),
    ("La respuesta correcta es C, no A.", "C", True, "verdict"),
    ("Die Antwort ist C, denn A ist falsch.", "C", True, "verdict"),
    ("Cevap C'dir.", "C", True, "last_letter"),
    ("Ｃ", "C", True, "last_letter"),
    ("Answer：（Ｃ）", "C", True, "answer_is"),
    ("【C】", "C", True, "last_letter"),
    ("Ⓒ", "C", True, "last_letter"),
    ("Cтатья", "C", True, "last_letter"),
    ("Cé", "C", False, "none"),
]
LAST_STATEMENT = [
    (r"Put the letter into \boxed{}. The answer is C.", "C", True, "answer_is"),
    (r"\boxed{your answer} then: the answer is C", "C", True, "answer_is"),
    (r"The answer is C. \boxed{\ldots}", "C", True, "answer_is"),
    (r"\boxed{} C is right, A is wrong.", "C", True, "verdict"),
    ("Answer: A. Wait, it should be C.", "C", True, "correction"),
    (r"\boxed{A} Hmm, actually C.", "C", True, "correction"),
    (r"\boxed{C} No, A cannot be.", "C", True, "boxed"),
    (r"\boxed{C} Wait, A is wrong, so it stays.", "C", True, "boxed"),
]

FERRY = ("travel by sea from l2 to l1", "the ferry is at l1", "the ferry is at l1 and c2 is at l0", "A car is at l1")
QUOTED = [
    (r"\boxed{travel by sea from l2 to l1}", "A", True, "boxed:option"),
    (r"\boxed{\text{Travel  by sea from l2 to l1.}}", "A", True, "boxed:option"),
    (r"\boxed{travel by sea from l2 to l1} and not B", "A", True, "boxed:option"),
    (r"\boxed{the ferry is at l1}", "B", True, "boxed:option"),
    (r"\boxed{the ferry is at l1 and c2 is at l0}", "C", True, "boxed:option"),
    (r"\boxed{A car is at l1}", "D", True, "boxed:option"),
    (r"\boxed{A. travel by sea from l2 to l1}", "A", True, "boxed"),
    (r"\boxed{A travel by sea from l2 to l1}", "A", True, "boxed:option"),
    (r"\boxed{B: travel by sea from l2 to l1}", "B", True, "boxed"),
    ("The answer is: travel by sea\nfrom l2. B", "B", True, "last_letter"),
    ("The answer is: travel by sea from l2 to l1.", "A", True, "answer_is:option"),
    ("The answer is that the ferry is at l1 and c2 is at l0.", "C", True, "answer_is:option"),
    ("Answer: A car is at l1", "D", True, "answer_is:option"),
    ("It would be to Travel by\nsea from l2 to L1.", "A", True, "quoted_option"),
    ("the ferry is at l1, no: the ferry is at l1 and c2 is at l0", "C", True, "quoted_option"),
    ("the ferry is at l1 and c2 is at l0, no: the ferry is at l1", "B", True, "quoted_option"),
    ("travel by sea from l2 to l1, or the ferry is at l1", "B", True, "quoted_option"),
    ("of these I take A car is at l1", "D", True, "quoted_option"),
    ("B, so the ferry is at l1 and c2 is at l0", "B", True, "last_letter"),
    ("travel by sea from l2 to l12", "A", False, "none"),
    ("`travel by sea from l2 to l1`", "A", True, "quoted_option"),
]

OFFICIAL = [
    ("The answer is B. A car is at l1", "A", True, "official"),
    ("B, Because", "B", True, "official"),
    (r"\boxed{B} Because All", "A", True, "official"),
    (r"\boxed{b}", "B", False, "none"),
    ("no Capital", "C", True, "official"),
    ("E", "E", False, "none"),
    ("", "A", False, "none"),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), LETTERS, ids=range(len(LETTERS)))
def test_letters(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), OPENS, ids=range(len(OPENS)))
def test_the_letter_that_opens_a_response_beats_those_of_its_explanation(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), VERDICTS, ids=range(len(VERDICTS)))
def test_a_stated_choice_beats_letters_that_are_mentioned_or_denied(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), SMALL, ids=range(len(SMALL)))
def test_a_small_letter_counts_in_brackets_and_after_the_word_option(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), OTHER_SCRIPTS, ids=range(len(OTHER_SCRIPTS)))
def test_letters_beside_words_of_other_scripts_and_languages(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {"letters": "ABCDE"})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), LAST_STATEMENT, ids=range(len(LAST_STATEMENT)))
def test_the_last_statement_counts_and_an_empty_box_is_none(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_the_order_of_an_explanation_does_not_matter():
    for wrong in (("A", "B", "D"), ("D", "B", "A")):
        denials = " ".join(f"Option {letter} is incorrect, since the crane is busy." for letter in wrong)
        for text in (f"Option C is correct. {denials}", f"{denials} Option C is correct."):
            assert grade(text, "C", "choice", {}).correct
            assert not any(grade(text, letter, "choice", {}).correct for letter in wrong)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), QUOTED, ids=range(len(QUOTED)))
def test_texts_of_options(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {"options": FERRY})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), OFFICIAL, ids=range(len(OFFICIAL)))
def test_the_harness_takes_the_last_capital_anywhere(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {"official": True})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_answer_is_a_letter_or_the_several_that_were_named():
    assert grade("Answer: (b)", "B", "choice", {}).extracted == "B"
    assert grade(r"\boxed{A, B}", "B", "choice", {}).extracted == "A, B"
    assert grade("no", "B", "choice", {}).extracted == ""


def test_only_letters_that_the_question_has_are_read():
    assert grade("so E", "E", "choice", {"letters": "ABCDE"}).correct
    assert grade("A, not E", "A", "choice", {}).correct
    assert grade("B. I think so", "B", "choice", {"letters": "ABCDEFGHI"}).correct
    assert grade("so I is right", "I", "choice", {"letters": "ABCDEFGHI"}).correct
    assert grade("B", " b ", "choice", {}).correct


def test_options_that_are_letters_themselves_do_not_take_the_place_of_letters():
    assert extract(r"\boxed{A}", "ABCD", ["B", "A", "D", "C"]).text == "A"
    assert extract("so B", "ABCD", ["B", "A", "D", "C"]).text == "B"
    assert extract(r"\boxed{7}", "ABCD", ["5", "7"]).text == "B"
    assert extract(r"\boxed{B is on top of C}", "ABC", ["C is clear", "A is clear", "B is on top of C"]).text == "C"


def test_options_of_one_word_are_still_words_of_a_phrase():
    options = ["wait", "correct", "no", "move"]
    assert extract("Answer: A. Wait, it should be C.", "ABCD", options) == ("C", "correction")
    assert extract("C is correct, not A.", "ABCD", options) == ("C", "verdict")
    assert extract("I would move", "ABCD", options) == ("D", "quoted_option")


def test_a_text_that_two_options_share_names_neither():
    assert extract(r"\boxed{go}", "ABC", ["go", "stay", "go"]) is None
    assert extract(r"\boxed{stay}", "ABC", ["go", "stay", "go"]).text == "B"
    assert extract(r"\boxed{go or stay}", "ABC", ["go or stay", "stay", "go or stay"]) is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{B" * 30_000,
        "answer is " * 30_000,
        "answer: (" * 30_000,
        "A " * 100_000,
        "travel by sea from " * 10_000,
        r"\text{" * 40_000,
        r"\boxed{" + "(A)," * 400 + "x}",
        "[" * 200_000,
        "A, B and " * 20_000,
        "wait, it is A. " * 10_000,
        r"\boxed{A} " + "wait, it is " * 10_000,
        "A is " + "the " * 50_000,
    ],
    ids=range(12),
)
@pytest.mark.parametrize("official", [False, True])
def test_hostile_text_is_wrong_and_cheap(text, official):
    with cheap():
        assert not grade(text, "D", "choice", {"options": FERRY, "official": official}).correct


def real_rows():
    return [row for path in sorted(DATA.glob("*/*.mcq.json")) for row in json.loads(path.read_text("utf-8"))]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_golds_are_right_and_other_letters_are_wrong():
    rows = real_rows()
    for row in rows:
        assert row["choices"]["label"] == list("ABCD")
        labels = {"letters": "ABCD", "options": row["choices"]["text"]}
        for letter in "ABCD":
            right = letter == row["answer"]
            for form in (r"So all of it: \boxed{%s}", "The answer is %s.", "Because of that, %s"):
                assert grade(form % letter, row["answer"], "choice", labels).correct == right, (form, row["id"])
    assert len(rows) >= 900


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_options_quoted_by_their_text():
    quoted = 0
    for row in real_rows():
        options = row["choices"]["text"]
        for letter, option in zip("ABCD", options, strict=True):
            for form in (r"\boxed{%s}", r"\boxed{\text{%s}}", "The answer is: %s.", "I believe that %s would do"):
                verdict = grade(form % option, row["answer"], "choice", {"options": options})
                named = letter if options.count(option) == 1 else ""
                assert verdict.extracted == named, (form, option)
                assert verdict.correct == (named == row["answer"])
                quoted += 1
    assert quoted >= 14_000
