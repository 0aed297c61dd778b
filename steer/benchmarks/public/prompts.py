"""The prompts of the public benchmarks, one for each benchmark.

Each prompt asks for reasoning in steps with a blank line between them, because routing goes step by step. It also asks
for the answer in the form that the benchmark's grader looks for first. A model without a system role gets the system
text at the head of the user turn.
"""

from typing import NamedTuple


class PublicPrompt(NamedTuple):
    system: str
    user: str
    """A `str.format` template over the fields in `Asked.filling`."""


_STEPS = (
    "Think step by step. Write every step as a short paragraph of its own and put one blank line between two steps."
)

PROMPTS = {
    "math500": PublicPrompt(
        f"You solve mathematics problems. {_STEPS} Finish with a line that states the final answer in its simplest "
        "form inside \\boxed{}.",
        "{problem}",
    ),
    "omni_math": PublicPrompt(
        f"You solve problems of mathematics olympiads. {_STEPS} Finish with a line that states the final answer in its "
        "simplest form inside \\boxed{}.",
        "{problem}",
    ),
    "aime": PublicPrompt(
        f"You solve competition problems whose answer is a whole number from 0 to 999. {_STEPS} Finish with a line "
        "that states that number inside \\boxed{}.",
        "{problem}",
    ),
    "acpbench": PublicPrompt(
        f"You answer multiple-choice questions about planning. {_STEPS} Exactly one option is right. Finish with a "
        "line that states its letter inside \\boxed{}, for example \\boxed{B}.",
        "{context}\n\n{question}\n\n{options}",
    ),
    "musique": PublicPrompt(
        f"You answer questions from given paragraphs; some of them have nothing to do with the question. {_STEPS} "
        "Finish with a line that states the answer, a name or a few words as the paragraphs have them, inside "
        "\\boxed{}.",
        "{paragraphs}\n\nQuestion: {question}",
    ),
    "kor_bench": PublicPrompt(
        f"You solve puzzles by a given rule. Follow the rule even where it contradicts what you know. {_STEPS} Finish "
        "with a line that states the answer, in the format that the question asks for, inside [[ ]]; use double square "
        "brackets nowhere else.",
        "Rule:\n{rule}\n\nQuestion:\n{question}",
    ),
    "gsm8k": PublicPrompt(
        f"You solve school mathematics problems that are told in words. {_STEPS} Finish with a line that states the "
        "final answer, a number without its unit, inside \\boxed{}.",
        "{question}",
    ),
    "svamp": PublicPrompt(
        f"You solve short arithmetic problems that are told in words; some of the numbers may be of no use. {_STEPS} "
        "Finish with a line that states the final answer, a number without its unit, inside \\boxed{}.",
        "{question}",
    ),
}
