"""A judge's digit beside the writing of others: what it reads, what it leaves behind, and when it says nothing."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import EOS, FIRST, TEMPLATE, ask, conversation, messages, prompt_ids, rows
from tiny_signals import STEPS, digit_logits, encode, expected_digit, signals

from actors.engine.judge import Judge
from actors.engine.tokenizer import Tokenizer as ModelTokenizer
from steer.messages import Op, Prompt

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
JUDGE_TOLERANCE = 1e-4
"""A tiny model's answer depends mostly on the token before it, which is always the same."""
PROMPT = Prompt("what is the sum of all the numbers from one to ten, please?", system="be brief")
QUESTION = "is the last step right? one digit."


def pieces(*texts):
    return tuple(tuple(encode(FIRST, text)) for text in texts)


def judging(*args, greedy=False, **options):
    batch = rows(Op.JUDGE, *args, **options)
    return replace(batch, sampling=replace(batch.sampling, judge_prompt=QUESTION, greedy_judge=greedy))


def judged_logits(folder, *steps):
    ids = [*prompt_ids(FIRST, PROMPT), *encode(FIRST, *steps, f"<user>{QUESTION}<a>")]
    return digit_logits(folder, ids, encode(FIRST, *"0123456789"))


@pytest.mark.parametrize("name", ["small", "small_max_logit"])
def test_a_judge_gives_the_expected_digit_with_and_without_the_hook(request, name, small_folder):
    replica = request.getfixturevalue(name)
    prefixes = [(PROMPT, *pieces(*STEPS[:n])) for n in (1, 2, 3)]
    logits = [judged_logits(small_folder, *STEPS[:n]) for n in (1, 2, 3)]
    keys = [f"judged-{n}" for n in range(3)]
    (answer,) = messages(replica, judging(keys, 0, prefixes))
    assert np.ptp([expected_digit(z) for z in logits]) > 10 * JUDGE_TOLERANCE
    order = np.argsort(answer.row_R)
    np.testing.assert_allclose(
        np.array(answer.signal_R)[order], [expected_digit(z) for z in logits], atol=JUDGE_TOLERANCE, rtol=0
    )
    greedy = signals(replica, judging(keys, 0, prefixes, greedy=True))
    assert greedy.tolist() == [z.argmax() for z in logits]
    assert answer.finish_R == ["step"] * 3 and answer.text_R == [""] * 3 and answer.ids_R == [()] * 3
    assert answer.tokens_R == [1] * 3 and np.isnan(answer.scores_RS).all()


def test_a_judge_leaves_the_prefix_and_its_cache_as_they_were(small):
    first = ask(small, rows(Op.STEP, ["kept"], 0, (PROMPT,), seeds=[9]))
    length = len(prompt_ids(FIRST, PROMPT)) + len(first.ids_R[0])
    (judged,) = messages(small, judging(["kept"], 2, ()))
    turn = len(encode(FIRST, f"<user>{QUESTION}<a>"))
    assert judged.prompt_tokens_R == [length + turn]
    assert judged.cached_tokens_R[0] >= (length - 1) // 32 * 32, "only the draft's end and the turn are computed"
    went_on = ask(small, rows(Op.STEP, ["kept"], 2, (), seeds=[10]))
    unjudged = ask(small, rows(Op.STEP, ["unjudged"], 0, (PROMPT, first.ids_R[0]), seeds=[10]))
    assert went_on.ids_R == unjudged.ids_R and went_on.prompt_tokens_R == [length]


def test_a_draft_that_ends_the_trace_is_judged_without_its_end(small):
    ended = (*pieces(STEPS[0])[0], FIRST.token_to_id(EOS))
    batch = judging(["open", "ended"], 0, [(PROMPT, *pieces(STEPS[0])), (PROMPT, ended)])
    open_, closed = signals(small, batch)
    assert open_ == pytest.approx(closed, abs=1e-5)


@pytest.mark.parametrize("name", ["small", "small_max_logit"])
@pytest.mark.parametrize("flush_s", [None, 0.01])
def test_rows_that_judge_and_rows_that_write_share_a_batch(request, name, flush_s, small_folder):
    """vLLM alone would give the writing rows what the judging ones asked for."""
    replica = request.getfixturevalue(name)
    ops = [Op.JUDGE if i % 3 == 1 else (Op.STEP, Op.SCORE, Op.PEEK, Op.WHOLE)[i % 4] for i in range(60)]
    new = [(PROMPT, *pieces(*STEPS[: 1 + i % 3])) for i in range(60)]
    alone = {}
    for op in (Op.STEP, Op.SCORE, Op.PEEK, Op.WHOLE, Op.JUDGE):
        at = [i for i in range(60) if ops[i] == op]
        keys = [f"alone-{i}" for i in at]
        batch = replace(judging(keys, 0, [new[i] for i in at], seeds=at), op_B=[op] * len(at))
        (answer,) = messages(replica, batch)
        for r, row in enumerate(answer.row_R):
            alone[at[row]] = answer.ids_R[r], answer.scores_RS[r], answer.signal_R[r]
    batch = judging([f"mixed-{i}" for i in range(60)], 0, new, seeds=range(60), flush_s=flush_s)
    parts = messages(replica, replace(batch, op_B=ops))
    assert sorted(row for part in parts for row in part.row_R) == list(range(60))
    assert (len(parts) > 1) == (flush_s is not None)
    for part in parts:
        for r, row in enumerate(part.row_R):
            ids, scores, signal = alone[row]
            assert part.ids_R[r] == ids
            np.testing.assert_allclose(part.scores_RS[r], scores, atol=TOLERANCE)
            np.testing.assert_allclose(part.signal_R[r], signal, atol=TOLERANCE)


def test_a_judge_with_no_room_gives_no_signal(small):
    turn = len(encode(FIRST, f"<user>{QUESTION}<a>"))
    room = 256 - len(prompt_ids(FIRST, PROMPT)) - turn - 1
    prefixes = [(PROMPT, (97,) * room), (PROMPT, (97,) * (room + 1)), (PROMPT,), (PROMPT, (97,) * 300)]
    (answer,) = messages(small, judging(["fits", "one over", "no draft", "far over"], 0, prefixes))
    answers = dict(zip(answer.row_R, zip(answer.finish_R, np.isfinite(answer.signal_R), strict=True), strict=True))
    assert answers == {0: ("step", True), 1: ("step", False), 2: ("error", False), 3: ("step", False)}


def test_rows_that_write_on_and_rows_that_judge_can_be_cut_in_any_order(small_max_logit):
    """Without the hook the two sorts take turns: none is lost, and nothing waits for ever."""

    async def cut(replica, numbers, at, results):
        if at == 0:
            await replica.cut([(numbers[0], row) for row in range(8)])

    writing = rows(Op.WRITE_ON, [f"left-{i}" for i in range(8)], 0, (PROMPT,), max_tokens=150, flush_s=0.001)
    judged = judging([f"judged-{i}" for i in range(8)], 0, (PROMPT, *pieces(STEPS[0])))
    waiting = rows(Op.WRITE_ON, [f"next-{i}" for i in range(8)], 0, (PROMPT,), max_tokens=20, flush_s=0.001)
    _, (judgement,), after = asyncio.run(conversation(small_max_logit, [writing, judged, waiting], cut))
    assert len(judgement.row_R) == 8
    assert {row for part in after for row in part.row_R} == set(range(8))


class Words:
    """A tokenizer of whole words, without a chat template."""

    chat_template = None

    def encode(self, text, add_special_tokens=True):
        return [hash(word) for word in text.split()] if text != "7" else [1, 2]

    def decode(self, ids, **options):
        return "".join(f" {i}" for i in ids)


def test_a_tokenizer_whose_digits_are_several_tokens_cannot_judge():
    with pytest.raises(ValueError, match="the/model has no single token for the digit 7"):
        _ = Judge(ModelTokenizer(Words(), [], True), "the/model").digits


def test_the_judges_turn_is_cut_from_the_chat_template():
    from transformers import PreTrainedTokenizerFast

    def turn(template):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=FIRST, eos_token=EOS, chat_template=template)
        model_tokenizer = ModelTokenizer(tokenizer, [FIRST.token_to_id(EOS)], True)
        return FIRST.decode(model_tokenizer.encode_turn("well?"), skip_special_tokens=False)

    assert turn(TEMPLATE) == "<user>well?<a>"
    assert turn(TEMPLATE.replace("m['content']", "m['content'] + '<eos>'")) == "<eos><user>well?<eos><a>"
    assert turn(None) == "\n\nwell?\n"
    with pytest.raises(ValueError, match="does not show"):
        turn("{{ messages[0]['content'] }}")
