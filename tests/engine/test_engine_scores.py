"""Every measure of every kind of row against transformers in float32, with and without the prefix cache."""

import numpy as np
import pytest
from tiny_models import EOS, EOT, FIRST, SECOND, ask, expected_scores, prompt_ids, reference, rows

from actors.engine.tokenizer import Tokenizer as ModelTokenizer
from steer.confidence import SpanState, chosen_tokens
from steer.messages import Op, Prompt
from steer.traces import AGGREGATES, SCORES, score_index

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
# Longer than one KV block of 32 tokens, so that a continued trace finds a cached prefix.
PROMPT = Prompt("what is the sum of all the numbers from one to ten, please?", system="be brief")
ENDS = {FIRST.token_to_id(EOS), FIRST.token_to_id(EOT)}


def kept(ids):
    return [i not in ENDS for i in ids]


@pytest.mark.parametrize("op", [Op.STEP, Op.WHOLE])
def test_generated_tokens_are_scored_as_transformers_does(small, small_folder, op):
    answer = ask(small, rows(op, [f"written-{op}-{i}" for i in range(12)], 0, (PROMPT,)))
    before = prompt_ids(FIRST, PROMPT)
    for ids, scores in zip(answer.ids_R, answer.scores_RS, strict=True):
        if any(kept(ids)):
            np.testing.assert_allclose(scores, expected_scores(small_folder, before, ids, kept(ids)), atol=TOLERANCE)
        else:
            assert np.isnan(scores).all()


def test_scores_do_not_depend_on_temperature_and_top_p(small, small_folder):
    batch = rows(Op.STEP, ["hot"], 0, (PROMPT,), seeds=[5], temperature=1.7)
    answer = ask(small, batch)
    expected = expected_scores(small_folder, prompt_ids(FIRST, PROMPT), answer.ids_R[0], kept(answer.ids_R[0]))
    np.testing.assert_allclose(answer.scores_RS[0], expected, atol=TOLERANCE)


def test_a_trace_that_switches_models_is_scored_as_if_from_scratch(small, large, small_folder, large_folder):
    """small writes -> large writes -> small scores -> small writes: only the uncached suffix is computed."""
    prefix = prompt_ids(FIRST, PROMPT)
    step_0 = tuple(FIRST.encode("one and two are three.\n\n", add_special_tokens=False).ids)
    first = ask(small, rows(Op.STEP, ["switch"], 0, (PROMPT,)))
    assert first.prompt_tokens_R == [len(prefix)] and first.cached_tokens_R[0] < len(prefix)

    written = ask(large, rows(Op.STEP, ["switch"], 0, (PROMPT, step_0), seeds=[3]))
    assert written.prompt_tokens_R[0] == len(prefix) + len(step_0)
    piece = written.ids_R[0]
    expected = expected_scores(large_folder, [*prefix, *step_0], piece, kept(piece))
    np.testing.assert_allclose(written.scores_RS[0], expected, atol=TOLERANCE)

    step_1 = tuple(
        FIRST.encode("so the whole sum is fifty-five, which is the answer\n\n", add_special_tokens=False).ids
    )
    scored = ask(small, rows(Op.SCORE, ["switch"], 1, (step_0, step_1)))
    expected = expected_scores(small_folder, [*prefix, *step_0], step_1, [True] * len(step_1))
    np.testing.assert_allclose(scored.scores_RS[0], expected, atol=TOLERANCE)
    assert scored.finish_R == ["step"] and scored.tokens_R == [0] and scored.ids_R == [()]
    assert scored.cached_tokens_R[0] >= 32, "the prompt's first block was cached by the first step"
    assert scored.prompt_tokens_R[0] == len(prefix) + len(step_0) + len(step_1) - 1

    went_on = ask(small, rows(Op.STEP, ["switch"], 3, (), seeds=[4]))
    assert went_on.cached_tokens_R[0] >= 64
    before = [*prefix, *step_0, *step_1]
    expected = expected_scores(small_folder, before, went_on.ids_R[0], kept(went_on.ids_R[0]))
    np.testing.assert_allclose(went_on.scores_RS[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize("length", [1, 2, 3, 31, 32, 33, 64, 65])
def test_scoring_again_where_the_cache_covers_the_step(small, small_folder, length):
    """Positions that the cache served have no logits: the second pass has to compute them."""
    prefix = prompt_ids(FIRST, PROMPT)
    piece = tuple((97 + i % 7) for i in range(length))
    batch = rows(Op.SCORE, [f"again-{length}"], 0, (PROMPT, piece))
    once, twice = ask(small, batch), ask(small, batch)
    expected = expected_scores(small_folder, prefix, piece, [True] * length)
    np.testing.assert_allclose(once.scores_RS[0], expected, atol=TOLERANCE)
    np.testing.assert_allclose(twice.scores_RS[0], expected, atol=TOLERANCE)
    passes = twice.prompt_tokens_R[0] / (len(prefix) + length - 1)
    assert passes in (1, 2), "prompt tokens count every pass"
    assert passes == 1 or twice.cached_tokens_R[0] < len(prefix) + length - 1, "and what the first pass had cached"


def test_a_peek_measures_the_next_token_and_keeps_the_prefix(small, small_folder):
    prefix = prompt_ids(FIRST, PROMPT)
    peeked = ask(small, rows(Op.PEEK, ["peeked"], 0, (PROMPT,)))
    z_max, lse, entropy, margin = reference(small_folder, prefix)[-1]
    np.testing.assert_allclose(
        peeked.scores_RS[0], [*(z_max, -entropy, np.exp(z_max - lse), margin) * 4, 1], atol=TOLERANCE
    )
    assert peeked.finish_R == ["step"] and peeked.tokens_R == [1] and peeked.ids_R == [()]
    after = ask(small, rows(Op.STEP, ["peeked"], 1, ()))
    fresh = ask(small, rows(Op.STEP, ["not peeked"], 0, (PROMPT,)))
    assert after.ids_R == fresh.ids_R


def test_max_logit_alone_needs_no_hook_and_gives_the_same_number(small, small_max_logit):
    keys = [f"public-{i}" for i in range(10)]
    piece = tuple(FIRST.encode("one and two are three.\n\n", add_special_tokens=False).ids)
    for batch in (
        rows(Op.STEP, keys, 0, (PROMPT,)),
        rows(Op.WHOLE, keys, 0, (PROMPT,)),
        rows(Op.SCORE, keys, 0, (PROMPT, piece)),
        rows(Op.PEEK, keys, 0, (PROMPT,)),
    ):
        hooked, public = ask(small, batch), ask(small_max_logit, batch)
        assert hooked.ids_R == public.ids_R
        known = [score_index("max_logit", aggregate) for aggregate in AGGREGATES] + [SCORES - 1]
        np.testing.assert_allclose(hooked.scores_RS[:, known], public.scores_RS[:, known], atol=1e-5)
        assert np.isnan(np.delete(public.scores_RS, known, 1)).all()


def test_math_tokens_are_chosen_across_an_open_span(small, small_folder):
    """A LaTeX span opened in one step makes the words of the next one mathematics."""
    opened = tuple(FIRST.encode("so \\(a\n\n", add_special_tokens=False).ids)
    closed = tuple(FIRST.encode("b and c\\) hold\n\n", add_special_tokens=False).ids)
    texts = [FIRST.decode([i]) for i in closed]
    _, state = chosen_tokens("math", [FIRST.decode([i]) for i in opened], [False] * len(opened), SpanState())
    keep, _ = chosen_tokens("math", texts, [False] * len(closed), state)
    alone, _ = chosen_tokens("math", texts, [False] * len(closed), SpanState())
    assert list(keep) != list(alone)
    answer = ask(small, rows(Op.SCORE, ["span"], 0, (PROMPT, opened, closed), tokens="math"))
    before = [*prompt_ids(FIRST, PROMPT), *opened]
    np.testing.assert_allclose(answer.scores_RS[0], expected_scores(small_folder, before, closed, keep), atol=TOLERANCE)


def test_a_step_of_another_tokenizer_is_taken_as_text(small, other, other_folder):
    """ids for one tokenizer, text between two: the piece is encoded by itself, earlier pieces keep their ids."""
    step = "ab ab é∑ are.\n\n"
    written = ask(other, rows(Op.SCORE, ["text"], 0, (PROMPT, "ab ab\n\n", step)))
    # Without a system role the system text opens the user turn.
    user = Prompt(f"{PROMPT.system}\n\n{PROMPT.user}")
    encode = lambda text: SECOND.encode(text, add_special_tokens=False).ids  # noqa: E731
    before, piece = [*prompt_ids(SECOND, user), *encode("ab ab\n\n")], encode(step)
    expected = expected_scores(other_folder, before, piece, [True] * len(piece))
    np.testing.assert_allclose(written.scores_RS[0], expected, atol=TOLERANCE)
    assert written.prompt_tokens_R == [len(before) + len(piece) - 1]


def test_tokenizers_are_told_apart(small, large, other):
    import asyncio

    fingerprints = [asyncio.run(replica.describe()).tokenizer for replica in (small, large, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_piece_without_tokens_has_no_score(small):
    answer = ask(small, rows(Op.SCORE, ["nothing"], 0, (PROMPT, "")))
    assert answer.finish_R == ["step"] and np.isnan(answer.scores_RS).all()


def test_a_sentencepiece_tokenizer_is_read_losslessly():
    """Tokenizers that put a space before a text and strip it again, with bytes for what they do not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [("▁", "a")], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    model_tokenizer = ModelTokenizer(wrapped, [2], system_role=True)
    for text in (" a b\n\n", "b a\n\n", "é a", " b", "a"):
        assert model_tokenizer.decode(model_tokenizer.encode(text)) == text
