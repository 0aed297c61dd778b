"""Which tokens of a step count, and the means over them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steer.confidence import CLOSED, SpanState, chosen_tokens, math_mask, step_scores, token_measures
from steer.traces import AGGREGATES, MEASURES, SCORES, score_columns, score_index

# Text dense in what opens, closes and escapes spans.
PIECES = st.sampled_from(
    [
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "$",
        "$$",
        "\\boxed{",
        "\\boxed",
        "\\frac",
        " ",
        "a",
        "7",
        "=",
        "\n\n",
        "\\$",
        "²",
    ]
)
TEXT = st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=40))
OPENERS = [CLOSED, SpanState("\\("), SpanState("\\["), SpanState("$"), SpanState("$$"), SpanState("\\boxed{", 2)]
STATES = st.sampled_from(OPENERS)


def by_character(text, state=CLOSED):
    mask, after = math_mask(list(text), state)
    return "".join("x" if math else "." for math in mask), after


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so we get", "........."),
        ("a 12 b", "..xx.."),
        ("a+b = c", ".x..x.."),
        ("a ≤ b → c", "..x...x.."),
        ("x² and xₙ", ".x......."),
        (r"a \(x y\) b", "..xxxxxxx.."),
        (r"a \[x\] b", "..xxxxx.."),
        ("a $x y$ b", "..xxxxx.."),
        ("a $$x$y$$ b", "..xxxxxxx.."),
        ("$a$$b$ c", "xxxxxx.."),
        (r"is \boxed{a {b} c} d", "...xxxxxxxxxxxxxxx.."),
        (r"\boxed{a\}b} c", "xxxxxxxxxxxx.."),
        (r"\boxed{a\{b} c", "xxxxxxxxxxxx.."),
        (r"\boxed {a} b", "xxxxxxxxxx.."),
        (r"a \times b \, c", "..xxxxxx...xx.."),
        (r"a \$ b $c$", "..xx...xxx"),
        (r"\\(a b", "xx...."),
        (r"(a) [b] {c}", "..........."),
        (r"$\(a$ b", "xxxxx.."),
        ("a \\", "..x"),
    ],
)
def test_math_characters(text, expected):
    mask, after = by_character(text)
    assert mask == expected
    assert after == CLOSED


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("so \\(a\n\n", SpanState("\\(")),
        ("so \\[a\n\n", SpanState("\\[")),
        ("so $a\n\n", SpanState("$")),
        ("so $$a\n\n", SpanState("$$")),
        ("so \\boxed{a {b\n\n", SpanState("\\boxed{", 2)),
    ],
)
def test_a_span_stays_open_into_the_next_step(step, after):
    closer = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$", "\\boxed{": "}}"}[after.opener]
    _, state = math_mask([step])
    assert state == after
    assert by_character("b c", state) == ("xxx", after)
    assert by_character(f"b{closer} c", state) == ("x" * (1 + len(closer)) + "..", CLOSED)


def test_a_delimiter_is_math_only_inside_a_span():
    assert math_mask(["so", "\n\n"])[0].tolist() == [False, False]
    assert math_mask(["\\[", "\n\n"])[0].tolist() == [True, True]


def test_a_span_delimiter_may_be_cut_by_tokens():
    mask, state = math_mask(["so ", "\\", "(", "a b", "\\", ") ", "then"])
    assert mask.tolist() == [False, True, True, True, True, True, False]
    assert state == CLOSED
    assert math_mask(["\\bo", "xed", "{", "a", "}", "b"])[0].tolist() == [True] * 5 + [False]


@given(TEXT, STATES, st.data())
@example("\\(a\\)", CLOSED, None)
def test_the_mask_does_not_depend_on_the_tokenisation(text, state, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8))) if data else [1, 5]
    edges = [0, *cuts, len(text)]
    tokens = [text[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    mask, after = math_mask(tokens, state)
    characters, after_characters = by_character(text, state)
    assert after == after_characters
    assert mask.tolist() == ["x" in characters[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]


@given(TEXT, STATES)
def test_any_text_has_a_mask_and_a_state_to_go_on_from(text, state):
    mask, after = math_mask([text], state)
    assert mask.shape == (1,) and mask.dtype == bool
    assert after.opener in {s.opener for s in OPENERS}
    assert (after.depth > 0) == (after.opener == "\\boxed{")


@given(TEXT)
def test_text_without_backslash_and_dollar_takes_the_same_way_inside_the_general_one(text):
    plain = text.replace("\\", "").replace("$", "")
    # A command in front turns the shortcut off.
    assert "x" + by_character(plain)[0] == by_character("\\!" + plain)[0][1:]


def test_no_tokens_have_an_empty_mask():
    mask, state = math_mask([], SpanState("$"))
    assert mask.shape == (0,) and state == SpanState("$")


# --- chosen tokens --------------------------------------------------------------------------------------------------


def test_math_rule_keeps_math_tokens_and_never_the_end():
    keep, _ = chosen_tokens("math", ["x", " =", " 3", ".", "<|im_end|>"], [False] * 4 + [True])
    assert keep.tolist() == [False, True, True, False, False]


def test_a_step_without_math_falls_back_to_all_its_tokens():
    keep, _ = chosen_tokens("math", ["so", " then", "<|im_end|>"], [False, False, True])
    assert keep.tolist() == [True, True, False]


def test_all_rule_keeps_delimiters_but_not_the_end():
    state = SpanState("$")
    keep, after = chosen_tokens("all", ["so", " 3", "\n\n", "</s>"], [False, False, False, True], state)
    assert keep.tolist() == [True, True, True, False] and after == state


def test_a_step_of_the_end_alone_has_no_score():
    for rule in ("math", "all"):
        keep, _ = chosen_tokens(rule, ["</s>"], [True])
        assert keep.tolist() == [False]
        *scores, tokens = step_scores(np.ones((1, 4)), keep)
        assert np.isnan(scores).all() and tokens == 0


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="neither math nor all"):
        chosen_tokens("words", ["a"], [False])


def test_measures_of_tokens_follow_from_their_logits_and_a_mean_is_over_the_kept_ones():
    logits = np.array([[2.0, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -(p * np.log(p)).sum(1)
    lse = np.log(np.exp(logits).sum(1))
    measures = token_measures(logits.max(1), lse, entropy, np.array([1.0, 5.0, 0.0]))
    scores = step_scores(measures, np.array([True, False, True]))
    expected = (1.0, -(entropy[0] + entropy[2]) / 2, (p[0].max() + p[2].max()) / 2, 0.5)
    assert scores[: len(MEASURES)] == pytest.approx(expected, rel=1e-12) and scores[-1] == 2
    assert len(scores) == SCORES == len(score_columns("small"))


def by_aggregate(values, keep=None):
    """The scores of tokens with these margins, by aggregate."""
    measures = np.repeat(np.asarray(values, float)[:, None], len(MEASURES), 1)
    scores = step_scores(measures, np.ones(len(values), bool) if keep is None else keep)
    return {aggregate: scores[score_index("margin", aggregate)] for aggregate in AGGREGATES}


def test_aggregates_see_one_low_token_a_low_stretch_and_the_lowest_tenth():
    one_low = np.full(60, 5.0)
    one_low[30] = -55.0
    stretch = np.full(60, 5.0)
    stretch[20:36] = 1.0
    assert by_aggregate(one_low) == pytest.approx(
        {"mean": 4.0, "min": -55.0, "window": (15 * 5 - 55) / 16, "tenth": (5 * 5 - 55) / 6}
    )
    found = by_aggregate(stretch)
    assert found["window"] == pytest.approx(1.0) and found["min"] == found["tenth"] == 1.0 < found["mean"]
    assert by_aggregate([3.0, 1.0]) == {"mean": 2.0, "min": 1.0, "window": 2.0, "tenth": 1.0}


def test_a_window_skips_tokens_that_are_not_kept():
    values = np.full(40, 5.0)
    values[::2] = -9.0
    keep = np.arange(40) % 2 == 1
    assert by_aggregate(values, keep) == dict.fromkeys(AGGREGATES, 5.0)


def test_excluded_tokens_may_hold_garbage_and_unmeasured_ones_stay_nan():
    measures = np.array([[3.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    scores = step_scores(measures, np.array([True, False]))
    for aggregate in AGGREGATES:
        assert scores[score_index("max_logit", aggregate)] == 3.0
        assert np.isnan([scores[score_index(measure, aggregate)] for measure in MEASURES[1:]]).all()
