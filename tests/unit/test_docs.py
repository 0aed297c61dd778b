"""README, CONTRIBUTING and docs: every code block is run or parsed, and every path, name and link leads somewhere.

Python is executed (`py`: parsed), SQL is run on a small run folder, YAML is read by the typed configuration, and
command lines go through the real parser without being started.
"""

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest
import yaml
from handmade_runs import make
from paths import ROOT

from pipelines.cli import parser
from pipelines.serve.config import ServeConfig
from steer.config.load import SettingsError, load
from steer.config.pairs import PAIRS, load_pair
from steer.config.run import PairConfig, RunConfig
from steer.config.sweep import SweepConfig

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
CHANGELOG = ROOT / "CHANGELOG.md"
"""Names what is gone, so that only its links are followed."""
FLOORS = ("steer", "actors", "pipelines")
FOLDERS = (*FLOORS, "tests", "docs", "cluster", "notebooks")
LABELS = {"stepwise", "paper", "max_logit", "entropy", "max_prob"}
"""What follows `steer` where a row of a comparison is meant and not a command."""
RUN_FOLDERS = ("RUN", "runs/sweep")
"""Runs that the documents read from."""

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4}[^\n]*\n|\n(?= {4}))+")
CONTINUED = re.compile(r"\\\n\s*")
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w/.~-])(?:{'|'.join(FOLDERS)})/[\w.*/-]*[\w*/]")
SERVED = re.compile(rf"steer/(?:{'|'.join(map(re.escape, PAIRS))}|[A-Z]+)(?:/small|/large)?")
"""What an endpoint calls its models."""
NAME = re.compile(rf"(?:{'|'.join(FLOORS)})(?:\.\w+)+")
TARGET = re.compile(r"^([\w-]+):(?!=)", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CITED = re.compile(r"(?<![\w.*{}/-])(?:docs/)?([\w-]+)\.md\b(?:, ([A-Z][\w -]*\w|`[^`]+`))?")
MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/")


class Block(NamedTuple):
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """Fenced blocks with their language, and indented ones without."""
    fenced = [Block(m[2], "\n".join(line.removeprefix(m[1]) for line in m[3].split("\n"))) for m in fences(document)]
    return fenced + [Block("", m[0]) for m in INDENTED.finditer(FENCE.sub("", document))]


def fences(document: str) -> Iterator[re.Match]:
    return FENCE.finditer(document)


def prose(document: str) -> str:
    return INDENTED.sub("", FENCE.sub("", document))


# --- what is wrong with a document ----------------------------------------------------------------------------------


def problems(document: str, folder: Path) -> Iterator[str]:
    """Everything but dead links. `folder`: where its code runs."""
    for block in blocks(document):
        match block.language:
            case "python":
                yield from python_problems(block.text, folder)
            case "py":
                yield from py_problems(block.text)
            case "yaml":
                yield from yaml_problems(block.text, folder)
            case "sql":
                yield from sql_problems(block.text, folder)
            case "" | "sh" | "bash" | "console":
                yield from (p for words in command_lines(block.text) for p in command_problems(words))
    for inline in INLINE.findall(prose(document)):
        yield from inline_problems(" ".join(inline.split()))
    for path in PATH.findall(document):
        if SERVED.fullmatch(path):
            continue
        if not any(ROOT.glob(path)) if "*" in path else not (ROOT / path).exists():
            yield f"no {path}"
    if MACHINE.search(document):
        yield f"a path of somebody's machine: {MACHINE.search(document)[0]}"


def python_problems(text: str, folder: Path) -> Iterator[str]:
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(text, "block", "exec"), {"__name__": "documented"})
        except Exception as failure:
            yield f"python: {type(failure).__name__}: {failure}"


def py_problems(text: str) -> Iterator[str]:
    """Of Python that needs what a test has not, an endpoint: it is parsed alone."""
    try:
        ast.parse(text)
    except SyntaxError as failure:
        yield f"py: {failure}"


def sql_problems(text: str, folder: Path) -> Iterator[str]:
    with contextlib.chdir(folder):
        try:
            duckdb.connect().execute(text).fetchall()
        except duckdb.Error as failure:
            yield f"sql: {failure}"


def yaml_problems(text: str, folder: Path) -> Iterator[str]:
    path = folder / "documented.yaml"
    path.write_text(text)
    try:
        keys = set(dict(yaml.safe_load(text)))
        if keys & set(PairConfig.model_fields):
            load_pair(str(path))
        elif keys <= set(RunConfig.model_fields):
            load(RunConfig, path)
        elif keys <= set(SweepConfig.model_fields):
            load(SweepConfig, path)
        elif keys <= set(ServeConfig.model_fields):
            load(ServeConfig, path)
        else:
            yield f"yaml: {sorted(keys)} are keys of no pair, run, sweep or endpoint"
    except (SettingsError, ValueError, TypeError, yaml.YAMLError) as failure:
        yield f"yaml: {failure}"


# --- commands -------------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command: comments, continuations and variables before it are gone."""
    for line in CONTINUED.sub(" ", text).split("\n"):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            if line.split()[:1] in (["steer"], ["make"]):
                raise
            continue  # a drawing
        command: list[str] = []
        for word in [*words, ";"]:
            if word in ("&&", "||", "|", ";"):
                if command:
                    yield command
                command = []
            elif command or not re.fullmatch(r"\w+=.*", word):
                command.append(word)


def command_problems(words: list[str]) -> Iterator[str]:
    """Of one command; of other programs than ours only what they are given of this repository."""
    program = words[0].rpartition("/")[2]
    if program == "make":
        yield from (f"no target {t}" for t in made(words[1:]) if t not in targets())
    elif program == "steer":
        yield from steer_problems(words[1:])
    elif "pipelines.cli" in words:
        yield from steer_problems(words[words.index("pipelines.cli") + 1 :])


def made(words: list[str]) -> list[str]:
    return [word for word in words if "=" not in word and not word.startswith("-")]


def targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def steer_problems(words: list[str]) -> Iterator[str]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            args = parser().parse_args(words)
    except SystemExit as end:
        if end.code:
            yield f"steer {' '.join(words)}: {said.getvalue().splitlines()[-1]}"
        return
    config, sets = getattr(args, "config", None), getattr(args, "sets", [])
    if config is not None and not config.startswith("pipelines/"):
        return  # a file of the reader's own
    try:
        if words[0] in ("show-prompt", "data"):
            sets = [f"benchmark.{item}" for item in [f"name={args.benchmark}", *sets]]
        command = "serve" if getattr(args, "serve", False) else words[0]
        if command in CONFIGURED:
            load(CONFIGURED[command](), None if config is None else ROOT / config, sets)
    except SettingsError as failure:
        yield f"steer {' '.join(words)}: {failure}"
    pair = getattr(args, "pair", None)
    if pair is not None and pair not in PAIRS and not pair.endswith(".yaml"):
        yield f"steer {' '.join(words)}: no pair {pair}"


def paper_config() -> type:
    from pipelines.sweep.paper import PaperConfig

    return PaperConfig


def training_config() -> type:
    from pipelines.train.router import TrainRouterConfig

    return TrainRouterConfig


CONFIGURED = {
    **dict.fromkeys(("run", "show-config", "show-prompt", "data"), lambda: RunConfig),
    **dict.fromkeys(("sweep", "sweep-pairs"), lambda: SweepConfig),
    "serve": lambda: ServeConfig,
    "experiment": paper_config,
    "train-router": training_config,
}
"""What the configuration of a command is read into."""


def inline_problems(code: str) -> Iterator[str]:
    """Of code within a sentence: commands may leave out what they need, and names may be placeholders."""
    made_here = re.fullmatch(r"make ([\w-]+(?: \| [\w-]+)*)", code)
    if made_here:
        yield from (f"no target {t}" for t in made_here[1].split(" | ") if t not in targets() and not t.isupper())
    elif code.startswith("steer ") and code.split()[1] not in LABELS:
        yield from shortened_command_problems(code.split()[1:])
    elif (named := NAME.match(code)) and not re.fullmatch(r"\w+\.py", code):
        if not known(named[0]):
            yield f"no {named[0]}"


def shortened_command_problems(words: list[str]) -> Iterator[str]:
    (subparsers,) = (a for a in parser()._actions if a.choices and not a.option_strings)
    if words[0].startswith("-") or words[0].isupper():
        return
    if words[0] not in subparsers.choices:
        yield f"no command steer {words[0]}"
        return
    command = subparsers.choices[words[0]]
    options = {flag for action in command._actions for flag in action.option_strings}
    yield from (f"steer {words[0]} has no {word}" for word in words if word.startswith("--") and word not in options)
    places = [action for action in command._actions if not action.option_strings]
    first = words[1] if len(words) > 1 else "NAME"
    if places and places[0].choices and first not in places[0].choices and not first.isupper():
        yield f"steer {words[0]} knows no {first}"


# --- names and links ------------------------------------------------------------------------------------------------


def known(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module or a class of it defines or imports."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:cut])
        if cut == len(parts) and path.is_dir():
            return True
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if source.is_file():
            return holds(ast.parse(source.read_text()).body, parts[cut:])
    return False


def holds(body: list[ast.stmt], names: list[str]) -> bool:
    if not names:
        return True
    node = next((node for node in body if names[0] in defined(node)), None)
    if isinstance(node, ast.ImportFrom):
        (imported,) = (alias.name for alias in node.names if names[0] in (alias.asname, alias.name))
        return known(".".join([str(node.module), imported, *names[1:]]))
    return node is not None and holds(getattr(node, "body", []), names[1:])


def defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def dead_links(path: Path, document: str) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", document)):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file
        if file and not found.exists():
            yield target
        elif anchor and anchor not in anchors(found.read_text() if file else document):
            yield target


def anchors(document: str) -> set[str]:
    headings = HEADING.findall(FENCE.sub("", document))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where documented code runs: beside the runs that it reads."""
    root = tmp_path_factory.mktemp("documented")
    for name in RUN_FOLDERS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make(root / name, n=6)
    return root


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_it_shows_holds(path, folder):
    assert list(problems(path.read_text(), folder)) == []


@pytest.mark.parametrize("path", [*DOCUMENTS, CHANGELOG], ids=lambda p: str(p.relative_to(ROOT)))
def test_its_links_lead_somewhere(path):
    assert list(dead_links(path, path.read_text())) == []


def test_the_readme_leads_to_every_page():
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= {link.partition("#")[0] for link in linked}


def test_what_the_code_cites_is_there():
    """`docs/method.md, Routing` names a page and a heading of it, `docs/method.md, `bank`` a word of it."""
    dead = []
    sources = [
        p for floor in (*FLOORS, "cluster") for kind in ("py", "yaml") for p in (ROOT / floor).rglob(f"*.{kind}")
    ]
    for source in sources:
        for page, section in CITED.findall(source.read_text()):
            found = next((p for p in (ROOT / "docs" / f"{page}.md", ROOT / f"{page}.md") if p.exists()), None)
            text = "" if found is None else found.read_text()
            headings = [heading.lower() for heading in HEADING.findall(text)]
            word = section.strip("`")
            if found is None or (section.startswith("`") and word not in text):
                dead.append((source.relative_to(ROOT), page, section))
            elif section and not section.startswith("`"):
                if not any(h.startswith(word.lower()) or word.lower().startswith(h) for h in headings):
                    dead.append((source.relative_to(ROOT), page, section))
    assert dead == []


def test_every_module_has_its_line_in_the_architecture():
    listed, folder = set(), None
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        heading = re.fullmatch(r"#+ `([\w/]+)/`.*", line)
        folder = heading[1] if heading else folder
        row = re.match(r"\| `(\w+\.py)` \|", line)
        if row:
            listed.add(f"{folder}/{row[1]}")
    modules = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        if path.name != "__init__.py" and "weights" not in path.parts
    }
    assert (sorted(modules - listed), sorted(listed - modules)) == ([], [])


RIGHT = """
Try `steer run`, `steer bench loop` or `steer bench NAME --json FILE`, then `make lint | test`; `steer paper` is a row.
`steer.policies.Scored`, `steer.policies.Act.PEEK` and `steer.traces.Role.PRM` exist; so does `tests/unit/test_docs.py`.

    # a comment
    OUT=runs/x steer run pipelines/configs/run-embedded.yaml --set policy.gamma=0.7 \\
        --set pools.small.gpus=1 --out $OUT          # another
    cd docs && make test TORCH_INDEX=<index>

```python
from steer.policies import Scored
```

```yaml
policy: {name: steer, gamma: 0.3}
```

```yaml
small: {path: mine/small, parameters: 1.5e+9}
large: {path: mine/large}
```

```sql
select cell, avg(correct::int) from 'RUN/traces/*.parquet' group by cell
```

```text
steer anything: this is a drawing
```
"""


def test_a_right_document_has_no_problem(folder):
    assert list(problems(RIGHT, folder)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "```python\nfrom steer.config import Scored\n```",
        "```python\nfrom steer.policies import Nothing\n```",
        "```yaml\npolicy: {name: steer, gama: 0.3}\n```",
        "```yaml\nsmall: {path: only}\n```",
        "```py\nclient.chat(\n```",
        "```yaml\nfootprint: 3\n```",
        "```yaml\nendpoint: {max_life: 3}\n```",
        "```sql\nselect nothing from 'RUN/traces/*.parquet'\n```",
        "    steer run --output runs/x\n",
        "    steer serve --set endpoint.max_life=3\n",
        "    steer run pipelines/configs/none.yaml --out runs/x\n",
        "    steer run \\\n        --set policy.gama=1 --out runs/x\n",
        "    cd docs && .venv/bin/steer bench nothing\n",
        "    python -m pipelines.cli fly\n",
        "    steer data math500 --pair qwen9\n",
        "    make everything\n",
        "1. Do:\n\n   ```sh\n   make everything\n   ```\n",
        "Say `steer fly` first.",
        "Say `steer bench nothing` first.",
        "Say `steer run --everything` first.",
        "Say `make everything` first.",
        "See `steer/nothing.py` or more.",
        "See `steer.policies.Nothing` or more.",
        "See `steer.traces.Role.NOTHING` or more.",
        "See `steer.policies.Act.PROBE` or more.",
        "It lies in /home/somebody/runs.",
    ],
)
def test_a_wrong_document_has_one(wrong, folder):
    assert list(problems(wrong, folder))


@pytest.mark.parametrize("link", ["nothing.md", "../README.md#no-such-heading", "#no-such-heading"])
def test_a_dead_link_is_found(link):
    page = ROOT / "docs" / "loop.md"
    assert list(dead_links(page, f"# Page\n\n[there]({link}) and [here](#page) and [out](https://example.org)")) == [
        link
    ]
