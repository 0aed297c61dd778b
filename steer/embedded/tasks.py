"""The benchmarks of the embedded pairs: questions, true steps and gold answers, from seeds alone.

`chain_math` applies named operations to a number modulo `10**level`. `hops` follows named relations through a fixed
fictional world, closed book. A question has one difficulty level, 1 to 4. Levels 1 and 2 need few facts; level 4 needs
more facts than a model with 40k parameters can store. Length does not make a question hard: chains get shorter as
levels rise, so that levels 3 and 4 hold about 40 % of the tokens of a balanced set.

In these two, all steps of a question are equally hard. In `mixed_chain` they are not: a question of level w applies
w - 1 hard operations to a number of four digits, at random places among easy ones. Its length does not tell its level.

Invariants:
- A question's text alone decides its split (a stable hash), so train, validation and test are disjoint at every level.
- `questions(b, s, n)` is the first n of `questions(b, s)`. Question i has level i % 4 + 1, so any prefix is balanced.
- The operations or relations of a question are distinct, so a model finds the next one by looking up the last one.
- The world and the operations never depend on a training seed.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, product

BENCHMARKS = ("chain_math", "hops", "mixed_chain")
PAIR_BENCHMARKS = ("chain_math", "hops")
"""What the pair `embedded` is trained on. The pair `embedded-mixed` is trained on `mixed_chain` alone."""
LEVELS = (1, 2, 3, 4)
SPLIT_SIZES = {"validation": 400, "test": 800}
TRAIN_QUESTIONS = 2000
"""Size of the training split for routers. The training of the models themselves draws questions without end."""
STEP_DELIMITER = "\n\n"

OPERATIONS: tuple[str, ...] = (
    "bek", "dol", "mur", "tav", "sil", "gor", "nim", "pax", "rud", "lef", "zan", "kob", "wex", "hib", "yot", "fum",
)  # fmt: skip
RELATIONS: tuple[str, ...] = (
    "friend", "boss", "aunt", "coach", "tutor", "rival", "mentor", "doctor", "baker", "guard", "neighbor", "cousin",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Tom", "Ines", "Carl", "Nora", "Hugo", "Mira", "Otto", "Lena", "Ivan", "Ruth", "Saul", "Tess", "Yann",
    "Zora", "Bram",
)  # fmt: skip
LAST_NAMES = (
    "Moss", "Vale", "Reed", "Holt", "Finch", "Crane", "Ford", "Hale", "Lund", "Marsh", "North", "Pike", "Quill",
    "Stone", "Thorn", "Wells",
)  # fmt: skip

# Level -> shortest and longest chain.
CHAIN_LENGTHS = {
    "chain_math": {1: (8, 9), 2: (7, 8), 3: (3, 4), 4: (3, 4)},
    "hops": {1: (7, 9), 2: (7, 8), 3: (4, 6), 4: (4, 5)},
    "mixed_chain": dict.fromkeys(LEVELS, (6, 9)),
}
# Level -> size of its closed set of entities. A level has 12 relations times this many facts.
ENTITY_COUNTS = {1: 6, 2: 10, 3: 32, 4: 120}
# Level -> number of different results in an operation's table.
IMAGE_SIZES = {3: 5, 4: 25}
# Size of the model -> benchmark -> weights of levels 1 to 4 in its training. A small model needs many long easy chains
# to get nine in ten of them right. A large model needs many hard facts.
TRAINING_WEIGHTS = {
    "small": {"chain_math": (2, 4, 1, 1), "hops": (2, 4, 1, 1), "mixed_chain": (8, 2, 1, 1)},
    "large": {"chain_math": (3, 4, 3, 4), "hops": (3, 4, 3, 4), "mixed_chain": (1, 2, 3, 4)},
}
# Level -> its operations. At levels 3 and 4 each operation has a table of 100 facts, which makes 400 and 600 facts and
# these levels hard. The operations are few enough for the large model to learn within its training tokens.
LEVEL_OPERATIONS = {1: slice(0, 16), 2: slice(0, 16), 3: slice(0, 4), 4: slice(4, 10)}

# The operations of `mixed_chain`. A step's name says whether it is hard.
EASY_OPERATIONS, HARD_OPERATIONS = OPERATIONS[:10], OPERATIONS[10:]
MIXED_DIGITS = 4
MIXED_IMAGE_SIZE = 8
"""Number of different results in the table of a hard operation."""

_WORLD_SEED = "steer embedded world 1"


@dataclass(frozen=True, slots=True)
class Task:
    """One question with its true steps. `"".join(steps)` is the whole right response, without the end token."""

    id: str
    benchmark: str
    level: int
    question: str
    gold: str
    steps: tuple[str, ...]


def _world() -> tuple[dict[int, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Level -> entities, and relation -> entity -> entity.

    A relation leads to only a quarter of a level's entities, so that the relation alone already says something about
    the result. With permutations instead, a small model did not learn to combine relation and entity within 5 M tokens.
    """
    rng = random.Random(_WORLD_SEED)
    names = [f"{first} {last}" for first, last in product(FIRST_NAMES, LAST_NAMES)]
    rng.shuffle(names)
    entities: dict[int, tuple[str, ...]] = {}
    facts: dict[str, dict[str, str]] = {relation: {} for relation in RELATIONS}
    start = 0
    for level, size in ENTITY_COUNTS.items():
        entities[level] = tuple(names[start : start + size])
        start += size
        for relation in RELATIONS:
            image = rng.sample(entities[level], max(3, size // 4))
            facts[relation].update((entity, rng.choice(image)) for entity in entities[level])
    return entities, facts


ENTITIES, FACTS = _world()


def _tables() -> tuple[dict[str, int], dict[str, dict[int, tuple[int, ...]]]]:
    """Operation -> its addend for the last two digits, and operation -> level -> its table.

    A table maps the two leading digits to the digits above the last two. Addends have small digits and tables have few
    results, for the same reason as the world's relations. Two alternatives to tables were tried, carries through all
    digits and products of digits; the large model did not learn them within 5 M tokens.
    """
    rng = random.Random(_WORLD_SEED)
    addends: dict[str, int] = {}
    tables: dict[str, dict[int, tuple[int, ...]]] = {}
    for name in OPERATIONS:
        addends[name] = 10 * rng.randint(0, 2) + rng.randint(1, 3)
        tables[name] = {}
        for level in (3, 4):
            image = rng.sample(range(10 ** (level - 2)), IMAGE_SIZES[level])
            tables[name][level] = tuple(rng.choice(image) for _ in range(100))
    return addends, tables


ADDENDS, TABLES = _tables()


def _mixed_tables() -> dict[str, tuple[int, ...]]:
    """Hard operation -> its table of 100 facts, which maps the first two digits of four to the first two."""
    rng = random.Random(f"{_WORLD_SEED} mixed_chain")
    tables = {}
    for name in HARD_OPERATIONS:
        image = rng.sample(range(100), MIXED_IMAGE_SIZE)
        tables[name] = tuple(rng.choice(image) for _ in range(100))
    return tables


MIXED_TABLES = _mixed_tables()


def apply_operation(name: str, value: int, level: int) -> int:
    """Add a constant to the last two digits. At levels 3 and 4, look up the other digits by the two leading ones."""
    low: int = (value + ADDENDS[name]) % min(100, 10**level)
    return low if level < 3 else low + 100 * TABLES[name][level][value // 10 ** (level - 2)]


def apply_mixed_operation(name: str, value: int) -> int:
    """Add a constant to the last two digits of four.

    A hard operation looks up the first two digits in its table, an easy one keeps them.
    """
    high, low = divmod(value, 100)
    return 100 * (MIXED_TABLES[name][high] if name in MIXED_TABLES else high) + (low + ADDENDS[name]) % 100


def result(benchmark: str, name: str, value: str, level: int) -> str:
    """What the operation or relation `name` makes of a value, both as steps write them."""
    if benchmark == "hops":
        return FACTS[name][value]
    if benchmark == "mixed_chain":
        return f"{apply_mixed_operation(name, int(value)):0{MIXED_DIGITS}d}"
    return f"{apply_operation(name, int(value), level):0{level}d}"


def split_of(question: str) -> str:
    """The permanent split of a question's text: 8 % test, 8 % validation, the rest train."""
    bucket = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=4).digest(), "big") % 100
    return "test" if bucket < 8 else "validation" if bucket < 16 else "train"


def solve(benchmark: str, names: Sequence[str], value: str, level: int) -> tuple[str, tuple[str, ...]]:
    """The gold answer and the true steps of applying the operations to, or following the relations from, `value`."""
    steps = []
    for name in names:
        value = result(benchmark, name, value, level)
        steps.append(f"{name} = {value}{STEP_DELIMITER}")
    answer = value if benchmark == "hops" else f"\\boxed{{{value}}}"
    return value, (*steps, f"The answer is {answer}.")


def _chain_math(rng: random.Random, level: int) -> tuple[list[str], str]:
    names = rng.sample(OPERATIONS[LEVEL_OPERATIONS[level]], rng.randint(*CHAIN_LENGTHS["chain_math"][level]))
    return names, f"{rng.randrange(10**level):0{level}d}"


def _hops(rng: random.Random, level: int) -> tuple[list[str], str]:
    relations = rng.sample(RELATIONS, rng.randint(*CHAIN_LENGTHS["hops"][level]))
    return relations, rng.choice(ENTITIES[level])


def _mixed_chain(rng: random.Random, level: int) -> tuple[list[str], str]:
    hard = rng.sample(HARD_OPERATIONS, level - 1)
    names = hard + rng.sample(EASY_OPERATIONS, rng.randint(*CHAIN_LENGTHS["mixed_chain"][level]) - len(hard))
    rng.shuffle(names)
    return names, f"{rng.randrange(10**MIXED_DIGITS):0{MIXED_DIGITS}d}"


_MAKERS = {"chain_math": _chain_math, "hops": _hops, "mixed_chain": _mixed_chain}


def _made(benchmark: str, rng: random.Random, level: int) -> tuple[str, str, tuple[str, ...]]:
    """A random question of a level with its gold answer and its true steps."""
    names, start = _MAKERS[benchmark](rng, level)
    question = f"{'Relations' if benchmark == 'hops' else 'Operations'}: {', '.join(names)}. Start: {start}"
    return question, *solve(benchmark, names, start, level)


def _level_stream(benchmark: str, split: str, level: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Distinct questions of one split and level, in a fixed order."""
    rng = random.Random(f"{benchmark} {split} {level}")
    seen: set[str] = set()
    while True:
        made = _made(benchmark, rng, level)
        if made[0] not in seen and split_of(made[0]) == split:
            seen.add(made[0])
            yield made


def _split_stream(benchmark: str, split: str) -> Iterator[Task]:
    streams = [_level_stream(benchmark, split, level) for level in LEVELS]
    for i in count():
        level = LEVELS[i % len(LEVELS)]
        question, gold, steps = next(streams[level - 1])
        yield Task(f"{benchmark}-{split}-{i:04d}", benchmark, level, question, gold, steps)


def questions(benchmark: str, split: str, n: int | None = None) -> list[Task]:
    """The first n questions of a split. If n is None: all 400 of validation, 800 of test or 2000 of train."""
    if benchmark not in BENCHMARKS:
        raise ValueError(f"no embedded benchmark {benchmark!r}; there are {', '.join(BENCHMARKS)}")
    sizes = {**SPLIT_SIZES, "train": TRAIN_QUESTIONS}
    if split not in sizes:
        raise ValueError(f"no split {split!r}; there are {', '.join(sizes)}")
    size = sizes[split]
    if n is not None and not 0 <= n <= size:
        raise ValueError(f"{benchmark} {split} has {size} questions, {n} were asked for")
    return list(islice(_split_stream(benchmark, split), size if n is None else n))


def training_stream(size: str, seed: int, benchmarks: Sequence[str] = PAIR_BENCHMARKS) -> Iterator[Task]:
    """Endless training questions for a model size, from all benchmarks equally often, in random order. Some recur."""
    rng = random.Random(f"train {seed}")
    for i in count():
        benchmark = rng.choice(benchmarks)
        level = rng.choices(LEVELS, TRAINING_WEIGHTS[size][benchmark])[0]
        while True:
            question, gold, steps = _made(benchmark, rng, level)
            if split_of(question) == "train":
                break
        yield Task(f"{benchmark}-train-{seed}-{i}", benchmark, level, question, gold, steps)
