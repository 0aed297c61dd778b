"""Grader `kor`: the rules of the benchmark's evaluator, with its own patterns as the reference, and its real rows."""

import json
import re
from collections import defaultdict

import pytest
from cheap import cheap
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SHARED

from steer.grading import grade
from steer.grading.kor import MAX_READ_CHARS, extract, wrapped
from steer.grading.verdict import MAX_ANSWER_CHARS

DATA = SHARED / "data" / "kor_bench"
SUBSETS = ("cipher", "counterfactual", "logic")

CIPHER = [
    ("[[N]]", "[[N]]", True, "double_brackets:equal"),
    ("so the text is [[ N ]].", "[[N]]", True, "double_brackets:equal"),
    ("[[\nN\n]]", "[[N]]", True, "double_brackets:equal"),
    ("[[W\nC]]", "[[WC]]", True, "double_brackets:equal"),
    ("[[G O S X]]", "[[GOSX]]", True, "double_brackets:equal"),
    ('[["WC"]]', "[[WC]]", True, "double_brackets:equal"),
    ("[[n]]", "[[N]]", False, "double_brackets:different"),
    ("[[N]] or rather [[M]]", "[[M]]", False, "double_brackets:different"),
    ("[[N]] or rather [[M]]", "[[N]]", True, "double_brackets:equal"),
    ("[[[N]]]", "[[N]]", True, "double_brackets:equal"),
    ("[[W];[C]]", "[[W;C]]", True, "double_brackets:equal"),
    ("[[W,C]]", "[[WC]]", False, "double_brackets:different"),
    ("[[W.]]", "[[W]]", False, "double_brackets:different"),
    ("[[W\tC]]", "[[WC]]", False, "double_brackets:different"),
    ("[['W']]", "[[W]]", False, "double_brackets:different"),
    ("[[encrypted answer]] is the form: [[N]]", "[[N]]", False, "double_brackets:different"),
    ("[[]]", "[[N]]", False, "double_brackets:different"),
    ("[[]] then [[N]]", "[[N]]", False, "double_brackets:different"),
    ("[[N", "[[N]]", False, "none"),
    ("]]N[[", "[[N]]", False, "none"),
    ("N", "[[N]]", False, "none"),
    ("", "[[N]]", False, "none"),
    ("[N]", "[[N]]", True, "brackets:equal"),
    ("[ N ] and [M]", "[[M]]", False, "brackets:different"),
    (r"the answer is $\boxed{N}$", "[[N]]", True, "boxed:equal"),
    (r"$\boxed{N}$ then $\boxed{M}$", "[[M]]", False, "boxed:different"),
    (r"[M] but $\boxed{N}$", "[[N]]", True, "boxed:equal"),
    (r"$\boxed{M}$ but [[N]]", "[[N]]", True, "double_brackets:equal"),
    (r"\boxed{N}", "[[N]]", False, "none"),
    (r"\boxed{N} [M]", "[[M]]", True, "brackets:equal"),
    (r"$\boxed{\text{N}}$", "[[N]]", False, "boxed:different"),
    (r"$\boxed{[N]}$", "[[N]]", True, "boxed:equal"),
    ("[[8^26^3]]", "[[8^26^3]]", True, "double_brackets:equal"),
    ("[[23, 53]]", "[[23,53]]", True, "double_brackets:equal"),
    ("[[RXYSSPG$$O$$$$]]", "[[RXYSSPG$$O$$$$]]", True, "double_brackets:equal"),
    ("[[######WH###FI###]]", "[[######WH###FI###]]", True, "double_brackets:equal"),
    ("[[*]]", "[[*]]", True, "double_brackets:equal"),
    ("[[N]]", "N", True, "double_brackets:equal"),
    ("[N]", " N ", True, "brackets:equal"),
    ("[[N\u200b]]", "[[N]]", False, "double_brackets:different"),
    ("[[N\x00]]", "[[N]]", False, "double_brackets:different"),
    ("[[]]", "", False, "double_brackets:different"),
    ("[[" + "N" * 5_000 + "]]", "[[N]]", False, "double_brackets:different"),
    ("[[N" + " " * 5_000 + "]]", "[[N]]", True, "double_brackets:equal"),
    ("[[N]]" + "x" * 200_000 + "[[M]]", "[[N]]", True, "double_brackets:equal"),
    ("x" * MAX_READ_CHARS + "[[N]]", "[[N]]", False, "none"),
]

LOGIC = [
    ("[[A]]", "[[A]]", "8", True, "double_brackets:equal"),
    ("[[A.]]", "[[A]]", "8", True, "double_brackets:equal"),
    ('[["A"]]', "[[A]]", "8", True, "double_brackets:equal"),
    ("[[a]]", "[[A]]", "8", False, "double_brackets:different"),
    ("[A]", "[[A]]", "8", True, "brackets:equal"),
    (r"$\boxed{A}$", "[[A]]", "8", True, "boxed:equal"),
    ("[[B]; [D]; [C]]", "[[B];[D];[C]]", "8", True, "double_brackets:equal"),
    ("[[B];[D];[C]]", "[[B;D;C]]", "8", False, "double_brackets:different"),
    ("[[B];[C];[D]]", "[[B];[D];[C]]", "8", False, "double_brackets:different"),
    ("[B];[D]", "[[B];[D]]", "8", False, "brackets:different"),
    ("[[p1 & p2]; [p3 || p4]]", "[[p1&p2];[p3||p4]]", "1", True, "double_brackets:equal"),
    ("[[Some products are non-top-grade.]]", "[[Someproductsarenon-top-grade.]]", "9", True, "double_brackets:equal"),
    ("[[[c1;c2]φ]]", "[[[c1;c2]φ]]", "15", True, "double_brackets:equal"),
    ("[[1.5]]", "[[15]]", "8", True, "double_brackets:equal"),
    ("[[true]; [false]]", "[[true];[false]]", "8", True, "double_brackets:equal"),
    ("[[B];[A]]", "[[A];[B]]", "5", False, "double_brackets:different"),
    ("[[b;a]]", "[[a;b]]", "5", True, "double_brackets:sorted_parts"),
    ("[[b;a]]", "[[a;b]]", "6", False, "double_brackets:different"),
    ("[[a;b]]", "[[a;b]]", "5", True, "double_brackets:equal"),
    ("[[a;a;b]]", "[[a;b;b]]", "5", False, "double_brackets:different"),
    ("[[I,O];[-,+];[+,-];[+,+]]", "[[I,O];[+,-];[-,+];[+,+]]", "5", True, "double_brackets:sorted_parts"),
    ("[[I, O]; [-, +]; [+, -]; [+, +]]", "[[I,O];[+,-];[-,+];[+,+]]", "5", True, "double_brackets:sorted_parts"),
    ("[[I,O];[+,+];[-,+];[+,-]]", "[[I,O];[+,-];[-,+];[+,+]]", "5", False, "double_brackets:different"),
    ("[[+]]", "[[+]]", "5", True, "double_brackets:equal"),
    ("[[-]]", "[[+]]", "5", False, "double_brackets:different"),
    ("[b;a]", "a;b", "5", True, "brackets:sorted_parts"),
    ("[[A]]", "A.", "8", True, "double_brackets:equal"),
    ("[[.]]", "[[ ]]", "8", False, "double_brackets:different"),
    ("no brackets", "[[A]]", "8", False, "none"),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), CIPHER, ids=range(len(CIPHER)))
@pytest.mark.parametrize("subset", ["cipher", "counterfactual"])
def test_cipher_and_counterfactual(subset, text, gold, correct, rule):
    verdict = grade(text, gold, "kor", {"subset": subset, "rule_id": "5"})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "rule_id", "correct", "rule"), LOGIC, ids=range(len(LOGIC)))
def test_logic(text, gold, rule_id, correct, rule):
    verdict = grade(text, gold, "kor", {"subset": "logic", "rule_id": rule_id})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_answer_is_what_stands_in_the_brackets():
    assert grade("so [[ W C ]]", "[[WC]]", "kor", {"subset": "cipher"}).extracted == "W C"
    assert grade("[[A];[B]]", "[[A];[B]]", "kor", {"subset": "logic"}).extracted == "A];[B"
    assert len(grade("[[" + "N" * 10_000 + "]]", "", "kor", {}).extracted) == MAX_ANSWER_CHARS


def test_a_gold_longer_than_the_stored_answer_can_be_right():
    gold = "[[" + "N" * (2 * MAX_ANSWER_CHARS) + "]]"
    assert grade(gold, gold, "kor", {"subset": "cipher"}).correct


def test_rule_id_may_be_a_number():
    assert grade("[[b;a]]", "[[a;b]]", "kor", {"subset": "logic", "rule_id": 5}).correct


def by_patterns(text):
    """The evaluator's reading, by its three patterns; quadratic and worse, so for short texts only."""
    for pattern in (r"\[\[\s*(.*?)\s*\]\]", r"\$\\boxed\{(.*?)\}\$", r"\[\s*(.*?)\s*\]"):
        if match := re.search(pattern, text, re.DOTALL):
            return match.group(1).strip()
    return None


FRAGMENTS = st.sampled_from(
    ["[[", "]]", "[", "]", "$\\boxed{", "}$", "$", "{", "}", " ", "\n", "N", ";", "\u2003", "\x1c"]
)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_scanner_reads_what_the_patterns_read(text):
    found = extract(text)
    assert (found.text if found else None) == by_patterns(text)
    assert found is None or extract(wrapped(found)).text == found.text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "[[" + " " * 1_000_000,
        "[[ " * 300_000,
        "$\\boxed{" * 120_000,
        "]" * 1_000_000,
        "[ ]]" * 250_000,
    ],
    ids=range(6),
)
def test_hostile_text_is_wrong_and_cheap(text):
    with cheap():
        assert not grade(text, "[[N]]", "kor", {"subset": "logic", "rule_id": "5"}).correct


def real_rows():
    return [
        (subset, json.loads(line))
        for subset in SUBSETS
        for line in (DATA / subset / "sample.jsonl").read_text("utf-8").splitlines()
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_golds_are_right_and_other_golds_are_wrong():
    rows = real_rows()
    golds = defaultdict(list)
    for subset, row in rows:
        golds[subset].append(row["answer"])
    for number, (subset, row) in enumerate(rows):
        gold, labels = row["answer"], {"subset": subset, "rule_id": row["rule_id"]}
        assert grade(f"Step 1.\n\nStep 2, so {gold}.", gold, "kor", labels).correct, gold
        others = golds[subset][number % 50 :: 50]
        for other in {other for other in others if other != gold}:
            verdict = grade(f"Step 1.\n\nStep 2, so {other}.", gold, "kor", labels)
            assert not verdict.correct, (gold, other)
    assert len(rows) >= 600
